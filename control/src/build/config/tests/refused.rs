//! What an object says and cannot be: it is told, and the last good value stays.

use super::*;

#[test]
fn what_cannot_be_is_told_and_the_last_good_value_stays() {
    let check = |world: &mut World, fields: &str, expected: &[&str]| {
        world.config(
            "a/shop",
            Some(&format!(
                "{{loadBalancer: {{l4Listeners: [{{{TCP}, {fields}}}]}}}}"
            )),
        );
        let expected: Vec<_> = expected
            .iter()
            .map(|words| {
                words
                    .replace(": ", ": TkeServiceConfig shop: ")
                    .replacen('|', ":", 9)
            })
            .collect();
        assert_eq!(world.notes(), expected, "{fields}");
    };
    let mut world = l4(
        TCP,
        "scheduler: LEAST_CONN, healthCheck: {intervalTime: 10, timeout: 4}",
    );
    let least = Policy::LeastConnections;
    check(
        &mut world,
        "scheduler: SH",
        &[
            "ServiceConfigInvalid: l4Listeners[0].scheduler| \"SH\" is none of WRR, LEAST_CONN; the last good value stays",
        ],
    );
    assert_eq!(world.set("tcp/80").settings.policy, least);
    check(
        &mut world,
        "healthCheck: {intervalTime: 10, timeout: 10}",
        &[
            "ServiceConfigInvalid: TCP/80| healthCheck.timeout 10 is not less than the intervalTime 10| 9 is nearest; the last good value stays",
        ],
    );
    let times = |world: &World| {
        let check = check_of(world.set("tcp/80"));
        (check.interval.as_secs(), check.timeout.as_secs())
    };
    assert_eq!(times(&world), (10, 4));
    check(
        &mut world,
        "healthCheck: {intervalTime: 4}",
        &[
            "ServiceConfigInvalid: TCP/80| healthCheck.intervalTime 4 is not more than the timeout 4| 5 is nearest; the last good value stays",
        ],
    );
    assert_eq!(times(&world), (10, 4));
    // One of both can be with the other as it was.
    check(
        &mut world,
        "healthCheck: {intervalTime: 20, timeout: 30}",
        &[
            "ServiceConfigInvalid: TCP/80| healthCheck.timeout 30 is not less than the intervalTime 20| 19 is nearest; the last good value stays",
        ],
    );
    assert_eq!(times(&world), (20, 4));
    check(
        &mut world,
        "healthCheck: {checkType: CUSTOM, sourceIpType: 1}",
        &[
            "ServiceConfigNotApplied: not applied| healthCheck.checkType CUSTOM, which is for UDP alone, of TCP/80",
            "ServiceConfigNotApplied: not applied| healthCheck.sourceIpType| Probes come from the proxy's own address.",
        ],
    );
    check(
        &mut world,
        "healthCheck: {intervalTime: 3, timeout: 2}, session: {enable: true}",
        &[
            "ServiceConfigUnusual: TCP/80| healthCheck.intervalTime 3 holds here; a cloud may want 5 at least",
            "ServiceConfigUnusual: TCP/80| session and scheduler LEAST_CONN both hold here; a cloud has one or the other",
        ],
    );
    assert_eq!(times(&world), (3, 2));
}

#[test]
fn a_wildcard_has_to_say_whom_probes_ask_for() {
    let told = |fields: &str| rule(81, "*.b.example", fields).notes();
    let expected = "ServiceConfigInvalid: TkeServiceConfig shop: HTTP/81 *.b.example /: healthCheck.httpCheckDomain is missing: the domain is a wildcard, which no probe can ask for; the last good value stays";
    for fields in [
        "healthCheck: {enable: true}",
        "healthCheck: {httpCode: 2}",
        "healthCheck: {checkType: HTTP}",
    ] {
        assert_eq!(told(fields), [expected], "{fields}");
    }
    for fields in [
        "healthCheck: {enable: true, httpCheckDomain: x.b.example}",
        "healthCheck: {enable: true, checkType: TCP}",
        "healthCheck: {enable: false, httpCode: 2}",
        "scheduler: WRR",
    ] {
        assert_eq!(told(fields), [""; 0], "{fields}");
    }
    let good = "healthCheck: {enable: true, checkType: TCP, intervalTime: 9}";
    let mut world = rule(81, "*.b.example", good);
    let before = check_of(world.set("tcp/81")).clone();
    assert_eq!(
        (&before.kind, before.interval),
        (&CheckKind::Tcp, seconds(9))
    );
    let wrong = of_rule(81, "*.b.example", "healthCheck: {checkType: HTTP}");
    world.config("a/shop", Some(&wrong));
    assert_eq!(world.notes(), [expected]);
    assert_eq!(*check_of(world.set("tcp/81")), before);
}

#[test]
fn what_does_not_suit_datagrams_is_told() {
    let world = l4(
        UDP,
        "deregisterTargetRst: true, proxyProtocol: {enable: true}, healthCheck: {checkPort: 1}",
    );
    assert_eq!(
        world.notes(),
        [
            "deregisterTargetRst, which is not for datagrams,",
            "healthCheck.checkPort, which a ping has not,",
            "proxyProtocol.enable, which is not for datagrams,",
        ]
        .map(|what| format!(
            "ServiceConfigNotApplied: TkeServiceConfig shop: not applied: {what} of UDP/53"
        ))
    );
    let world = l4(
        UDP,
        "healthCheck: {checkType: CUSTOM, contextType: HEX, sendContext: XY}",
    );
    assert!(world.notes()[0].contains("in pairs of hexadecimal digits"));
}
