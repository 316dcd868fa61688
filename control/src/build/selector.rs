//! Label selectors as Kubernetes writes them in one line: `a=b,c in (d,e),!f`. Pure.

use std::collections::BTreeMap;
use std::fmt;

/// What labels must say, all of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector(Vec<Requirement>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Requirement {
    key: String,
    /// The label must not have, rather than must have, one of `values`.
    negated: bool,
    /// `None`: any value does.
    values: Option<Vec<String>>,
}

impl Selector {
    /// Reads a selector.
    ///
    /// # Errors
    /// Says which part is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        let parts = split(text)?;
        if parts.iter().all(|part| part.trim().is_empty()) {
            return Err("selects nothing in particular: write key=value".to_owned());
        }
        parts
            .iter()
            .map(|part| Requirement::parse(part.trim()))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Whether `labels` say all of it.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.iter().all(|requirement| requirement.matches(labels))
    }
}

impl Requirement {
    fn parse(text: &str) -> Result<Self, String> {
        if let Some(key) = text.strip_prefix('!') {
            return Self::new(key, true, None);
        }
        for (sign, negated) in [("!=", true), ("==", false), ("=", false)] {
            if let Some((key, value)) = text.split_once(sign) {
                return Self::new(key, negated, Some(vec![value.trim().to_owned()]));
            }
        }
        if let Some((head, list)) = text.split_once('(') {
            let list = list
                .strip_suffix(')')
                .ok_or_else(|| format!("{text:?} has no closing bracket"))?;
            let values = list
                .split(',')
                .map(|value| value.trim().to_owned())
                .collect();
            let words: Vec<_> = head.split_whitespace().collect();
            return match words[..] {
                [key, "in"] => Self::new(key, false, Some(values)),
                [key, "notin"] => Self::new(key, true, Some(values)),
                _ => Err(format!(
                    "{text:?} is neither `key in (a,b)` nor `key notin (a,b)`"
                )),
            };
        }
        Self::new(text, false, None)
    }

    fn new(key: &str, negated: bool, values: Option<Vec<String>>) -> Result<Self, String> {
        let is_label = |text: &str, extra: &str| {
            text.chars()
                .all(|c| c.is_ascii_alphanumeric() || extra.contains(c))
        };
        let key = key.trim();
        if key.is_empty() || key.len() > 317 || !is_label(key, "-_./") {
            return Err(format!("{key:?} is no label key"));
        }
        let odd = values
            .iter()
            .flatten()
            .find(|value| value.len() > 63 || !is_label(value, "-_."));
        if let Some(value) = odd {
            return Err(format!("{value:?} is no label value"));
        }
        Ok(Self {
            key: key.to_owned(),
            negated,
            values,
        })
    }

    fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        let has = match (labels.get(&self.key), &self.values) {
            (Some(label), Some(values)) => values.contains(label),
            (label, None) => label.is_some(),
            (None, Some(_)) => false,
        };
        has != self.negated
    }
}

/// Splits at the commas that stand outside brackets.
fn split(text: &str) -> Result<Vec<&str>, String> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0_i32, 0);
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
        if !(0..=1).contains(&depth) {
            return Err("has brackets in brackets, or one too many".to_owned());
        }
    }
    if depth != 0 {
        return Err("has no closing bracket".to_owned());
    }
    parts.push(&text[start..]);
    Ok(parts)
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, requirement) in self.0.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            let Requirement {
                key,
                negated,
                values,
            } = requirement;
            match (negated, values.as_deref()) {
                (false, None) => write!(f, "{comma}{key}")?,
                (true, None) => write!(f, "{comma}!{key}")?,
                (false, Some([value])) => write!(f, "{comma}{key}={value}")?,
                (true, Some([value])) => write!(f, "{comma}{key}!={value}")?,
                (false, Some(values)) => write!(f, "{comma}{key} in ({})", values.join(","))?,
                (true, Some(values)) => write!(f, "{comma}{key} notin ({})", values.join(","))?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_match_as_kubernetes_says() {
        let labels = |text: &str| -> BTreeMap<String, String> {
            let pairs = text
                .split_whitespace()
                .filter_map(|pair| pair.split_once('='));
            pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
        };
        let check = |selector: &str, given: &str, expected: bool| {
            let parsed = Selector::parse(selector).unwrap();
            assert_eq!(
                parsed.matches(&labels(given)),
                expected,
                "{selector} on {given}"
            );
            assert_eq!(Selector::parse(&parsed.to_string()), Ok(parsed));
        };
        check("group=access", "group=access", true);
        check("group==access", "group=other", false);
        check("group != access", "", true);
        check("a=b, c=d", "a=b c=d", true);
        check("a=b, c=d", "a=b", false);
        check("a in (b, c)", "a=c", true);
        check("a notin (b,c),d", "a=x d=", true);
        check("!a", "a=1", false);
        check("a", "b=1", false);
        check("a=", "a=", true);
    }

    #[test]
    fn what_is_no_selector_is_refused_with_the_part_that_is_wrong() {
        for (text, part) in [
            ("", "nothing in particular"),
            ("a=b,", "no label key"),
            ("a in (b", "closing bracket"),
            ("a of (b)", "neither"),
            ("a=(b))", "one too many"),
            ("a b=c", "\"a b\""),
            ("a=b/c", "\"b/c\""),
        ] {
            let problem = Selector::parse(text).unwrap_err();
            assert!(problem.contains(part), "{text}: {problem}");
        }
    }
}
