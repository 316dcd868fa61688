//! Whatever the API server's calls of the webhooks need is there, and comes back when it is damaged or deleted.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Pod, Secret, Service};
use k8s_openapi::api::events::v1::Event;
use kube::Api;
use kube::api::{
    ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams,
};
use kube::core::GroupVersionKind;
use podline_control::installation::{WEBHOOK_CA_SECRET, WEBHOOK_SECRET, WEBHOOK_SERVICE, WEBHOOKS};
use podline_lab::wait;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    date_time_ymd,
};
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

use crate::harness::LONG;
use crate::harness::scene::{SYSTEM, Scene};

pub(crate) const MUTATING: &str = "MutatingWebhookConfiguration";
pub(crate) const VALIDATING: &str = "ValidatingWebhookConfiguration";
/// By whom everything here is damaged.
const VANDAL: &str = "vandal";

fn api(client: kube::Client, kind: &str) -> Api<DynamicObject> {
    let group = "admissionregistration.k8s.io";
    let plural = kind.to_lowercase() + "s";
    let kind = GroupVersionKind::gvk(group, "v1", kind);
    Api::all_with(client, &ApiResource::from_gvk_with_plural(&kind, &plural))
}

fn configuration(scene: &Scene, kind: &'static str) -> Option<Value> {
    scene.run(|client, _| async move {
        let found = api(client, kind).get_opt(WEBHOOKS).await.unwrap();
        found.map(|found| serde_json::to_value(found).unwrap())
    })
}

fn secret(scene: &Scene, name: &'static str) -> Option<BTreeMap<String, Vec<u8>>> {
    scene.run(move |client, _| async move {
        let api = Api::<Secret>::namespaced(client, SYSTEM);
        let secret = api.get_opt(name).await.unwrap()?;
        let data = secret.data.unwrap_or_default().into_iter();
        Some(data.map(|(key, value)| (key, value.0)).collect())
    })
}

fn service(scene: &Scene) -> Option<Service> {
    scene.run(|client, _| async move {
        let api = Api::<Service>::namespaced(client, SYSTEM);
        api.get_opt(WEBHOOK_SERVICE).await.unwrap()
    })
}

/// All that has to be there, without what is drawn anew each time.
#[derive(Debug, PartialEq)]
pub(crate) struct Objects {
    configurations: Vec<Value>,
    service: Value,
}

/// What there is, if it fits together: what is served is trusted by what every configuration says.
pub(crate) fn take(scene: &Scene) -> Result<Objects, String> {
    let leaf = secret(scene, WEBHOOK_SECRET).ok_or("no Secret")?;
    let authority = secret(scene, WEBHOOK_CA_SECRET).ok_or("no CA")?;
    let mut configurations = Vec::new();
    for kind in [MUTATING, VALIDATING] {
        let mut found = configuration(scene, kind).ok_or(kind)?;
        let webhooks = found["webhooks"].as_array_mut().ok_or("no webhooks")?;
        for webhook in webhooks {
            let bundle = webhook["clientConfig"]["caBundle"].take();
            let bundle: ByteString = serde_json::from_value(bundle).map_err(|e| e.to_string())?;
            check(&leaf, &bundle.0)?;
            if authority.get("ca.crt") != Some(&bundle.0) {
                return Err("the bundle is another CA's".to_owned());
            }
        }
        configurations.push(found["webhooks"].take());
    }
    let found = service(scene).ok_or("no Service")?;
    let spec = found.spec.ok_or("no spec")?;
    let service = json!([spec.selector, spec.ports, spec.type_]);
    Ok(Objects {
        configurations,
        service,
    })
}

/// Whether the API server, which trusts the bundle, takes the leaf for the webhooks'.
fn check(leaf: &BTreeMap<String, Vec<u8>>, bundle: &[u8]) -> Result<(), String> {
    let told = |error: &dyn std::fmt::Debug| format!("{error:?}");
    let (der, key) = (leaf.get("tls.crt"), leaf.get("tls.key"));
    let der = CertificateDer::from_pem_slice(der.ok_or("no certificate")?).map_err(|e| told(&e))?;
    let read = EndEntityCert::try_from(&der).map_err(|e| told(&e))?;
    let roots = CertificateDer::pem_slice_iter(bundle).collect::<Result<Vec<_>, _>>();
    let roots = roots.map_err(|e| told(&e))?;
    let anchors: Vec<_> = roots
        .iter()
        .filter_map(|root| anchor_from_trusted_cert(root).ok())
        .collect();
    let (usage, now) = (KeyUsage::server_auth(), UnixTime::now());
    read.verify_for_usage(
        &[webpki::ring::ECDSA_P256_SHA256],
        &anchors,
        &[],
        now,
        usage,
        None,
        None,
    )
    .map_err(|e| told(&e))?;
    let name = format!("{WEBHOOK_SERVICE}.{SYSTEM}.svc");
    let name = ServerName::try_from(name).map_err(|e| told(&e))?;
    read.verify_is_valid_for_subject_name(&name)
        .map_err(|e| told(&e))?;
    let key = String::from_utf8_lossy(key.ok_or("no key")?).into_owned();
    let key = KeyPair::from_pem(&key).map_err(|e| told(&e))?;
    let own = read.subject_public_key_info();
    if own.as_ref() != rcgen::PublicKeyData::subject_public_key_info(&key) {
        return Err("it is another certificate's key".to_owned());
    }
    Ok(())
}

/// The first complete registration.
pub(crate) fn registered(scene: &Scene) -> Objects {
    let mut last = Err("nothing".to_owned());
    wait::until(LONG, "everything is registered", || {
        last = take(scene);
        last.is_ok()
    });
    last.unwrap()
}

/// Events of our own objects: what about, reason and words.
fn told(scene: &Scene) -> Vec<String> {
    scene.run(|client, _| async move {
        let mut told = Vec::new();
        for namespace in ["default", SYSTEM] {
            let api = Api::<Event>::namespaced(client.clone(), namespace);
            let list = api.list(&ListParams::default()).await.unwrap();
            let ours = list
                .items
                .into_iter()
                .filter(|event| event.reporting_controller.as_deref() == Some("podline-control"));
            told.extend(ours.map(|event| {
                let about = event.regarding.unwrap_or_default();
                let kind = about.kind.unwrap_or_default();
                let name = about.name.unwrap_or_default();
                let (reason, note) = (event.reason, event.note);
                let (reason, note) = (reason.unwrap_or_default(), note.unwrap_or_default());
                format!("{kind}/{name} {reason}: {note}")
            }));
        }
        told
    })
}

/// Keys of a Secret, and their values.
pub(crate) type Data = Vec<(&'static str, Vec<u8>)>;

/// Something bad that is done to an object, and what has to be told of it.
struct Damage {
    what: &'static str,
    told: &'static str,
    act: Act,
}

pub(crate) enum Act {
    /// Of the configuration of this kind.
    DeleteConfiguration(&'static str),
    /// The same: this is put in the place of what is there, at a pointer.
    Configuration(&'static str, &'static str, Value),
    DeleteService,
    Service(Value),
    DeleteSecret(&'static str),
    /// Keys of the Secret's data and their new values, from all that there is.
    Secret(&'static str, fn(&Scene) -> Data),
}

pub(crate) fn act(scene: &Scene, act: &Act) {
    let vandal = || PatchParams {
        field_manager: Some(VANDAL.to_owned()),
        ..PatchParams::default()
    };
    match act {
        Act::DeleteConfiguration(kind) => {
            let kind = *kind;
            scene.run(move |client, _| async move {
                let api = api(client, kind);
                api.delete(WEBHOOKS, &DeleteParams::default())
                    .await
                    .unwrap();
            });
        }
        Act::Configuration(kind, pointer, value) => {
            let (kind, pointer, value) = (*kind, *pointer, value.clone());
            scene.run(move |client, _| async move {
                let api = api(client, kind);
                let mut found = serde_json::to_value(api.get(WEBHOOKS).await.unwrap()).unwrap();
                match pointer.strip_suffix("/-") {
                    Some(list) => found
                        .pointer_mut(list)
                        .unwrap()
                        .as_array_mut()
                        .unwrap()
                        .push(value),
                    None => *found.pointer_mut(pointer).unwrap() = value,
                }
                found["metadata"]
                    .as_object_mut()
                    .unwrap()
                    .remove("managedFields");
                let found: DynamicObject = serde_json::from_value(found).unwrap();
                let params = PostParams {
                    field_manager: Some(VANDAL.to_owned()),
                    ..PostParams::default()
                };
                api.replace(WEBHOOKS, &params, &found).await.unwrap();
            });
        }
        Act::DeleteService => scene.run(|client, _| async move {
            let api = Api::<Service>::namespaced(client, SYSTEM);
            api.delete(WEBHOOK_SERVICE, &DeleteParams::default())
                .await
                .unwrap();
        }),
        Act::Service(change) => {
            let change = change.clone();
            scene.run(move |client, _| async move {
                let api = Api::<Service>::namespaced(client, SYSTEM);
                api.patch(WEBHOOK_SERVICE, &vandal(), &Patch::Merge(change))
                    .await
                    .unwrap();
            });
        }
        Act::DeleteSecret(name) => {
            let name = *name;
            scene.run(move |client, _| async move {
                let api = Api::<Secret>::namespaced(client, SYSTEM);
                api.delete(name, &DeleteParams::default()).await.unwrap();
            });
        }
        Act::Secret(name, values) => {
            let (name, values) = (*name, values(scene));
            let data: BTreeMap<_, _> = values
                .into_iter()
                .map(|(key, value)| (key, ByteString(value)))
                .collect();
            scene.run(move |client, _| async move {
                let api = Api::<Secret>::namespaced(client, SYSTEM);
                api.patch(name, &vandal(), &Patch::Merge(json!({"data": data})))
                    .await
                    .unwrap();
            });
        }
    }
}

fn control_key(scene: &Scene) -> Data {
    let other = secret(scene, "podline-control-tls").unwrap();
    vec![("tls.key", other["tls.key"].clone())]
}

/// Of the right CA and names, but over.
fn expired(scene: &Scene) -> Data {
    let authority = secret(scene, WEBHOOK_CA_SECRET).unwrap();
    let key = String::from_utf8(authority["ca.key"].clone()).unwrap();
    let key = KeyPair::from_pem(&key).unwrap();
    let mut parameters = CertificateParams::default();
    let hash = parameters.key_identifier(&key);
    let name = hash[..4]
        .iter()
        .fold(String::new(), |name, byte| name + &format!("{byte:02x}"));
    parameters.distinguished_name = rcgen::DistinguishedName::new();
    let name = format!("podline webhook CA {name}");
    parameters.distinguished_name.push(DnType::CommonName, name);
    let issuer = Issuer::new(parameters, key);
    let mut parameters = leaf();
    parameters.not_before = date_time_ymd(2024, 1, 1);
    parameters.not_after = date_time_ymd(2024, 6, 1);
    let key = KeyPair::generate().unwrap();
    let certificate = parameters.signed_by(&key, &issuer).unwrap();
    vec![
        ("tls.crt", certificate.pem().into_bytes()),
        ("tls.key", key.serialize_pem().into_bytes()),
    ]
}

fn leaf() -> CertificateParams {
    let short = format!("{WEBHOOK_SERVICE}.{SYSTEM}.svc");
    let long = format!("{short}.cluster.local");
    let mut parameters = CertificateParams::new([short, long]).unwrap();
    parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    parameters
}

fn foreign() -> (CertificateParams, KeyPair) {
    let mut parameters = CertificateParams::default();
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    parameters
        .distinguished_name
        .push(DnType::CommonName, "another CA");
    (parameters, KeyPair::generate().unwrap())
}

fn foreign_authority(_: &Scene) -> Data {
    let (parameters, key) = foreign();
    let certificate = parameters.self_signed(&key).unwrap();
    vec![
        ("ca.crt", certificate.pem().into_bytes()),
        ("ca.key", key.serialize_pem().into_bytes()),
    ]
}

/// A leaf and the bundle that trusts it, both of a foreign CA.
fn foreign_leaf(_: &Scene) -> Data {
    let (parameters, key) = foreign();
    let authority = parameters.self_signed(&key).unwrap();
    let issuer = Issuer::new(parameters, key);
    let key = KeyPair::generate().unwrap();
    let certificate = leaf().signed_by(&key, &issuer).unwrap();
    vec![
        ("ca.crt", authority.pem().into_bytes()),
        ("tls.crt", certificate.pem().into_bytes()),
        ("tls.key", key.serialize_pem().into_bytes()),
    ]
}

fn of_configurations() -> Vec<Damage> {
    let bundle = ByteString(foreign_authority_pem());
    vec![
        Damage {
            what: "the mutating configuration deleted",
            told: "MutatingWebhookConfiguration/podline-control Repaired: is missing",
            act: Act::DeleteConfiguration(MUTATING),
        },
        Damage {
            what: "the validating configuration deleted",
            told: "ValidatingWebhookConfiguration/podline-control Repaired: is missing",
            act: Act::DeleteConfiguration(VALIDATING),
        },
        Damage {
            what: "a longer timeout",
            told: "webhooks[gate.podline.io].timeoutSeconds is 30",
            act: Act::Configuration(MUTATING, "/webhooks/0/timeoutSeconds", json!(30)),
        },
        Damage {
            what: "a further condition",
            told: "webhooks[drain.podline.io].matchConditions[never] is none of Podline's",
            act: Act::Configuration(
                VALIDATING,
                "/webhooks/0/matchConditions/-",
                json!({"name": "never", "expression": "false"}),
            ),
        },
        Damage {
            what: "an object selector",
            told: "webhooks[gate.podline.io].objectSelector is",
            act: Act::Configuration(
                MUTATING,
                "/webhooks/0/objectSelector",
                json!({"matchLabels": {"never": "so"}}),
            ),
        },
        Damage {
            what: "a URL instead of the Service",
            told: "webhooks[drain.podline.io].clientConfig.url is https://192.0.2.1/",
            act: Act::Configuration(
                VALIDATING,
                "/webhooks/0/clientConfig",
                json!({"url": "https://192.0.2.1/"}),
            ),
        },
        Damage {
            what: "no webhooks",
            told: "webhooks[drain.podline.io] is missing",
            act: Act::Configuration(VALIDATING, "/webhooks", json!([])),
        },
        Damage {
            what: "an empty bundle",
            told: "webhooks[gate.podline.io].clientConfig.caBundle is empty",
            act: Act::Configuration(MUTATING, "/webhooks/0/clientConfig/caBundle", json!("")),
        },
        Damage {
            what: "a foreign bundle",
            told: "webhooks[drain.podline.io].clientConfig.caBundle holds a foreign CA",
            act: Act::Configuration(
                VALIDATING,
                "/webhooks/0/clientConfig/caBundle",
                json!(bundle),
            ),
        },
    ]
}

fn foreign_authority_pem() -> Vec<u8> {
    let (parameters, key) = foreign();
    parameters.self_signed(&key).unwrap().pem().into_bytes()
}

fn of_the_rest() -> Vec<Damage> {
    vec![
        Damage {
            what: "the Service deleted",
            told: "Service/podline-webhook Repaired: is missing",
            act: Act::DeleteService,
        },
        Damage {
            what: "another port",
            told: "Service/podline-webhook Repaired: spec.ports[webhook].port is 444",
            act: Act::Service(json!({"spec": {"ports": [
                {"name": "webhook", "port": 444, "targetPort": 9913},
            ]}})),
        },
        Damage {
            what: "another selector",
            told: "Service/podline-webhook Repaired: spec.selector.",
            act: Act::Service(json!({"spec": {"selector": {"more": "x"}}})),
        },
        Damage {
            what: "the CA's Secret deleted",
            told: "Secret/podline-webhook-ca Repaired: the webhooks' CA: the CA is missing",
            act: Act::DeleteSecret(WEBHOOK_CA_SECRET),
        },
        Damage {
            what: "a foreign CA",
            told: "Secret/podline-webhook-ca Repaired: the webhooks' CA: the CA is not one",
            act: Act::Secret(WEBHOOK_CA_SECRET, foreign_authority),
        },
        Damage {
            what: "the leaf's Secret deleted",
            told: "Secret/podline-webhook-tls Repaired: the webhooks' certificate: their certificate is missing",
            act: Act::DeleteSecret(WEBHOOK_SECRET),
        },
        Damage {
            what: "the key of another certificate",
            told: "their certificate does not go with its key",
            act: Act::Secret(WEBHOOK_SECRET, control_key),
        },
        Damage {
            what: "an expired leaf",
            told: "their certificate is expired, or not signed",
            act: Act::Secret(WEBHOOK_SECRET, expired),
        },
        Damage {
            what: "a leaf and a bundle of a foreign CA",
            told: "their certificate is expired, or not signed",
            act: Act::Secret(WEBHOOK_SECRET, foreign_leaf),
        },
    ]
}

/// Waits until all is as it was; how long that took.
fn repaired(scene: &Scene, what: &str, good: &Objects) -> Duration {
    let begun = Instant::now();
    let mut last = String::new();
    wait::until(LONG, what, || {
        let now = take(scene);
        let is_good = now.as_ref().is_ok_and(|now| now == good);
        let now = format!("{now:?}");
        if !is_good && now != last {
            println!("{what}: {now}");
        }
        last = now;
        is_good
    });
    begun.elapsed()
}

/// Does damage until it was repaired within 5 s, three times at most, as a server may be busy once; how long that took.
fn mended_in_time(scene: &Scene, what: &str, good: &Objects, damage: impl Fn()) -> Duration {
    let mut took = Duration::MAX;
    for _ in 0..3 {
        damage();
        took = repaired(scene, what, good);
        if took < Duration::from_secs(5) {
            return took;
        }
    }
    panic!("three times not within 5 s, at last {took:?}: {what}");
}

/// Waits until the API server's call for a Pod reaches the webhook, and is answered: how long that took.
fn called(scene: &Scene) -> Duration {
    let begun = Instant::now();
    wait::until(LONG, "the API server calls the webhook", || {
        let before = reviews(scene);
        scene.run(|client, namespace| async move {
            let pod = json!({
                "metadata": {"generateName": "asked-"},
                "spec": {"containers": [{"name": "toy", "image": "toy"}]},
            });
            let tried = PostParams {
                dry_run: true,
                ..PostParams::default()
            };
            let pods = Api::<Pod>::namespaced(client, &namespace);
            let pod = serde_json::from_value(pod).unwrap();
            pods.create(&tried, &pod).await.unwrap();
        });
        reviews(scene) > before
    });
    begun.elapsed()
}

/// How often the API server asked about new Pods.
fn reviews(scene: &Scene) -> f64 {
    let metrics = scene.metrics(0);
    let lines = metrics
        .lines()
        .filter(|line| line.starts_with("podline_control_reviews_total{webhook=\"inject\""));
    let values = lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok());
    values.sum()
}

#[test]
fn whatever_is_damaged_is_repaired_and_told() {
    let Some(scene) = Scene::set("repair") else {
        return;
    };
    let good = registered(&scene);
    for damage in of_configurations().into_iter().chain(of_the_rest()) {
        let took = mended_in_time(&scene, damage.what, &good, || act(&scene, &damage.act));
        let (took, asks) = (took.as_millis(), called(&scene).as_millis());
        let what = damage.what;
        println!("{what}: repaired in {took} ms, the API server asks after another {asks} ms");
        wait::until(LONG, damage.told, || {
            told(&scene).iter().any(|told| told.contains(damage.told))
        });
    }
    let metrics = scene.metrics(0);
    for line in metrics
        .lines()
        .filter(|line| line.starts_with("podline_control_repair") && !line.contains("_bucket"))
    {
        println!("{line}");
    }
    assert!(!metrics.contains("podline_control_damaged{object=\"Service/podline-webhook\"} 1"));
}

#[test]
fn all_at_once_is_repaired_too() {
    let Some(scene) = Scene::set("repair-all") else {
        return;
    };
    let good = registered(&scene);
    let took = mended_in_time(&scene, "all of it deleted", &good, || {
        for kind in [MUTATING, VALIDATING] {
            act(&scene, &Act::DeleteConfiguration(kind));
        }
        act(&scene, &Act::DeleteService);
        for name in [WEBHOOK_CA_SECRET, WEBHOOK_SECRET] {
            act(&scene, &Act::DeleteSecret(name));
        }
    });
    println!("all of it deleted: repaired in {} ms", took.as_millis());
}

#[test]
fn another_replica_takes_over_the_repair() {
    let Some(mut scene) = Scene::set("repair-takeover") else {
        return;
    };
    let good = registered(&scene);
    let authority = secret(&scene, WEBHOOK_CA_SECRET).unwrap();
    scene.start_controller("b");
    scene.wait_serving_by(1);
    // It remembers only what it has seen.
    let authority_ends = "podline_control_certificate_expiry_seconds{which=\"webhook-authority\"} ";
    wait::until(LONG, "the other has seen the authority", || {
        let page = scene.metrics(1);
        let mut lines = page.lines();
        let told = lines.find_map(|line| line.strip_prefix(authority_ends));
        told.is_some_and(|told| told != "0")
    });
    let of_it = || {
        let told = told(&scene).into_iter();
        // The second, if it was gone before the other had looked.
        let words = ["Repaired: is missing", "Registered: "]
            .map(|words| format!("MutatingWebhookConfiguration/podline-control {words}"));
        let is_it = |told: &String| words.iter().any(|words| told.starts_with(words));
        told.filter(is_it).count()
    };
    let before = of_it();
    scene.controllers["a"].signal(Signal::KILL);
    act(&scene, &Act::DeleteConfiguration(MUTATING));
    act(&scene, &Act::DeleteSecret(WEBHOOK_CA_SECRET));
    let begun = Instant::now();
    wait::until(LONG, "the other repairs", || {
        take(&scene).is_ok_and(|now| now == good)
    });
    println!(
        "repaired {} ms after the leader died",
        begun.elapsed().as_millis()
    );
    // From memory.
    assert_eq!(
        secret(&scene, WEBHOOK_CA_SECRET).unwrap()["ca.crt"],
        authority["ca.crt"]
    );
    wait::until(LONG, "it is told", || of_it() > before);
}

#[test]
fn somebody_who_reverts_is_not_fought_with() {
    let Some(scene) = Scene::set("repair-contested") else {
        return;
    };
    let good = registered(&scene);
    let reverter = scene.cluster.spawn({
        let api = api(scene.cluster.client.clone(), MUTATING);
        let own = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": MUTATING,
            "metadata": {"name": WEBHOOKS},
            "webhooks": [{"name": "gate.podline.io", "timeoutSeconds": 7}],
        });
        async move {
            let params = PatchParams::apply("gitops").force();
            loop {
                // The webhook may be gone for a moment, and cannot be made of this alone.
                let _ = api.patch(WEBHOOKS, &params, &Patch::Apply(&own)).await;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    });
    let count = |scene: &Scene| {
        let name = format!("podline_control_repairs_total{{object=\"{MUTATING}/{WEBHOOKS}\"}}");
        scene.metric(&name)
    };
    wait::until(LONG, "the contest is told", || {
        let told = told(&scene);
        let mut contests = told.iter().filter(|told| told.contains("RepairContested"));
        contests.any(|told| told.contains("gitops (last at"))
    });
    let first = count(&scene);
    // Half of the first pause.
    let until = Instant::now() + Duration::from_secs(15);
    wait::until(LONG, "half of the pause is over", || Instant::now() > until);
    assert!(count(&scene) < first + 0.5, "it is left alone");
    assert!(first <= 3.0, "{first} writes");
    reverter.abort();
    let begun = Instant::now();
    wait::until(LONG, "it is mended after the pause", || {
        take(&scene).is_ok_and(|now| now == good)
    });
    println!(
        "{first} repairs, then a pause; mended {} ms after the other gave up",
        begun.elapsed().as_millis()
    );
    for told in told(&scene)
        .iter()
        .filter(|told| told.contains("Contested"))
    {
        println!("{told}");
    }
}
