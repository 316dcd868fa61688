//! What of a fragment can be set, given what was set before: values that exclude each other leave the last good ones.
//! Pure. Doing it again changes nothing, nor what is told.

use crate::build::annotation::Effect;
use crate::build::note::Reason;
use crate::cluster::service_config::{Anchor, FIELDS, Field, Fragment, Speech};

/// What is told: of which kind, and the words.
type Told = Vec<(Reason, String)>;

/// Seconds between probes where nobody says it.
const INTERVAL: u16 = 5;
/// Seconds of a probe where nobody says it.
const TIMEOUT: u16 = 2;
/// Seconds that a timeout can be at least.
const SHORTEST: u16 = 2;
/// Seconds between probes that every cloud takes.
const USUAL_INTERVAL: u16 = 5;

/// What is set now, and what there is to tell.
pub(super) fn admit(anchor: &Anchor, before: &Fragment, said: &Fragment) -> (Fragment, Told) {
    let mut work = Work {
        anchor,
        before,
        said: said.clone(),
        told: Told::new(),
    };
    let ignored = FIELDS.iter().filter(|row| row.effect == Effect::Ignored);
    let ignored: Vec<_> = ignored.map(|row| row.field).collect();
    work.said.unset(&ignored);
    work.not_for_datagrams();
    work.no_custom_over_tcp();
    work.wildcards_need_a_host();
    work.contexts();
    work.times();
    let now = work.merged();
    work.unusual(&now);
    (now, work.told)
}

struct Work<'a> {
    anchor: &'a Anchor,
    before: &'a Fragment,
    said: Fragment,
    told: Told,
}

impl Work<'_> {
    fn merged(&self) -> Fragment {
        let mut merged = self.before.clone();
        merged.lay(&self.said);
        merged
    }

    fn tell(&mut self, reason: Reason, what: &str) {
        let words = match reason {
            Reason::ServiceConfigNotApplied => format!("not applied: {what} of {}", self.anchor),
            Reason::ServiceConfigInvalid => {
                format!("{}: {what}; the last good value stays", self.anchor)
            }
            _ => format!("{}: {what}", self.anchor),
        };
        self.told.push((reason, words));
    }

    fn not_for_datagrams(&mut self) {
        if self.anchor.listener().0 != Speech::Udp {
            return;
        }
        for (field, path) in [
            (Field::DeregisterTargetRst, "deregisterTargetRst"),
            (Field::ProxyProtocol, "proxyProtocol.enable"),
        ] {
            if self.said.is(field) == Some(true) {
                let what = format!("{path}, which is not for datagrams,");
                self.tell(Reason::ServiceConfigNotApplied, &what);
            }
            self.said.unset(&[field]);
        }
    }

    fn no_custom_over_tcp(&mut self) {
        let is_custom = self.said.text(Field::CheckType) == Some("CUSTOM");
        if is_custom && self.anchor.listener().0 == Speech::Tcp {
            let what = "healthCheck.checkType CUSTOM, which is for UDP alone,";
            self.tell(Reason::ServiceConfigNotApplied, what);
            self.said.unset(&[Field::CheckType]);
        }
    }

    /// A probe has to name a host that the Pods know.
    fn wildcards_need_a_host(&mut self) {
        let is_rule = matches!(self.anchor, Anchor::Rule(..));
        let is_said = Field::OF_CHECK.iter().any(|field| self.said.has(*field));
        if !is_rule || !is_said || !self.anchor.domain().starts_with('*') {
            return;
        }
        let merged = self.merged();
        let asks = match merged.text(Field::CheckType) {
            Some(kind) => matches!(kind, "HTTP" | "HTTPS"),
            None => merged.is(Field::CheckEnable) == Some(true) || has_http_fields(&merged),
        };
        let is_on = merged.is(Field::CheckEnable) != Some(false);
        if asks && is_on && !merged.has(Field::CheckHttpDomain) {
            let what = "healthCheck.httpCheckDomain is missing: the domain is a wildcard, which no probe can ask for";
            self.tell(Reason::ServiceConfigInvalid, what);
            self.said.unset(Field::OF_CHECK);
        }
    }

    fn contexts(&mut self) {
        const FIELDS: [Field; 3] = [
            Field::CheckContextType,
            Field::CheckSend,
            Field::CheckReceive,
        ];
        let merged = self.merged();
        if merged.text(Field::CheckContextType) != Some("HEX") {
            return;
        }
        let is_hex = |field| {
            let text = merged.text(field).unwrap_or_default();
            text.len().is_multiple_of(2) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
        };
        if !is_hex(Field::CheckSend) || !is_hex(Field::CheckReceive) {
            let what = "healthCheck.contextType HEX wants sendContext and recvContext in pairs of hexadecimal digits";
            self.tell(Reason::ServiceConfigInvalid, what);
            self.said.unset(&FIELDS);
        }
    }

    /// One of both is taken if it can be with the other as it was.
    fn times(&mut self) {
        let (interval, timeout) = (Field::CheckInterval, Field::CheckTimeout);
        let of = |fragment: &Fragment, field, default| fragment.number(field).unwrap_or(default);
        let merged = self.merged();
        let now = (
            of(&merged, interval, INTERVAL),
            of(&merged, timeout, TIMEOUT),
        );
        if now.1 < now.0 {
            return;
        }
        let before = (
            of(self.before, interval, INTERVAL),
            of(self.before, timeout, TIMEOUT),
        );
        let has = (self.said.has(interval), self.said.has(timeout));
        let what = match has {
            (false, false) => return,
            (true, false) => format!(
                "healthCheck.intervalTime {} is not more than the timeout {}: {} is nearest",
                now.0,
                now.1,
                now.1 + 1
            ),
            _ if now.0 <= SHORTEST => format!(
                "healthCheck.timeout {} is not less than the intervalTime {}: use more than {SHORTEST} for that",
                now.1, now.0
            ),
            _ => format!(
                "healthCheck.timeout {} is not less than the intervalTime {}: {} is nearest",
                now.1,
                now.0,
                now.0 - 1
            ),
        };
        self.tell(Reason::ServiceConfigInvalid, &what);
        if has.0 && before.1 < now.0 {
            self.said.unset(&[timeout]);
        } else if has.1 && now.1 < before.0 {
            self.said.unset(&[interval]);
        } else {
            self.said.unset(&[interval, timeout]);
        }
    }

    fn unusual(&mut self, now: &Fragment) {
        let interval = self.said.number(Field::CheckInterval);
        if let Some(interval) = interval.filter(|interval| *interval < USUAL_INTERVAL) {
            let what = format!(
                "healthCheck.intervalTime {interval} holds here; a cloud may want {USUAL_INTERVAL} at least"
            );
            self.tell(Reason::ServiceConfigUnusual, &what);
        }
        let is_least = now.text(Field::Scheduler) == Some("LEAST_CONN");
        if is_least && now.is(Field::SessionEnable) == Some(true) {
            let what =
                "session and scheduler LEAST_CONN both hold here; a cloud has one or the other";
            self.tell(Reason::ServiceConfigUnusual, what);
        }
        let pings =
            self.anchor.listener().0 == Speech::Udp && now.text(Field::CheckType) != Some("CUSTOM");
        if pings && self.said.has(Field::CheckPort) {
            let what = "healthCheck.checkPort, which a ping has not,";
            self.tell(Reason::ServiceConfigNotApplied, what);
        }
    }
}

/// Whether something is said that only an HTTP check can mean.
pub(super) fn has_http_fields(said: &Fragment) -> bool {
    Field::OF_HTTP_CHECK.iter().any(|field| said.has(*field))
}
