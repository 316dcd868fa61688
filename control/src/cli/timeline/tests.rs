//! Timelines as people and programs read them.

use super::*;

/// A moment, so many milliseconds after 14:13:20 of a day.
fn at(ms: i64) -> Timestamp {
    let seconds = 1_700_000_000 - 8 * 3_600 + ms.div_euclid(1_000);
    let nanos = i32::try_from(ms.rem_euclid(1_000)).unwrap() * 1_000_000;
    Timestamp { seconds, nanos }
}

fn pod(name: &str, points: [Option<i64>; 6]) -> Pod {
    let [endpoint, bound, probed, healthy, gate_opened, connected] = points.map(|ms| ms.map(at));
    Pod {
        namespace: "shop".to_owned(),
        name: name.to_owned(),
        endpoint,
        bound,
        probed,
        healthy,
        gate_opened,
        connected,
        ..Pod::default()
    }
}

fn answer() -> v1::TimelineResponse {
    let going = Pod {
        terminating: Some(at(60_000)),
        closed: Some(at(59_988)),
        empty: Some(at(75_300)),
        gone: Some(at(90_000)),
        ..pod(
            "web-1-b",
            [Some(1), Some(12), Some(20), Some(400), None, Some(20_001)],
        )
    };
    let old = Pod {
        gone: Some(at(61_000)),
        ..pod("web-0-z", [None; 6])
    };
    let first = [Some(0), Some(9), Some(14), Some(311), Some(318), Some(402)];
    v1::TimelineResponse {
        pods: vec![
            old,
            pod("web-1-a", first),
            going,
            pod("web-1-\x1b[c", [Some(2), None, None, None, None, None]),
        ],
        since: Some(at(-5_000)),
    }
}

#[test]
fn pods_are_shown_coming_and_going() {
    let text = "\
POD        SEEN          BOUND  PROBED  HEALTHY    GATE  CONNECTED
web-0-z    -                 -       -        -       -          -
web-1-a    14:13:20.000   9 ms   14 ms   311 ms  318 ms     402 ms
web-1-b    14:13:20.001  11 ms   19 ms   399 ms       -     20.0 s
web-1- [c  14:13:20.002      -       -        -       -          -
p50                       9 ms   14 ms   311 ms  318 ms     402 ms
max                      11 ms   19 ms   399 ms  318 ms     20.0 s

POD      TERMINATING   CLOSED   EMPTY          GONE
web-0-z  -                  -       -  14:14:21.000
web-1-b  14:14:20.000  -12 ms  15.3 s        30.0 s
p50                    -12 ms  15.3 s        30.0 s
max                    -12 ms  15.3 s        30.0 s

4 Pods; what came before 2023-11-14T14:13:15Z was not seen
";
    assert_eq!(render(&answer()), text);
}

#[test]
fn one_pod_that_lives_has_one_line() {
    let mut answer = answer();
    answer.pods.drain(2..);
    answer.pods.remove(0);
    let text = "\
POD      SEEN          BOUND  PROBED  HEALTHY    GATE  CONNECTED
web-1-a  14:13:20.000   9 ms   14 ms   311 ms  318 ms     402 ms

1 Pod; what came before 2023-11-14T14:13:15Z was not seen
";
    assert_eq!(render(&answer), text);
}

#[test]
fn programs_read_json() {
    let mut answer = answer();
    answer.pods.truncate(2);
    let json = serde_json::to_value(&answer).unwrap();
    assert_eq!(json["pods"][1]["name"], "web-1-a");
    assert_eq!(json["pods"][1]["gateOpened"], "2023-11-14T14:13:20.318Z");
    assert!(
        json["pods"][1]
            .get("gone")
            .is_none_or(serde_json::Value::is_null)
    );
}

#[test]
fn whose_pods_is_read_and_a_typo_is_told() {
    let check = |text: &str, kind, namespace: &str, name: &str| {
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        let expected = Pods {
            kind,
            namespace,
            name,
        };
        assert_eq!(parse(text), Ok(expected));
    };
    check("pod/shop/web-1-a", Kind::Pod, "shop", "web-1-a");
    check("deploy/shop/web", Kind::Deployment, "shop", "web");
    check("sts/shop/db", Kind::StatefulSet, "shop", "db");
    check(
        "daemonset/kube-system/log",
        Kind::DaemonSet,
        "kube-system",
        "log",
    );
    check("replicaset/shop/web-1", Kind::ReplicaSet, "shop", "web-1");
    check("service/shop/web", Kind::Service, "shop", "web");
    check("ingress/shop/web", Kind::Ingress, "shop", "web");
    let wrong = parse("deploymnet/shop/web").unwrap_err();
    assert_eq!(wrong, format!("unknown kind \"deploymnet\": {USE}"));
    for text in [
        "",
        "pod",
        "pod/web",
        "pod//web",
        "pod/shop/",
        "pod/shop/web/x",
    ] {
        assert!(parse(text).unwrap_err().ends_with(USE), "{text}");
    }
}

#[test]
fn long_times_are_rounded() {
    let check = |ms, text: &str| assert_eq!(span(ms), text);
    check(0, "0 ms");
    check(9_999, "9999 ms");
    check(-10_050, "-10.0 s");
    check(599_999, "599.9 s");
    check(3_600_000, "60 min");
    assert_eq!(quantile(&mut [], 50), None);
    assert_eq!(quantile(&mut [3, 1, 2], 50), Some(2));
    assert_eq!(quantile(&mut [3, 1, 2], 100), Some(3));
}
