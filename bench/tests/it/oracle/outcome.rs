//! What became of a request, as lines that can be compared: a function of what client and backend saw.

use super::backend::Got;
use super::client::{Answer, Answers};
use super::wire::Body;

/// Fields that tell of a connection alone, or that a proxy always adds to answers.
const OF_ANSWERS: [&str; 2] = ["connection", "date"];
/// Answers with one of these are a proxy's own; how they are worded does not matter.
const OWN: [(&str, Option<&str>); 2] = [("x-podline-reason", None), ("server", Some("Pingora"))];
/// Fields that one of the two adds to requests.
const ADDED: [(&str, &str); 3] = [
    ("x-real-ip", "127.0.0.1"),
    ("x-forwarded-proto", "http"),
    ("x-forwarded-port", "18080"),
];
/// Longer texts are told by their length.
const LONGEST: usize = 60;

/// What became of a request.
pub(super) struct Outcome {
    answers: Answers,
    got: Vec<Got>,
}

impl Outcome {
    pub(super) fn new(answers: Answers, got: Vec<Got>) -> Self {
        Self { answers, got }
    }

    /// What differs: lines that only one of the two has, each with that one's name. Where not both forwarded, how fields
    /// were written does not matter.
    pub(super) fn differences(&self, names: [&str; 2], other: &Self) -> Vec<String> {
        let lines = match (self.got.is_empty(), other.got.is_empty()) {
            (false, false) => [self.lines(), other.lines()],
            _ => [self.summary(), other.summary()],
        };
        let only = |index: usize| {
            let mut others = lines[1 - index].clone();
            let mut own = lines[index].clone();
            own.retain(|line| {
                let place = others.iter().position(|other| other == line);
                place.map(|place| others.swap_remove(place)).is_none()
            });
            own.into_iter()
                .map(move |line| format!("{}: {line}", names[index]))
        };
        [0, 1].into_iter().flat_map(only).collect()
    }

    /// Statuses, and what was forwarded, in one line.
    fn summary(&self) -> Vec<String> {
        let mut words = vec![self.statuses()];
        for got in &self.got {
            let framing = |(name, _): &&(String, String)| {
                matches!(&**name, "host" | "content-length" | "transfer-encoding")
            };
            let fields = got.head.fields.iter().filter(framing);
            let fields = fields.map(|(name, value)| format!("{name}: {value}"));
            let fields = fields.collect::<Vec<_>>().join(", ");
            let body = body(got.body.as_ref()).join(" ");
            words.push(format!("{} ({fields}) {body}", got.head.line));
        }
        vec![words.join("; forwards ")]
    }

    fn statuses(&self) -> String {
        let statuses = self.answers.all.iter();
        let mut statuses: Vec<_> = statuses
            .map(|answer| answer.head.status().to_string())
            .collect();
        if self.answers.is_silent {
            statuses.push("silence".to_owned());
        }
        if statuses.is_empty() {
            statuses.push("end".to_owned());
        }
        statuses.join(", ")
    }

    fn lines(&self) -> Vec<String> {
        let mut lines = vec![self.statuses()];
        let kept = ["ends the connection", "keeps the connection"];
        lines.push(kept[usize::from(self.answers.is_kept)].to_owned());
        for answer in &self.answers.all {
            lines.extend(of_answer(answer));
        }
        for got in &self.got {
            lines.extend(of_request(got));
        }
        lines
    }
}

fn of_answer(answer: &Answer) -> Vec<String> {
    let status = answer.head.status();
    let mut fields = answer.head.fields.iter();
    let is_own = |(name, value): &(String, String)| {
        let mut own = OWN.iter();
        own.any(|(own, word)| name == own && word.is_none_or(|word| word == value))
    };
    if fields.any(is_own) {
        return vec![format!("answers {status} itself")];
    }
    let mut lines = body(answer.body.as_ref());
    let fields = answer.head.fields.iter();
    let fields = fields.filter(|(name, _)| !OF_ANSWERS.contains(&&**name));
    lines.extend(fields.map(|(name, value)| format!("{name}: {}", short(value))));
    let lines = lines.iter();
    lines
        .map(|line| format!("answers {status} with {line}"))
        .collect()
}

fn of_request(got: &Got) -> Vec<String> {
    let mut lines = vec![short(&got.head.line)];
    let host = got.head.field("host").unwrap_or_default();
    for (name, value) in &got.head.fields {
        let is_added =
            ADDED.contains(&(name, value)) || name == "x-forwarded-host" && value == host;
        let value = match &**name {
            "connection" => value.to_lowercase(),
            _ => short(value),
        };
        if !is_added {
            lines.push(format!("{name}: {value}"));
        }
    }
    lines.extend(body(got.body.as_ref()));
    if !got.rest.is_empty() {
        lines.push(format!(
            "rest {}",
            short(&got.rest.escape_ascii().to_string())
        ));
    }
    let lines = lines.iter();
    lines.map(|line| format!("forwards {line}")).collect()
}

fn body(body: Option<&Body>) -> Vec<String> {
    let Some(body) = body else {
        return vec!["a body that is cut".to_owned()];
    };
    let data = short(&body.data.escape_ascii().to_string());
    let mut lines = vec![format!("body <{data}>")];
    let trailer = body.trailer.iter();
    lines.extend(trailer.map(|field| format!("trailer {}", field.to_lowercase())));
    lines.extend(body.extensions.iter().map(|it| format!("extension {it}")));
    lines
}

fn short(text: &str) -> String {
    if text.len() > LONGEST {
        format!("{}.. ({} bytes)", &text[..LONGEST / 2], text.len())
    } else {
        text.to_owned()
    }
}
