//! Which timelines are meant, and how they are told. Pure.

use std::cmp::Reverse;

use jiff::Timestamp;
use podline_api::v1;
use v1::timeline_request::Kind;

use crate::cluster::{Front, Key};
use crate::timeline::book::Book;
use crate::timeline::{Point, Row};

/// Why there is no answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// Another replica knows.
    NotLeader,
    /// There is no such kind.
    Kind,
    /// Nothing of the kind.
    NotFound(String),
}

pub(super) fn answer(
    book: &Book,
    request: &v1::TimelineRequest,
) -> Result<v1::TimelineResponse, Refused> {
    let since = book.since().ok_or(Refused::NotLeader)?;
    let kind = request.kind();
    let what = match kind {
        Kind::Unspecified => return Err(Refused::Kind),
        Kind::Pod => "Pod",
        Kind::Deployment => "Deployment",
        Kind::StatefulSet => "StatefulSet",
        Kind::DaemonSet => "DaemonSet",
        Kind::ReplicaSet => "ReplicaSet",
        Kind::Service => "Service",
        Kind::Ingress => "Ingress",
    };
    let key = Key::new(&request.namespace, &request.name);
    let mut rows: Vec<&Row> = book
        .rows()
        .filter(|row| is_meant(row, kind, &key))
        .collect();
    if rows.is_empty() {
        let pods = match kind {
            Kind::Pod => format!("Pod {key} was not"),
            _ => format!("no Pod of {what} {key} was"),
        };
        let problem = format!(
            "{pods} bound by a direct Service or Ingress of Podline's since {}, when this replica began to lead, or it is gone for long",
            since.strftime("%Y-%m-%dT%H:%M:%SZ")
        );
        return Err(Refused::NotFound(problem));
    }
    // Those that were there before come first.
    rows.sort_by_key(|row| {
        let began = row.points.get(Point::Endpoint);
        (
            began,
            row.facts.created,
            row.facts.key.clone(),
            Reverse(row.points.get(Point::Gone)),
        )
    });
    Ok(v1::TimelineResponse {
        pods: rows.into_iter().map(pod).collect(),
        since: Some(time(since)),
    })
}

fn is_meant(row: &Row, kind: Kind, key: &Key) -> bool {
    if row.facts.key.namespace != key.namespace {
        return false;
    }
    let owner = row.facts.owner.as_ref();
    let is_owned = |kind: &str, is: &dyn Fn(&str) -> bool| {
        owner.is_some_and(|owner| owner.kind == kind && is(&owner.name))
    };
    let named = |name: &str| *name == *key.name;
    match kind {
        Kind::Unspecified => false,
        Kind::Pod => row.facts.key == *key,
        Kind::Deployment => is_owned("ReplicaSet", &|name| {
            name.rsplit_once('-').is_some_and(|(name, _)| named(name))
        }),
        Kind::StatefulSet => is_owned("StatefulSet", &named),
        Kind::DaemonSet => is_owned("DaemonSet", &named),
        Kind::ReplicaSet => is_owned("ReplicaSet", &named),
        Kind::Service => row.is_behind(&Front::Service(key.clone())),
        Kind::Ingress => row.is_behind(&Front::Ingress(key.clone())),
    }
}

fn pod(row: &Row) -> v1::PodTimeline {
    let at = |point| row.points.get(point).map(time);
    let facts = &row.facts;
    let owner = facts.owner.as_ref();
    v1::PodTimeline {
        namespace: facts.key.namespace.to_string(),
        name: facts.key.name.to_string(),
        uid: facts.uid.to_string(),
        owner: owner
            .map(|owner| format!("{}/{}", owner.kind, owner.name))
            .unwrap_or_default(),
        created: (facts.created != 0).then_some(prost_types::Timestamp {
            seconds: facts.created,
            nanos: 0,
        }),
        gated: row.is_gated,
        endpoint: at(Point::Endpoint),
        bound: at(Point::Bound),
        probed: at(Point::Probed),
        healthy: at(Point::Healthy),
        gate_opened: at(Point::GateOpened),
        connected: at(Point::Connected),
        terminating: at(Point::Terminating),
        closed: at(Point::Closed),
        empty: at(Point::Empty),
        gone: at(Point::Gone),
    }
}

fn time(at: Timestamp) -> prost_types::Timestamp {
    let mut wire = prost_types::Timestamp {
        seconds: at.as_second(),
        nanos: at.subsec_nanosecond(),
    };
    wire.normalize();
    wire
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Arc;

    use podline_api::{Backend, BackendId, BackendKey, BackendSet, SetSettings, Weight};

    use super::*;
    use crate::cluster::pod::Owner;
    use crate::cluster::testing::key;
    use crate::timeline::book::Seen;
    use crate::timeline::row::Facts;

    fn facts(name: &str, owner: Option<(&str, &str)>) -> Facts {
        let owner = owner.map(|(kind, name)| Owner {
            kind: kind.to_owned(),
            name: name.to_owned(),
            uid: String::new(),
        });
        Facts {
            key: key(&format!("shop/{name}")),
            uid: name.into(),
            owner: owner.map(Arc::new),
            created: 5,
            waits: name == "web-1-a",
            deleted: None,
        }
    }

    fn book() -> Book {
        let mut book = Book::default();
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        book.begin(Some(at(0)));
        let pods = [
            facts("web-1-b", Some(("ReplicaSet", "web-1"))),
            facts("web-1-a", Some(("ReplicaSet", "web-1"))),
            facts("web-x-2-a", Some(("ReplicaSet", "web-x-2"))),
            facts("db-0", Some(("StatefulSet", "db"))),
            facts("log-x", Some(("DaemonSet", "log"))),
            facts("bare", None),
        ];
        let backends: Vec<_> = pods
            .iter()
            .zip(1..)
            .map(|(pod, n)| Backend {
                key: BackendKey {
                    id: Some(BackendId::try_from(&*pod.uid).unwrap()),
                    address: ([10, 244, 0, n], 80).into(),
                },
                weight: Weight::try_from(10).unwrap(),
                node: None,
            })
            .collect();
        let seen = |set: &str, backends: &[Backend]| {
            let set = BackendSet {
                name: set.parse().unwrap(),
                settings: SetSettings::default(),
                backends: backends.to_vec(),
            };
            Seen {
                sets: vec![Arc::new(set)],
                version: 1,
                at: Some(at(10)),
            }
        };
        let facts: HashMap<_, _> = pods.into_iter().map(|pod| (pod.uid.clone(), pod)).collect();
        let front = Front::Service(key("shop/front"));
        let all = seen("shop/front/tcp/80", &backends);
        book.front(&front, all, &facts, at(10));
        let front = Front::Ingress(key("shop/front"));
        let last = seen("shop/front/ingress/web/80", &backends[5..]);
        book.front(&front, last, &facts, at(10));
        book
    }

    fn request(kind: Kind, namespace: &str, name: &str) -> v1::TimelineRequest {
        v1::TimelineRequest {
            kind: kind.into(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }

    #[test]
    fn pods_are_found_by_who_made_them() {
        let book = book();
        let check = |kind, name: &str, expected: &[&str]| {
            let answer = answer(&book, &request(kind, "shop", name)).unwrap();
            let names: Vec<_> = answer.pods.iter().map(|pod| pod.name.as_str()).collect();
            assert_eq!(names, expected);
        };
        check(Kind::Deployment, "web", &["web-1-a", "web-1-b"]);
        check(Kind::Deployment, "web-x", &["web-x-2-a"]);
        check(Kind::ReplicaSet, "web-1", &["web-1-a", "web-1-b"]);
        check(Kind::StatefulSet, "db", &["db-0"]);
        check(Kind::DaemonSet, "log", &["log-x"]);
        check(Kind::Pod, "bare", &["bare"]);
        let all = ["bare", "db-0", "log-x", "web-1-a", "web-1-b", "web-x-2-a"];
        check(Kind::Service, "front", &all);
        check(Kind::Ingress, "front", &["bare"]);
    }

    #[test]
    fn a_pod_is_told_with_its_points() {
        let answer = answer(&book(), &request(Kind::Pod, "shop", "web-1-a")).unwrap();
        let pod = &answer.pods[0];
        assert_eq!((pod.owner.as_str(), pod.gated), ("ReplicaSet/web-1", true));
        let seconds =
            |time: &Option<prost_types::Timestamp>| time.as_ref().map(|time| time.seconds);
        assert_eq!(seconds(&pod.created), Some(5));
        assert_eq!(
            (seconds(&pod.endpoint), seconds(&pod.bound)),
            (Some(10), None)
        );
    }

    #[test]
    fn what_cannot_be_answered_is_refused_with_the_reason() {
        let book = book();
        let refused = |kind, namespace: &str, name: &str| {
            answer(&book, &request(kind, namespace, name)).unwrap_err()
        };
        assert_eq!(refused(Kind::Unspecified, "shop", "web"), Refused::Kind);
        let Refused::NotFound(words) = refused(Kind::Deployment, "shop", "wbe") else {
            panic!("it is not there");
        };
        assert!(
            words.starts_with("no Pod of Deployment shop/wbe was bound"),
            "{words}"
        );
        assert!(matches!(
            refused(Kind::Pod, "other", "bare"),
            Refused::NotFound(_)
        ));
        let follower = Book::default();
        let asked = request(Kind::Pod, "shop", "bare");
        assert_eq!(answer(&follower, &asked), Err(Refused::NotLeader));
    }
}
