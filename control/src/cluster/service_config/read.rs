//! From `spec.loadBalancer` as it is written to what it says. Whatever stands there, something comes out.

use std::collections::btree_map;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::Fragments;
use super::anchor::{Anchor, Speech};
use super::field::{FIELDS, Place, find};
use super::fragment::Fragment;
use crate::build::annotation::shorten;

/// Entries of a list that are read; there cannot be more listeners.
const MOST: usize = 1_000;
/// Problems that are told.
const MOST_PROBLEMS: usize = 100;

/// Something that cannot be done as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What it is about; nothing if that cannot be said.
    pub anchor: Option<Anchor>,
    /// Of which kind it is.
    pub kind: ProblemKind,
    /// Where: `l4Listeners[0].healthCheck.timeout`.
    pub path: String,
    /// What is wrong, with what would be right.
    pub what: String,
}

/// Kinds of problems.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProblemKind {
    /// A value cannot be read.
    Wrong,
    /// There is no such field.
    Unknown,
}

/// Several of them.
pub type Problems = Vec<Problem>;

/// What is said of listeners and rules, what of the whole, and what is wrong.
pub(super) fn read(balancer: &Value) -> (Fragments, Fragment, Problems) {
    let mut reader = Reader::default();
    let whole = match balancer {
        Value::Object(fields) => {
            reader.entries(fields, ("", "l4Listeners"), None, Reader::l4);
            reader.entries(fields, ("", "l7Listeners"), None, Reader::l7);
            // Nothing in it is read by what it is about.
            let none = Anchor::Listener(Speech::Tcp, 0);
            let lists = ["l4Listeners", "l7Listeners"];
            reader.fragment((Place::Whole, &none), fields, &lists, "")
        }
        Value::Null => Fragment::default(),
        odd => {
            reader.wrong(None, "loadBalancer", format!("{} is no object", shown(odd)));
            Fragment::default()
        }
    };
    reader.problems.truncate(MOST_PROBLEMS);
    (reader.fragments, whole, reader.problems)
}

fn shown(value: &Value) -> String {
    shorten(&value.to_string())
}

#[derive(Default)]
struct Reader {
    fragments: Fragments,
    problems: Problems,
}

impl Reader {
    fn tell(&mut self, anchor: Option<&Anchor>, kind: ProblemKind, path: &str, what: String) {
        if self.problems.len() < MOST_PROBLEMS {
            let anchor = anchor.filter(|anchor| anchor.listener().1 > 0).cloned();
            self.problems.push(Problem {
                anchor,
                kind,
                path: path.to_owned(),
                what,
            });
        }
    }

    fn wrong(&mut self, anchor: Option<&Anchor>, path: &str, what: String) {
        self.tell(anchor, ProblemKind::Wrong, path, what);
    }

    /// Reads each entry of a list, if there is one.
    fn entries(
        &mut self,
        fields: &Map<String, Value>,
        (prefix, name): (&str, &str),
        anchor: Option<&Anchor>,
        read: impl Fn(&mut Self, &Map<String, Value>, &str),
    ) {
        let path = format!("{prefix}{name}");
        let list = match fields.get(name) {
            None | Some(Value::Null) => return,
            Some(Value::Array(list)) => list,
            Some(odd) => return self.wrong(anchor, &path, format!("{} is no list", shown(odd))),
        };
        if list.len() > MOST {
            self.wrong(anchor, &path, format!("only {MOST} entries are read"));
        }
        for (index, entry) in list.iter().enumerate().take(MOST) {
            let path = format!("{path}[{index}]");
            match entry {
                Value::Object(fields) => read(self, fields, &path),
                odd => self.wrong(anchor, &path, format!("{} is no object", shown(odd))),
            }
        }
    }

    fn l4(&mut self, fields: &Map<String, Value>, path: &str) {
        let speeches = [Speech::Tcp, Speech::Udp, Speech::TcpSsl];
        if let Some(anchor) = self.listener(fields, path, &speeches) {
            self.take(anchor, fields, &["protocol", "port"], path);
        }
    }

    fn l7(&mut self, fields: &Map<String, Value>, path: &str) {
        let speeches = [Speech::Http, Speech::Https];
        let Some(anchor) = self.listener(fields, path, &speeches) else {
            return;
        };
        let known = ["protocol", "port", "domains"];
        self.take(anchor.clone(), fields, &known, path);
        let (speech, port) = anchor.listener();
        let list = (&*format!("{path}."), "domains");
        self.entries(fields, list, Some(&anchor), |reader, fields, path| {
            let domain = match fields.get("domain") {
                None | Some(Value::Null) => "".into(),
                Some(Value::String(text)) => text.to_ascii_lowercase().into(),
                Some(odd) => {
                    let what = format!("{} is no text", shown(odd));
                    return reader.wrong(Some(&anchor), &format!("{path}.domain"), what);
                }
            };
            reader.domain((speech, port, domain), fields, path);
        });
    }

    fn domain(
        &mut self,
        (speech, port, domain): (Speech, u16, Arc<str>),
        fields: &Map<String, Value>,
        path: &str,
    ) {
        let anchor = Anchor::Domain(speech, port, Arc::clone(&domain));
        self.take(anchor.clone(), fields, &["domain", "rules"], path);
        let list = (&*format!("{path}."), "rules");
        self.entries(fields, list, Some(&anchor), |reader, fields, path| {
            let url = match fields.get("url") {
                None | Some(Value::Null) => "/".into(),
                Some(Value::String(text)) => Arc::from(&**text),
                Some(odd) => {
                    let what = format!("{} is no text", shown(odd));
                    return reader.wrong(Some(&anchor), &format!("{path}.url"), what);
                }
            };
            let rule = Anchor::Rule(speech, port, Arc::clone(&domain), url);
            reader.take(rule, fields, &["url"], path);
        });
    }

    /// Which listener an entry is about.
    fn listener(
        &mut self,
        fields: &Map<String, Value>,
        path: &str,
        speeches: &[Speech],
    ) -> Option<Anchor> {
        let nothing = Value::Null;
        let protocol = fields.get("protocol").unwrap_or(&nothing);
        let speech = protocol.as_str().and_then(Speech::parse);
        let speech = speech.filter(|speech| speeches.contains(speech));
        if speech.is_none() {
            let words: Vec<_> = speeches.iter().map(|speech| speech.as_str()).collect();
            let what = format!("{} is none of {}", shown(protocol), words.join(", "));
            self.wrong(None, &format!("{path}.protocol"), what);
        }
        let number = fields.get("port").unwrap_or(&nothing);
        let port = number.as_u64().and_then(|port| u16::try_from(port).ok());
        let port = port.filter(|port| *port > 0);
        if port.is_none() {
            let what = format!("{} is none of 1 to 65535", shown(number));
            self.wrong(None, &format!("{path}.port"), what);
        }
        Some(Anchor::Listener(speech?, port?))
    }

    /// Reads what an entry says, but for the fields that say what it is about.
    fn take(&mut self, anchor: Anchor, fields: &Map<String, Value>, known: &[&str], path: &str) {
        let fragment = self.fragment(((&anchor).into(), &anchor), fields, known, path);
        match self.fragments.entry(anchor) {
            btree_map::Entry::Vacant(entry) => _ = entry.insert(fragment),
            btree_map::Entry::Occupied(entry) => {
                let anchor = entry.key().clone();
                let what = format!("{anchor} stands here twice: the first counts");
                self.wrong(Some(&anchor), path, what);
            }
        }
    }

    fn fragment(
        &mut self,
        (place, anchor): (Place, &Anchor),
        fields: &Map<String, Value>,
        known: &[&str],
        path: &str,
    ) -> Fragment {
        let mut fragment = Fragment::default();
        let dot = if path.is_empty() { "" } else { "." };
        let fields = fields
            .iter()
            .filter(|(name, _)| !known.contains(&name.as_str()));
        for (name, value) in fields {
            let below = format!("{path}{dot}{}", shorten(name));
            let prefix = format!("{name}.");
            let is_group = FIELDS
                .iter()
                .any(|row| row.path.starts_with(&prefix) && row.places.contains(&place));
            match value {
                Value::Null => {}
                Value::Object(inner) if is_group => {
                    for (name, value) in inner.iter().filter(|(_, value)| !value.is_null()) {
                        let below = format!("{below}.{}", shorten(name));
                        let name = format!("{prefix}{name}");
                        self.setting((place, anchor), &mut fragment, &name, value, &below);
                    }
                }
                odd if is_group => {
                    self.wrong(Some(anchor), &below, format!("{} is no object", shown(odd)));
                }
                value => self.setting((place, anchor), &mut fragment, name, value, &below),
            }
        }
        fragment
    }

    fn setting(
        &mut self,
        (place, anchor): (Place, &Anchor),
        fragment: &mut Fragment,
        name: &str,
        value: &Value,
        path: &str,
    ) {
        match find(place, name).map(|row| (row, row.read(anchor, value))) {
            Some((row, Ok(setting))) => fragment.set(row.field, setting),
            Some((_, Err(what))) => self.wrong(Some(anchor), path, what),
            None => {
                let what = "is no field that is known".to_owned();
                self.tell(Some(anchor), ProblemKind::Unknown, path, what);
            }
        }
    }
}
