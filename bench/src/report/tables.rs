//! The tables of a page. Each scrolls in a box of its own where it is wider than the page.

use std::fmt::Write;

use super::escape::Escaped;
use super::palette::Palette;
use crate::headline::Headline;
use crate::stats::{Figure, Row, Test};
use crate::words;

/// Figures by subject.
pub(super) fn headline(found: &Headline, palette: &Palette) -> String {
    let mut table = String::from("<tr><td></td>");
    for subject in &found.subjects {
        let class = palette.class(subject);
        let _ = write!(
            table,
            "<th scope=\"col\"><i class=\"swatch {class}\"></i>{}</th>",
            breakable(subject)
        );
    }
    table.push_str("</tr>\n");
    for (label, texts) in &found.rows {
        let _ = write!(table, "<tr><th scope=\"row\">{}</th>", Escaped(label));
        for text in texts {
            let _ = write!(table, "<td>{}</td>", Escaped(text));
        }
        table.push_str("</tr>\n");
    }
    boxed("Figures by subject", "headline", &table)
}

/// A test's rows. Columns that no row fills are left out.
pub(super) fn test(test: &Test<'_>, palette: &Palette) -> String {
    let name = |row: Option<&Row<'_>>| row.map_or(String::new(), |row| row.subject().to_owned());
    let reference = |figure| format!("ratio to {}", name(test.reference(figure)));
    let mut columns: Vec<(String, Vec<String>)> = Vec::new();
    let mut column = |title: String, of: &dyn Fn(&Row<'_>) -> String| {
        let texts: Vec<String> = test.rows.iter().map(of).collect();
        if texts.iter().any(|text| !text.is_empty()) {
            columns.push((title, texts));
        }
    };
    let figure = |figure: Figure| {
        move |row: &Row<'_>| {
            let shown = |value| words::figure(figure, value, &test.unit);
            row.middle(figure).map_or(String::new(), shown)
        }
    };
    let ratio = |figure: Figure| {
        let itself = name(test.reference(figure));
        move |row: &Row<'_>| match test.ratio(row, figure) {
            Some(_) if row.subject() == itself => "1".to_owned(),
            Some(ratio) if ratio.rounds < 2 => words::ratio(ratio.middle),
            Some(ratio) => format!("{} ({})", words::ratio(ratio.middle), words::range(&ratio)),
            None => String::new(),
        }
    };
    column("rate".to_owned(), &figure(Figure::Rate));
    column("proxy CPU".to_owned(), &figure(Figure::ProxyCpu));
    column(reference(Figure::ProxyCpu), &ratio(Figure::ProxyCpu));
    column("machine CPU".to_owned(), &figure(Figure::MachineCpu));
    column(reference(Figure::MachineCpu), &ratio(Figure::MachineCpu));
    for latency in [Figure::P50, Figure::P99, Figure::P999] {
        column(latency.name().to_owned(), &figure(latency));
    }
    column("memory".to_owned(), &figure(Figure::Memory));
    column("per connection".to_owned(), &figure(Figure::PerConnection));
    column("failed".to_owned(), &|row| match row.failed {
        0 => String::new(),
        failed => words::count(failed as f64),
    });
    column("void".to_owned(), &|row| {
        row.void
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default()
    });
    let mut table = String::from("<tr><th scope=\"col\">subject</th>");
    for (title, _) in &columns {
        let _ = write!(table, "<th scope=\"col\">{}</th>", Escaped(title));
    }
    table.push_str("</tr>\n");
    for (n, row) in test.rows.iter().enumerate() {
        let class = palette.class(row.subject());
        let void = if row.void.is_some() {
            " class=\"void\""
        } else {
            ""
        };
        let _ = write!(
            table,
            "<tr{void}><th scope=\"row\"><i class=\"swatch {class}\"></i>{}</th>",
            Escaped(row.subject())
        );
        for (title, texts) in &columns {
            let class = if title == "void" {
                " class=\"reason\""
            } else {
                ""
            };
            let _ = write!(table, "<td{class}>{}</td>", Escaped(&texts[n]));
        }
        table.push_str("</tr>\n");
    }
    boxed(&format!("Figures of {}", test.name), "figures", &table)
}

fn boxed(label: &str, class: &str, rows: &str) -> String {
    format!(
        "<div class=\"scroll\" role=\"region\" tabindex=\"0\" aria-label=\"{}\"><table class=\"{class}\">{rows}</table></div>\n",
        Escaped(label)
    )
}

/// A name that may be broken behind its dashes.
fn breakable(name: &str) -> String {
    Escaped(name).to_string().replace('-', "-<wbr>")
}
