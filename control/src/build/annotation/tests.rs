//! The table of annotations, and how their values are read.

use super::*;

fn service(annotations: &[(&str, &str)]) -> Service {
    let annotations = annotations
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    Service {
        annotations: annotations.collect(),
        ..crate::cluster::testing::service("default/web")
    }
}

#[test]
fn a_value_that_cannot_be_read_leaves_the_last_one() {
    let good = Read::of(&service(&[(DIRECT_ACCESS, "true")]), None);
    assert_eq!((good.settings.direct, good.last_good()), (Some(true), None));
    let bad = Read::of(&service(&[(DIRECT_ACCESS, "ture")]), Some(&good));
    assert_eq!(bad.settings.direct, Some(true));
    assert!(
        bad.problems[0].problem.contains("\"ture\""),
        "{:?}",
        bad.problems
    );
    // After a restart nothing is remembered but what the Service itself holds.
    let kept = bad.last_good().unwrap();
    let again = service(&[(DIRECT_ACCESS, "ture"), (LAST_GOOD, &kept)]);
    let again = Read::of(&again, None);
    assert_eq!(
        (again.settings.direct, again.last_good()),
        (Some(true), Some(kept))
    );
    let gone = Read::of(&service(&[]), Some(&again));
    assert_eq!((gone.settings.direct, gone.last_good()), (None, None));
}

#[test]
fn hostile_values_are_refused_and_shown_in_part() {
    let long = "é".repeat(50_000);
    for text in ["", "TRUE", "1", "{\"a\":", long.as_str(), "\0\u{202e}"] {
        let read = Read::of(&service(&[(DIRECT_ACCESS, text), (LAST_GOOD, text)]), None);
        assert_eq!(read.settings, Settings::default());
        assert!(read.problems[0].problem.len() < 400);
    }
}

#[test]
fn what_is_nearly_right_is_refused_in_words() {
    const FROM: &str = "podline.io/proxy-protocol-from";
    const HEADER: &str = "podline.io/proxy-protocol";
    const CHECK: &str = "podline.io/udp-check";
    const SLEEP: &str = "podline.io/pre-stop-sleep";
    let many: Vec<_> = (0..1_001)
        .map(|n| format!("10.{}.{}.0/24", n / 256, n % 256))
        .collect();
    let check = |key: &'static str, text: &str, expected: &str| {
        let read = Read::of(&service(&[(key, text)]), None);
        let problem = read.problems.first().map_or("", |it| it.problem.as_str());
        assert_eq!(problem, expected, "{text}");
        assert_eq!(problem.is_empty(), read.settings != Settings::default());
    };
    check(HEADER, "v1", "");
    check(HEADER, "v2,unique-id,crc32c", "");
    check(HEADER, "v1,crc32c", "crc32c is for \"v2\"");
    check(HEADER, "v3", "\"v3\" is neither \"v1\" nor \"v2\"");
    check(
        HEADER,
        "v2,",
        "\"\" is neither \"crc32c\" nor \"unique-id\"",
    );
    check(
        HEADER,
        "v2,tls",
        "\"tls\" is neither \"crc32c\" nor \"unique-id\"",
    );
    check(FROM, "10.0.0.0/8, 192.0.2.1", "");
    check(FROM, "", "\"\" is no network");
    check(FROM, "10.0.0.0/8,", "\"\" is no network");
    check(
        FROM,
        "10.0.0.0/8,10.0.0.0/33",
        "\"10.0.0.0/33\" is no network",
    );
    check(FROM, &many.join(","), "more than 1000 networks");
    check(SOURCE_ADDRESS, "prefer-transparent", "");
    check(SLEEP, "1s", "");
    check(SLEEP, "10m", "");
    for text in ["0s", "1500ms", "11m"] {
        let problem = format!("{text:?} is not whole seconds from 1s to 10m");
        check(SLEEP, text, &problem);
    }
    check(
        SLEEP,
        "5",
        "\"5\" is not a duration: write 500ms, 5s, 15m or 3h",
    );
    check(CHECK, "", "");
    check(CHECK, "PING => PONG", "");
    check(CHECK, "hex:00fF => hex:00", "");
    check(CHECK, "hex:0", "\"hex:0\" is no hex");
    check(CHECK, "hex:+1", "\"hex:+1\" is no hex");
    check(CHECK, "a => ", "\"a => \" expects nothing");
    check(CHECK, "a => hex:zz", "\"hex:zz\" is no hex");
    check(
        CHECK,
        &"é".repeat(251),
        &format!("{:?} is longer than 500 bytes", shorten(&"é".repeat(251))),
    );
    let none = "\"yes\" is none of \"snat\", \"prefer-transparent\" and \"transparent\"";
    check(SOURCE_ADDRESS, "yes", none);
    for key in [FROM, HEADER, SLEEP, SOURCE_ADDRESS] {
        for text in [
            "é".repeat(50_000),
            "10.0.0.1,".repeat(1_500),
            "v2,crc32c,".repeat(1_500),
        ] {
            let read = Read::of(&service(&[(key, &text)]), None);
            assert_eq!(read.settings, Settings::default());
            assert!(read.problems[0].problem.len() < 400);
        }
    }
}

#[test]
fn a_problem_shows_the_offending_text_and_not_too_much_of_it() {
    const NODES: &str = "service.kubernetes.io/qcloud-loadbalancer-backends-label";
    for text in [
        "((brackets",
        "",
        "a=b c",
        &format!("k in ({}", "v".repeat(9_000)),
    ] {
        let read = Read::of(&service(&[(NODES, text)]), None);
        let problem = &read.problems[0].problem;
        let start = &text[..text.len().min(60)];
        assert!(problem.contains(start) && problem.len() < 400, "{problem}");
    }
}

#[test]
fn every_annotation_stands_once_and_says_something() {
    for (i, annotation) in TABLE.iter().enumerate() {
        assert!(annotation.about.ends_with('.'), "{}", annotation.key);
        assert!(TABLE[..i].iter().all(|other| other.key != annotation.key));
    }
}
