//! Where in a file's text a field stands, so that what is wrong with it can be told as `file:line: path: problem`.
//!
//! Reads the text once more, keeping nothing but keys and lines; only refused files pay for it. Must not know what the
//! fields mean.

use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

use crate::{Invalid, Violation, file};

/// Tells every violation of the file `name` that holds `text` as `name:line: path: problem`, without what is not known.
pub fn explain(name: &str, text: &str, invalid: &Invalid) -> Vec<String> {
    let tree =
        serde_saphyr::from_str_with_options::<Spanned<Node>>(text, file::yaml_options()).ok();
    let tell = |violation: &Violation| {
        let (problem, stated) = split_position(&violation.problem);
        let path = violation.path.as_str();
        let line = stated.or_else(|| tree.as_ref().and_then(|tree| line_of(tree, path)));
        let line = line.map(|line| format!(":{line}")).unwrap_or_default();
        let colon = if path.is_empty() { "" } else { ": " };
        format!("{name}{line}{colon}{path}: {problem}")
    };
    invalid.violations.iter().map(tell).collect()
}

/// What the file reader says ends in its line; taken off, since the line is told first.
fn split_position(problem: &str) -> (&str, Option<u64>) {
    let parse = || {
        let (rest, line) = problem.strip_suffix(')')?.rsplit_once(" (line ")?;
        Some((rest, Some(line.parse().ok()?)))
    };
    parse().unwrap_or((problem, None))
}

/// A YAML value reduced to where its parts stand.
enum Node {
    Map(Vec<(Spanned<String>, Spanned<Node>)>),
    List(Vec<Spanned<Node>>),
    Scalar,
}

/// The line of the field at `path`; of what holds it, if the field is not there. Fields count by their key.
fn line_of(tree: &Spanned<Node>, path: &str) -> Option<u64> {
    let mut line = None;
    let mut here = &tree.value;
    for part in path.split(['.', '[']).filter(|part| !part.is_empty()) {
        let index = part.strip_suffix(']').and_then(|n| n.parse::<usize>().ok());
        match (here, index) {
            (Node::Map(fields), None) => {
                let Some((key, value)) = fields.iter().find(|(key, _)| key.value == part) else {
                    break;
                };
                line = Some(key.referenced.line());
                here = &value.value;
            }
            (Node::List(items), Some(index)) => {
                let Some(item) = items.get(index) else { break };
                line = Some(item.referenced.line());
                here = &item.value;
            }
            _ => break,
        }
    }
    line.filter(|line| *line > 0)
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        input.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut fields = Vec::new();
        while let Some(field) = map.next_entry()? {
            fields.push(field);
        }
        Ok(Node::Map(fields))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Node, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            items.push(item);
        }
        Ok(Node::List(items))
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, input: D) -> Result<Node, D::Error> {
        IgnoredAny::deserialize(input).map(|_| Node::Scalar)
    }

    fn visit_some<D: Deserializer<'de>>(self, input: D) -> Result<Node, D::Error> {
        Node::deserialize(input)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_str<E>(self, _: &str) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Scalar)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Document;

    fn check(text: &str, expected: &[&str]) {
        let invalid = Document::from_yaml(text).unwrap_err();
        assert_eq!(explain("a.yaml", text, &invalid), expected, "{text}");
    }

    #[test]
    fn fields_that_are_there_are_told_with_their_line() {
        check(
            "listeners:\n- name: web\n  adress: 1.2.3.4:80\n",
            &["a.yaml:3: listeners[0].adress: unknown field, did you mean \"address\"?"],
        );
        check(
            "backendSets:\n- name: a\n\n  backends:\n  - address: 1.2.3.4:80\n    weight: 200\n  - {address: 1.2.3.4:80, weight: 1}\n",
            &["a.yaml:6: backendSets[0].backends[0].weight: 200 is out of range: use 0 to 100"],
        );
    }

    #[test]
    fn missing_fields_are_told_at_what_should_hold_them() {
        check(
            "listeners:\n\n- address: 1.2.3.4:80\n  protocol: TCP\n  backendSet: a\n",
            &["a.yaml:3: listeners[0].name: is required"],
        );
    }

    #[test]
    fn the_readers_own_position_is_told_once() {
        check(
            "backendSets:\n- name: a\n  connectTimeout: 5x\n",
            &[
                "a.yaml:3: backendSets[0].connectTimeout: \"5x\" is not a duration: write 500ms, 5s, 15m or 3h",
            ],
        );
        check(
            "listeners:\n- name: web\n   address: [\n",
            &["a.yaml:3: listeners[0]: mapping values are not allowed in this context"],
        );
    }
}
