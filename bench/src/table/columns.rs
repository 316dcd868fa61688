//! Columns two spaces apart under a header.

use comfy_table::{Cell, CellAlignment, Table, presets};

use crate::words;

/// A header that starts with `>` aligns its column to the right. A column whose cells are all empty is left out.
pub(super) struct Columns {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Columns {
    pub(super) fn new(header: &[&str]) -> Self {
        Self {
            header: header.iter().map(|name| clean(name)).collect(),
            rows: Vec::new(),
        }
    }

    /// Cells may have lines.
    pub(super) fn row(&mut self, cells: &[String]) {
        self.rows
            .push(cells.iter().map(|cell| clean(cell)).collect());
    }

    /// Of the longest line.
    pub(super) fn width(&self) -> usize {
        let text = self.text();
        text.lines()
            .map(|line| line.chars().count())
            .max()
            .unwrap_or(0)
    }

    /// The lines, each ended.
    pub(super) fn text(&self) -> String {
        let filled = |column: &usize| {
            let mut cells = self.rows.iter().filter_map(|row| row.get(*column));
            cells.any(|cell| !cell.is_empty())
        };
        let shown: Vec<usize> = (0..self.header.len()).filter(filled).collect();
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_header(
            shown
                .iter()
                .map(|n| self.header[*n].trim_start_matches('>')),
        );
        for row in &self.rows {
            table.add_row(
                shown
                    .iter()
                    .map(|n| Cell::new(row.get(*n).map_or("", |cell| cell))),
            );
        }
        for (column, index) in table.column_iter_mut().zip(&shown) {
            column.set_padding((0, 2));
            if self.header[*index].starts_with('>') {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        let mut text = String::new();
        for line in table.lines() {
            text.extend([line.trim_end(), "\n"]);
        }
        text
    }
}

/// Without what could steer a terminal, lines apart.
fn clean(cell: &str) -> String {
    let lines: Vec<String> = cell.split('\n').map(words::clean).collect();
    lines.join("\n")
}
