//! Whole manifests, and what is said of them.

use serde_json::Value;

use super::*;
use crate::build::annotation::{Annotation, TABLE, ingress};

const EXPORTED: &str = include_str!("../../../tests/tke/exported.yaml");

/// `object what: verdict` of every item.
fn told(text: &str) -> Vec<String> {
    let found = documents::read(text).unwrap();
    let told = found.iter().flat_map(|found| {
        let items = look::look(&found.value).unwrap();
        let object = look::name(&found.value);
        let told = items.into_iter();
        told.map(move |item| format!("{object} {}: {}", item.what, item.verdict.word()))
    });
    told.collect()
}

#[test]
fn each_annotation_and_field_has_its_verdict() {
    assert_eq!(
        told(EXPORTED),
        [
            "Service default/shop service.cloud.tencent.com/client-token: ignored",
            "Service default/shop service.cloud.tencent.com/direct-access: honoured",
            "Service default/shop service.cloud.tencent.com/lb-rs-weight: refused",
            "Service default/shop service.cloud.tencent.com/security-groups: approximated",
            "Service default/shop service.cloud.tencent.com/something-new: ignored",
            "Service default/shop service.cloud.tencent.com/sync-begin-time: ignored",
            "Service default/shop service.cloud.tencent.com/sync-end-time: ignored",
            "Service default/shop service.kubernetes.io/loadbalance-id: written",
            "Service default/shop service.kubernetes.io/tke-existed-lbid: honoured",
            "Service default/shop spec.sessionAffinity: honoured",
            "Service default/shop spec.externalTrafficPolicy: honoured",
            "Ingress default/shop spec: approximated",
            "Ingress default/shop ingress.cloud.tencent.com/direct-access: honoured",
            "Ingress default/shop kubernetes.io/ingress.class: honoured",
            "TkeServiceConfig default/shop spec.loadBalancer.l4Listeners[0].port: honoured",
            "TkeServiceConfig default/shop spec.loadBalancer.l4Listeners[0].protocol: honoured",
            "TkeServiceConfig default/shop spec.loadBalancer.l4Listeners[0].session.enable: honoured",
            "TkeServiceConfig default/shop spec.loadBalancer.l4Listeners[0].session.sessionExpireTime: honoured",
            "ConfigMap default/other all of it: not looked at",
        ]
    );
}

#[test]
fn verdicts_are_those_of_the_controllers_tables() {
    let check = |head: &str, table: &[Annotation]| {
        for annotation in table {
            let key = annotation.key;
            let text = format!(
                "{head}\nmetadata:\n  name: a\n  annotations: {{\"{key}\": \"\"}}\nspec: {{type: LoadBalancer}}\n"
            );
            let found = documents::read(&text).unwrap();
            let items = look::look(&found[0].value).unwrap();
            let item = items.iter().find(|item| item.what == key).unwrap();
            if item.verdict != Verdict::Refused {
                assert_eq!(item.verdict, annotation.effect.into());
                assert_eq!(item.why, annotation.about);
            }
        }
    };
    check("apiVersion: v1\nkind: Service", TABLE);
    let ingress = "apiVersion: networking.k8s.io/v1\nkind: Ingress";
    check(ingress, ingress::TABLE);
}

#[test]
fn an_ingress_is_told_and_written_by_its_own_table() {
    let text = "
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: a
  annotations:
    ingress.cloud.tencent.com/direct-access: true
    ingress.cloud.tencent.com/lb-rs-weight: '{'
    ingress.cloud.tencent.com/tke-service-config: shop
    kubernetes.io/ingress.internetChargeType: x
    podline.io/kept-config: '{}'
spec: {}
";
    let told = told(text);
    let verdicts: Vec<_> = told
        .iter()
        .map(|it| it.rsplit(' ').next().unwrap())
        .collect();
    let expected = [
        "approximated",
        "honoured",
        "refused",
        "honoured",
        "ignored",
        "written",
    ];
    assert_eq!(verdicts, expected, "{told:?}");
    let mut found = documents::read(text).unwrap().remove(0);
    let changes = adapt::adapt(&mut found.value).unwrap();
    assert_eq!(
        changes,
        [
            "annotation ingress.cloud.tencent.com/direct-access quoted: \"true\"",
            "annotation kubernetes.io/ingress.internetChargeType taken out: billing.",
            "annotation podline.io/kept-config taken out: What TkeServiceConfigs have set so far; it stays when they or the annotations that name them go.",
        ]
    );
    let kept = found.value["metadata"]["annotations"].as_object().unwrap();
    assert_eq!(kept.len(), 3);
}

#[test]
fn what_is_no_text_is_to_be_quoted() {
    let text = "
apiVersion: v1
kind: Service
metadata:
  name: a
  annotations: {service.cloud.tencent.com/direct-access: true}
spec: {type: LoadBalancer, loadBalancerClass: other}
";
    let mut found = documents::read(text).unwrap().remove(0);
    let items = look::look(&found.value).unwrap();
    assert_eq!(items[0].verdict, Verdict::Honoured);
    assert!(
        items[0]
            .why
            .starts_with("the value has to be quoted, \"true\"; ")
    );
    let changes = adapt::adapt(&mut found.value).unwrap();
    assert_eq!(
        changes,
        [
            "annotation service.cloud.tencent.com/direct-access quoted: \"true\"",
            "spec.loadBalancerClass: other kept, so it stays another controller's",
        ]
    );
    let annotations = &found.value["metadata"]["annotations"];
    assert_eq!(
        annotations["service.cloud.tencent.com/direct-access"],
        "true"
    );
}

#[test]
fn manifests_are_written_as_they_are_to_be_applied() {
    let mut found = documents::read(EXPORTED).unwrap();
    let mut changes = adapt::adapt(&mut found[0].value).unwrap();
    for change in &mut changes {
        *change = change.split(": ").next().unwrap().to_owned();
    }
    assert_eq!(
        changes,
        [
            "status taken out",
            "metadata.creationTimestamp taken out",
            "metadata.resourceVersion taken out",
            "metadata.uid taken out",
            "annotation kubectl.kubernetes.io/last-applied-configuration taken out",
            "annotation service.cloud.tencent.com/client-token taken out",
            "annotation service.cloud.tencent.com/sync-begin-time taken out",
            "annotation service.cloud.tencent.com/sync-end-time taken out",
            "annotation service.kubernetes.io/loadbalance-id taken out",
            "label service.cloud.tencent.com/loadbalance-type taken out",
            "TKE's finalizer taken out",
            "spec.loadBalancerClass",
            "spec.clusterIP taken out",
        ]
    );
    let service = &found[0].value;
    assert_eq!(service["spec"]["loadBalancerClass"], "podline.io/clb");
    assert_eq!(service["spec"]["ports"][0]["nodePort"], 31000);
    let kept = service["metadata"]["annotations"].as_object().unwrap();
    let kept: Vec<_> = kept.keys().collect();
    assert_eq!(
        kept,
        [
            "prometheus.io/scrape",
            "service.cloud.tencent.com/direct-access",
            "service.cloud.tencent.com/lb-rs-weight",
            "service.cloud.tencent.com/security-groups",
            "service.cloud.tencent.com/something-new",
            "service.kubernetes.io/tke-existed-lbid",
        ]
    );
    // Once more changes nothing.
    assert_eq!(adapt::adapt(&mut found[0].value).unwrap(), [""; 0]);
    for other in &mut found[1..] {
        let before = other.value.clone();
        assert_eq!(adapt::adapt(&mut other.value).unwrap(), [""; 0]);
        assert_eq!(other.value, before);
    }
    // What is written reads as the same.
    let text = serde_saphyr::to_string(&found[0].value).unwrap();
    assert_eq!(documents::read(&text).unwrap()[0].value, found[0].value);
}

#[test]
fn what_is_not_of_its_kinds_shape_is_told() {
    let problem = |text: &str| {
        let found = documents::read(text).unwrap();
        look::look(&found[0].value).unwrap_err()
    };
    let of = |rest: &str| format!("{{apiVersion: v1, kind: Service, {rest}}}");
    assert_eq!(problem(&of("spec: {}")), "metadata.name: is required");
    assert_eq!(
        problem(&of("metadata: {name: a, annotations: [b]}")),
        "metadata.annotations: must hold fields"
    );
    assert_eq!(
        problem(&of("metadata: {name: a, annotations: {b: [c]}}")),
        "metadata.annotations.b: must be a text"
    );
    let ports = problem(&of("metadata: {name: a}, spec: {ports: 7}"));
    assert!(ports.starts_with("spec.ports: "), "{ports}");
    let spec = problem(&of("metadata: {name: a}, spec: 7"));
    assert_eq!(spec, "spec: must hold fields");
    let labels = problem(&of("metadata: {name: a, labels: 7}"));
    assert!(labels.starts_with("metadata.labels: "), "{labels}");
    assert_eq!(
        problem(
            "{apiVersion: cloud.tencent.com/v1alpha1, kind: TkeServiceConfig, metadata: {name: a}, spec: 7}"
        ),
        "spec: must hold fields"
    );
}

#[test]
fn files_are_read_and_told_as_a_table_or_as_json() {
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);
    impl io::Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tke.yaml");
    std::fs::write(&path, EXPORTED).unwrap();
    let file = path.to_str().unwrap().to_owned();
    let run = |file: &str, write, format| {
        let buffer = Buffer::default();
        let mut screen = Screen::new(Box::new(buffer.clone()), format, false);
        let args = Args {
            files: vec![file.to_owned()],
            write,
        };
        let result = run(&args, &mut screen);
        let text = String::from_utf8(buffer.0.lock().unwrap().clone()).unwrap();
        (result.map_err(|failure| failure.explain()), text)
    };
    let (result, text) = run(&file, false, Format::Table);
    assert_eq!(result, Ok(Exit::Done));
    let header = text.lines().next().unwrap();
    assert!(header.starts_with("OBJECT "), "{text}");
    let last = text.lines().last().unwrap();
    assert_eq!(
        last,
        "19 annotations and fields: 10 honoured, 2 approximated, 4 ignored, 1 written, 1 refused, 1 not looked at"
    );
    let (result, text) = run(&file, false, Format::Json);
    assert_eq!(result, Ok(Exit::Done));
    let items: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(items[0]["verdict"], "ignored");
    assert_eq!(items[0]["place"], "document 1, items[0]");
    let (result, text) = run(&file, true, Format::Table);
    assert_eq!(result, Ok(Exit::Done));
    assert_eq!(documents::read(&text).unwrap().len(), 4);

    let (result, _) = run(&file, true, Format::Json);
    assert_eq!(
        result.unwrap_err(),
        "error: --write prints manifests: leave --output out\n"
    );
    let (result, _) = run("/nowhere", false, Format::Table);
    assert!(
        result
            .unwrap_err()
            .starts_with("error: cannot read /nowhere: ")
    );
    std::fs::write(&path, "a: b").unwrap();
    let (result, _) = run(&file, false, Format::Table);
    assert_eq!(
        result.unwrap_err(),
        format!("error: {file}: document 1: apiVersion: is required\n")
    );
}
