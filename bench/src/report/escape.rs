//! Text from a file, as HTML shows it.

use std::fmt;

use crate::words;

/// Written out, nothing in it is markup, and nothing steers the direction of writing.
pub(super) struct Escaped<'a>(pub(super) &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in words::clean(self.0).chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                other => write!(f, "{other}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_markup() {
        let shown = Escaped("<a href=\"x\" b='y'>&\u{0}</a>").to_string();
        assert_eq!(
            shown,
            "&lt;a href=&quot;x&quot; b=&#39;y&#39;&gt;&amp; &lt;/a&gt;"
        );
    }
}
