//! The fields of a TkeServiceConfig: one table that is parser, schema and documentation at once.

use std::sync::Arc;

use serde_json::Value;

use super::anchor::{Anchor, Speech};
pub use super::table::FIELDS;
use crate::build::annotation::{Effect, shorten};

/// A field that says something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Field {
    /// `deregisterTargetRst`
    DeregisterTargetRst,
    /// `proxyProtocol.enable`
    ProxyProtocol,
    /// `session.enable`
    SessionEnable,
    /// `session.sessionExpireTime`
    SessionExpireTime,
    /// `healthCheck.enable`
    CheckEnable,
    /// `healthCheck.intervalTime`
    CheckInterval,
    /// `healthCheck.timeout`
    CheckTimeout,
    /// `healthCheck.healthNum`
    CheckHealthNum,
    /// `healthCheck.unHealthNum`
    CheckUnhealthNum,
    /// `healthCheck.checkType`
    CheckType,
    /// `healthCheck.checkPort`
    CheckPort,
    /// `healthCheck.contextType`
    CheckContextType,
    /// `healthCheck.sendContext`
    CheckSend,
    /// `healthCheck.recvContext`
    CheckReceive,
    /// `healthCheck.httpVersion`
    CheckHttpVersion,
    /// `healthCheck.httpCode`
    CheckHttpCode,
    /// `healthCheck.httpCheckPath`
    CheckHttpPath,
    /// `healthCheck.httpCheckDomain`
    CheckHttpDomain,
    /// `healthCheck.httpCheckMethod`
    CheckHttpMethod,
    /// `healthCheck.extendedCode`
    CheckExtendedCode,
    /// `healthCheck.sourceIpType`
    CheckSourceIpType,
    /// `scheduler`
    Scheduler,
    /// `forwardType`
    ForwardType,
    /// `http2`
    Http2,
    /// `defaultServer`
    DefaultServer,
    /// `keepaliveEnable`
    Keepalive,
    /// `snatEnable`
    SnatEnable,
    /// `listenerName`
    ListenerName,
    /// `internetMaxBandwidthOut`
    Bandwidth,
}

impl Field {
    /// The fields of a health check.
    pub const OF_CHECK: &[Self] = &[
        Self::CheckEnable,
        Self::CheckInterval,
        Self::CheckTimeout,
        Self::CheckHealthNum,
        Self::CheckUnhealthNum,
        Self::CheckType,
        Self::CheckPort,
        Self::CheckContextType,
        Self::CheckSend,
        Self::CheckReceive,
        Self::CheckHttpVersion,
        Self::CheckHttpCode,
        Self::CheckHttpPath,
        Self::CheckHttpDomain,
        Self::CheckHttpMethod,
        Self::CheckExtendedCode,
        Self::CheckSourceIpType,
    ];
    /// The fields that make sense with HTTP checks alone.
    pub const OF_HTTP_CHECK: &[Self] = &[
        Self::CheckHttpVersion,
        Self::CheckHttpCode,
        Self::CheckHttpPath,
        Self::CheckHttpDomain,
        Self::CheckHttpMethod,
    ];
}

/// Where a field stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In `loadBalancer` itself.
    Whole,
    /// In an entry of `l4Listeners`.
    L4,
    /// In an entry of `l7Listeners`.
    L7,
    /// In an entry of `domains`.
    Domain,
    /// In an entry of `rules`.
    Rule,
}

impl From<&Anchor> for Place {
    fn from(anchor: &Anchor) -> Self {
        match anchor {
            Anchor::Listener(speech, _) if speech.is_http() => Self::L7,
            Anchor::Listener(..) => Self::L4,
            Anchor::Domain(..) => Self::Domain,
            Anchor::Rule(..) => Self::Rule,
        }
    }
}

/// What a field says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Setting {
    /// True or false.
    Bool(bool),
    /// A number.
    Number(u16),
    /// A text.
    Text(Arc<str>),
}

impl Setting {
    pub(super) fn to_json(&self) -> Value {
        match self {
            Self::Bool(value) => (*value).into(),
            Self::Number(value) => (*value).into(),
            Self::Text(value) => (&**value).into(),
        }
    }
}

/// A field, what may stand in it, and what becomes of that.
#[derive(Debug)]
pub struct Row {
    /// Which.
    pub field: Field,
    /// As it is written, below its place.
    pub path: &'static str,
    /// Where it may stand.
    pub places: &'static [Place],
    /// What is done about it.
    pub effect: Effect,
    /// What it means here, in a sentence.
    pub about: &'static str,
    pub(super) shape: Shape,
}

/// What may stand in a field.
#[derive(Debug)]
pub(super) enum Shape {
    /// True or false.
    Bool,
    /// The same as 1 or 0.
    Flag,
    /// A number of this range.
    Number(u16, u16),
    /// One of these words.
    Word(fn(&Anchor) -> &'static [&'static str]),
    /// A text for which this has no objection.
    Text(fn(&str) -> Result<(), String>),
}

/// What an API server may be told of the type of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// boolean
    Bool,
    /// integer
    Integer,
    /// string
    Text,
    /// Whatever.
    Any,
}

impl Row {
    /// Reads what is written, or says what is wrong with it and what comes nearest.
    pub(super) fn read(&self, anchor: &Anchor, json: &Value) -> Result<Setting, String> {
        let shown = || shorten(&json.to_string());
        match &self.shape {
            Shape::Bool => match (json, json.as_str()) {
                (Value::Bool(value), _) => Ok(Setting::Bool(*value)),
                (_, Some("true" | "false")) => {
                    Err(format!("{} is a text: leave the quotes out", shown()))
                }
                _ => Err(format!("{} is neither true nor false", shown())),
            },
            Shape::Flag => match (json, json.as_u64()) {
                (Value::Bool(value), _) => Ok(Setting::Bool(*value)),
                (_, Some(value @ (0 | 1))) => Ok(Setting::Bool(value == 1)),
                _ => Err(format!("{} is neither 0 nor 1", shown())),
            },
            Shape::Number(least, most) => number(json, *least, *most),
            Shape::Word(words) => word(json, words(anchor)),
            Shape::Text(check) => {
                let text = json
                    .as_str()
                    .ok_or_else(|| format!("{} is no text", shown()))?;
                check(text).map_err(|problem| format!("{} {problem}", shorten(text)))?;
                Ok(Setting::Text(text.into()))
            }
        }
    }

    /// What an API server may be told of its type.
    pub const fn kind(&self) -> Type {
        match self.shape {
            Shape::Bool => Type::Bool,
            Shape::Flag => Type::Any,
            Shape::Number(..) => Type::Integer,
            Shape::Word(_) | Shape::Text(_) => Type::Text,
        }
    }
}

fn number(json: &Value, least: u16, most: u16) -> Result<Setting, String> {
    let shown = || shorten(&json.to_string());
    let Some(value) = json.as_f64() else {
        let meant = json.as_str().and_then(|text| text.parse::<u16>().ok());
        return Err(match meant.filter(|value| (least..=most).contains(value)) {
            Some(value) => format!("{} is a text: write {value}", shown()),
            None => format!("{} is no number of {least} to {most}", shown()),
        });
    };
    let whole = json.as_u64().and_then(|value| u16::try_from(value).ok());
    if let Some(value) = whole.filter(|value| (least..=most).contains(value)) {
        return Ok(Setting::Number(value));
    }
    let (low, high) = (f64::from(least), f64::from(most));
    let nearest = value.clamp(low, high).round();
    Err(format!(
        "{} is none of {least} to {most}: {nearest} is nearest",
        shown()
    ))
}

fn word(json: &Value, words: &'static [&'static str]) -> Result<Setting, String> {
    let shown = || shorten(&json.to_string());
    let text = json
        .as_str()
        .ok_or_else(|| format!("{} is no text", shown()))?;
    if words.contains(&text) {
        return Ok(Setting::Text(text.into()));
    }
    let nearest = words.iter().find(|word| word.eq_ignore_ascii_case(text));
    Err(match nearest {
        Some(word) => format!("{} is written {word}", shown()),
        None => format!("{} is none of {}", shown(), words.join(", ")),
    })
}

/// Schedulers: by hash for requests alone.
pub(super) const fn schedulers(anchor: &Anchor) -> &'static [&'static str] {
    match anchor {
        Anchor::Rule(..) => &["WRR", "LEAST_CONN", "IP_HASH"],
        _ => &["WRR", "LEAST_CONN"],
    }
}

/// Types of health checks by what the listener speaks.
pub(super) const fn check_types(anchor: &Anchor) -> &'static [&'static str] {
    match anchor.listener().0 {
        Speech::Tcp => &["TCP", "HTTP", "CUSTOM"],
        Speech::TcpSsl => &["TCP", "HTTP"],
        Speech::Udp => &["PING", "CUSTOM"],
        Speech::Http => &["HTTP", "TCP", "GRPC"],
        Speech::Https => &["HTTP", "HTTPS", "TCP", "GRPC"],
    }
}

fn at_most(text: &str, most: usize) -> Result<(), String> {
    if text.len() <= most {
        return Ok(());
    }
    Err(format!("is longer than {most} characters"))
}

pub(super) fn is_path(text: &str) -> Result<(), String> {
    at_most(text, 200)?;
    if text.starts_with('/') && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(());
    }
    Err("is no path: it begins with / and has no spaces".to_owned())
}

pub(super) fn is_domain(text: &str) -> Result<(), String> {
    at_most(text, 80)?;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
    if !text.is_empty() && text.bytes().all(is_plain) {
        return Ok(());
    }
    Err("is no name of a host".to_owned())
}

pub(super) fn is_context(text: &str) -> Result<(), String> {
    at_most(text, 500)?;
    if text.is_ascii() {
        return Ok(());
    }
    Err("is not ASCII".to_owned())
}

/// Statuses of gRPC: `20`, `20,25`, `0-99`.
pub(super) fn is_codes(text: &str) -> Result<(), String> {
    at_most(text, 200)?;
    let code = |text: &str| text.parse::<u8>().ok().filter(|code| *code <= 99);
    let is_range = |part: &str| match part.split_once('-') {
        Some((first, last)) => code(first).zip(code(last)).is_some_and(|(a, b)| a <= b),
        None => code(part).is_some(),
    };
    if text.split(',').count() <= 50 && text.split(',').all(is_range) {
        return Ok(());
    }
    Err("is no list of codes of 0 to 99, such as 20,25 or 0-99".to_owned())
}

/// The row of a field.
///
/// # Panics
/// Never: a test holds that every field has one.
pub(super) fn row(field: Field) -> &'static Row {
    let mut rows = FIELDS.iter();
    rows.find(|row| row.field == field)
        .expect("every field has a row")
}

/// The row of a path at a place.
pub(super) fn find(place: Place, path: &str) -> Option<&'static Row> {
    let mut rows = FIELDS.iter();
    rows.find(|row| row.path == path && row.places.contains(&place))
}
