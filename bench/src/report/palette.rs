//! Which colour and which kind of line a subject has, the same in all plots of a page.

/// Colours of the style sheet, `s0` and so on (Okabe and Ito's without yellow, which is too light for lines).
const COLOURS: usize = 7;

/// The subjects of a page in their order.
pub(super) struct Palette {
    subjects: Vec<String>,
}

impl Palette {
    pub(super) fn new<'a>(subjects: impl IntoIterator<Item = &'a str>) -> Self {
        let mut known: Vec<String> = Vec::new();
        for subject in subjects {
            if !known.iter().any(|k| k == subject) {
                known.push(subject.to_owned());
            }
        }
        Self { subjects: known }
    }

    /// Classes of a subject's marks: a colour, and from the eighth subject on dashes.
    pub(super) fn class(&self, subject: &str) -> String {
        let place = self.subjects.iter().position(|k| k == subject).unwrap_or(0);
        format!("s{} d{}", place % COLOURS, (place / COLOURS).min(2))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_keeps_its_colour() {
        let names: Vec<String> = (0..16).map(|n| n.to_string()).collect();
        let twice = names.iter().chain(&names).map(|name| &**name);
        let palette = Palette::new(twice);
        assert_eq!(palette.class("1"), "s1 d0");
        assert_eq!(palette.class("8"), "s1 d1");
        assert_eq!(palette.class("15"), "s1 d2");
        assert_eq!(palette.class("unknown"), "s0 d0");
    }
}
