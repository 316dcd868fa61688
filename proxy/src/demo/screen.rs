//! What the demo prints: lines with the time since its start, in columns.

use std::fmt::Write as _;
use std::io::{IsTerminal, Stdout, Write as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::tally::Window;

/// The demo's output. Cheap to clone.
#[derive(Clone)]
pub(super) struct Screen(Arc<Inner>);

struct Inner {
    start: Instant,
    colours: bool,
    out: Stdout,
}

/// How a text stands out.
#[derive(Clone, Copy)]
enum Ink {
    Bold,
    Dim,
    Accent,
}

impl Screen {
    /// Standard output, in colours if that is a terminal that may have them.
    pub(super) fn of_terminal() -> Self {
        let out = std::io::stdout();
        let colours = out.is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self(Arc::new(Inner {
            start: Instant::now(),
            colours,
            out,
        }))
    }

    /// One or more lines as they are.
    pub(super) fn line(&self, text: &str) {
        // A reader that left early is no reason to fail.
        let _ = writeln!(self.0.out.lock(), "{text}");
    }

    /// A heading.
    pub(super) fn heading(&self, text: &str) {
        self.line(&format!("\n{}\n", self.ink(Ink::Bold, text)));
    }

    /// The next act of the script.
    pub(super) fn act(&self, text: &str) {
        self.line(&format!(
            "{}  {}",
            self.now(),
            self.ink(Ink::Bold, &format!("-- {text}"))
        ));
    }

    /// Something that happened; `kind` says who tells it.
    pub(super) fn event(&self, kind: &str, text: &str) {
        let kind = self.ink(Ink::Accent, &format!("{kind:<6}"));
        self.line(&format!("{}     {kind}  {text}", self.now()));
    }

    /// The heading of the lines that [`Screen::window`] prints.
    pub(super) fn columns(&self, pods: &[&str]) {
        let mut text = format!(
            "{:>7}  {:>10}  {:>7}  {:>6}  ",
            "time", "requests/s", "kept", "failed"
        );
        for pod in pods {
            let _ = write!(text, "{pod:>8}");
        }
        self.line(&self.ink(Ink::Dim, &text));
    }

    /// What happened in the last `time`.
    pub(super) fn window(&self, window: &Window, time: Duration, pods: &[&str]) {
        let text = window_line(window, time, pods);
        self.line(&format!("{}  {text}", self.now()));
    }

    fn now(&self) -> String {
        let seconds = self.0.start.elapsed().as_secs_f64();
        self.ink(Ink::Dim, &format!("{seconds:>6.1}s"))
    }

    fn ink(&self, ink: Ink, text: &str) -> String {
        let code = match ink {
            Ink::Bold => 1,
            Ink::Dim => 2,
            Ink::Accent => 36,
        };
        if self.0.colours {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

fn window_line(window: &Window, time: Duration, pods: &[&str]) -> String {
    let rate = |count: u64| count as f64 / time.as_secs_f64();
    let (new, kept) = (rate(window.sum()), rate(window.kept_alive));
    let mut text = format!("{new:>10.0}  {kept:>7.0}  {:>6}  ", window.failed);
    for pod in pods {
        let share = window
            .percent(pod)
            .map_or("-".to_owned(), |percent| format!("{percent:.0}%"));
        let _ = write!(text, "{share:>8}");
    }
    text
}

/// A time as people read it: `0.35 ms`, `12 ms`, `1.2 s`.
pub(super) fn shown(time: Duration) -> String {
    let millis = time.as_secs_f64() * 1e3;
    match millis {
        ..10.0 => format!("{millis:.2} ms"),
        10.0..1_000.0 => format!("{millis:.0} ms"),
        _ => format!("{:.1} s", millis / 1e3),
    }
}

/// Rows under headings, each column as wide as its widest cell; the first aligned to the left, the others as said.
pub(super) fn table(headings: &[(&str, Align)], rows: &[Vec<String>]) -> String {
    let width = |i: usize| {
        let cells = rows.iter().map(|row| row[i].chars().count());
        cells.chain([headings[i].0.len()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..headings.len()).map(width).collect();
    let mut text = String::new();
    let head: Vec<String> = headings
        .iter()
        .map(|(name, _)| (*name).to_owned())
        .collect();
    for row in std::iter::once(&head).chain(rows) {
        let mut line = String::new();
        for ((cell, width), (_, align)) in row.iter().zip(&widths).zip(headings) {
            let _ = match align {
                Align::Left => write!(line, "  {cell:<width$}"),
                Align::Right => write!(line, "  {cell:>width$}"),
            };
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

/// Which side of its column a cell keeps to.
#[derive(Clone, Copy)]
pub(super) enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_a_line_in_the_columns_of_its_heading() {
        let mut window = Window {
            kept_alive: 30,
            ..Window::default()
        };
        window.answers.insert("pod-a".to_owned(), 150);
        window.answers.insert("pod-b".to_owned(), 50);
        let line = window_line(
            &window,
            Duration::from_secs(1),
            &["pod-a", "pod-b", "pod-c"],
        );
        assert_eq!(
            line,
            "       200       30       0       75%     25%       -"
        );
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [
            vec!["a".to_owned(), "1000".to_owned()],
            vec!["longer".to_owned(), "1".to_owned()],
        ];
        let text = table(&[("pod", Align::Left), ("n", Align::Right)], &rows);
        assert_eq!(text, "  pod        n\n  a       1000\n  longer     1\n");
    }

    #[test]
    fn times_are_shown_with_two_or_three_digits() {
        for (micros, expected) in [(350, "0.35 ms"), (12_300, "12 ms"), (1_240_000, "1.2 s")] {
            assert_eq!(shown(Duration::from_micros(micros)), expected);
        }
    }
}
