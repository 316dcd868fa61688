//! Where answers go.

use std::io::{self, Write};

use super::Format;
use super::failure::Failure;

/// The standard output, or a buffer in tests.
pub(super) struct Screen {
    out: Box<dyn Write>,
    format: Format,
    colour: bool,
}

impl Screen {
    /// Writes to `out`; with `colour`, states are coloured.
    pub(super) fn new(out: Box<dyn Write>, format: Format, colour: bool) -> Self {
        Self {
            out,
            format,
            colour,
        }
    }

    /// What was asked for.
    pub(super) const fn format(&self) -> Format {
        self.format
    }

    /// Writes an answer as JSON, or as the text that is for people.
    pub(super) fn answer(
        &mut self,
        value: &impl serde::Serialize,
        text: impl FnOnce() -> String,
    ) -> Result<(), Failure> {
        match self.format {
            Format::Json => self.json(value),
            Format::Table | Format::Yaml => self.text(&text()),
        }
    }

    /// Writes one of many answers: JSON takes one line each.
    pub(super) fn event(
        &mut self,
        value: &impl serde::Serialize,
        text: impl FnOnce() -> String,
    ) -> Result<(), Failure> {
        match self.format {
            Format::Json => self.json_line(value),
            Format::Table | Format::Yaml => self.text(&text()),
        }
    }

    /// Writes text that ends its own lines, in colour if that is on.
    pub(super) fn text(&mut self, text: &str) -> Result<(), Failure> {
        if self.colour {
            self.write(super::human::paint(text).as_bytes())
        } else {
            self.write(text.as_bytes())
        }
    }

    /// Writes a JSON document over many lines.
    pub(super) fn json(&mut self, value: &impl serde::Serialize) -> Result<(), Failure> {
        let mut text = serde_json::to_vec_pretty(value).map_err(io::Error::from)?;
        text.push(b'\n');
        self.write(&text)
    }

    fn json_line(&mut self, value: &impl serde::Serialize) -> Result<(), Failure> {
        let mut text = serde_json::to_vec(value).map_err(io::Error::from)?;
        text.push(b'\n');
        self.write(&text)
    }

    /// Writes bytes as they are.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.out.write_all(bytes)?;
        self.out.flush()?;
        Ok(())
    }
}
