//! Holds the overlays and components under docker/deploy against the base and the code. kubectl renders them.

use super::*;
use std::collections::BTreeMap;

const DEPLOY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docker/deploy");
const OVERLAYS: [&str; 3] = ["bare-metal", "daemonset", "kind"];
const COMPONENTS: [&str; 3] = ["service-monitor", "settings", "surge"];
const SETTINGS: &str = "podline-settings";

fn overlay(name: &str) -> Option<Vec<Value>> {
    kustomize::rendered(&format!("overlays/{name}"))
}

/// The base with components.
fn with_components(names: &[&str]) -> Option<Vec<Value>> {
    kustomize::with_components("base", names)
}

fn find<'a>(objects: &'a [Value], kind: &str, name: &str) -> &'a Value {
    let is_it = |it: &&Value| it["kind"] == kind && it["metadata"]["name"] == name;
    let found = objects.iter().find(is_it);
    found.unwrap_or_else(|| panic!("no {kind} {name}"))
}

fn typed<K: DeserializeOwned + Serialize>(object: &Value) -> K {
    let read: K = serde_json::from_value(object.clone()).unwrap();
    let again = serde_json::to_value(&read).unwrap();
    assert_eq!(&again, object, "a field that the kind does not have");
    read
}

/// Kind and name; the hash at the end of a generated name is left out.
fn names(objects: &[Value]) -> BTreeSet<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let name = |it: &Value| {
        let name = text(&it["metadata"]["name"]);
        match name.strip_prefix(SETTINGS) {
            Some(_) => SETTINGS.to_owned(),
            None => name,
        }
    };
    objects
        .iter()
        .map(|it| (text(&it["kind"]), name(it)))
        .collect()
}

/// The values that a file of variables gives, by the flags that they stand for.
fn settings(file: &Path) -> Settings {
    let text = fs::read_to_string(file).unwrap();
    let lines = text
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty());
    let command = Settings::command();
    let by_variable: BTreeMap<_, _> = command
        .get_arguments()
        .filter_map(|argument| Some((argument.get_env()?.to_str()?.to_owned(), argument)))
        .collect();
    let mut line = vec!["podline-control".to_owned(), "--proxy-service=x".to_owned()];
    for (name, value) in lines.map(|line| line.split_once('=').unwrap()) {
        let argument = by_variable
            .get(name)
            .unwrap_or_else(|| panic!("{name} is no variable of podline-control"));
        let flag = argument.get_long().unwrap();
        if argument.get_action().takes_values() {
            line.push(format!("--{flag}={value}"));
        } else {
            assert_eq!(value, "true", "{name}");
            line.push(format!("--{flag}"));
        }
    }
    Settings::try_parse_from(line).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

#[test]
fn every_folder_is_known() {
    let folders = |of: &str| -> BTreeSet<_> {
        let entries = fs::read_dir(format!("{DEPLOY}/{of}")).unwrap();
        entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    };
    assert_eq!(folders("overlays"), OVERLAYS.map(str::to_owned).into());
    assert_eq!(folders("components"), COMPONENTS.map(str::to_owned).into());
}

#[test]
fn settings_are_the_controllers() {
    let of = |overlay: &str| {
        settings(&Path::new(DEPLOY).join(format!("overlays/{overlay}/settings.env")))
    };
    let (kind, bare_metal) = (of("kind"), of("bare-metal"));
    assert!(kind.default_class, "there is nobody else in kind");
    assert!(!bare_metal.default_class, "others may be there");
    assert!(kind.vip_pool.is_some() && bare_metal.vip_pool.is_some());
}

#[test]
fn overlays_have_what_the_base_has() {
    let mut base = names(&objects());
    for name in OVERLAYS {
        let Some(objects) = overlay(name) else { return };
        let mut found = names(&objects);
        if name == "daemonset" {
            assert!(found.remove(&("DaemonSet".to_owned(), PROXY.to_owned())));
            base.remove(&("Deployment".to_owned(), PROXY.to_owned()));
            base.remove(&("PodDisruptionBudget".to_owned(), PROXY.to_owned()));
            assert_eq!(found, base);
            base = names(&super::objects());
        } else {
            assert!(found.remove(&("ConfigMap".to_owned(), SETTINGS.to_owned())));
            assert_eq!(found, base, "{name}");
        }
        for object in &objects {
            let kind = object["kind"].as_str().unwrap();
            assert!(crate::cli::uninstalls(kind), "{kind} would be left behind");
            assert_eq!(object["metadata"]["labels"][PART_OF.0], PART_OF.1, "{kind}");
        }
    }
}

/// What `latest` is depends on when a node first saw it: only the base, which is no installation, and kind have it.
#[test]
fn every_container_has_the_overlays_image() {
    for name in OVERLAYS {
        let Some(objects) = overlay(name) else { return };
        let expected = match name {
            "kind" => "podline:latest".to_owned(),
            _ => format!("podline:{}", env!("CARGO_PKG_VERSION")),
        };
        let with_pods = objects
            .iter()
            .filter(|it| it["spec"]["template"].is_object());
        let mut count = 0;
        for object in with_pods {
            let containers = &object["spec"]["template"]["spec"]["containers"];
            for container in containers.as_array().unwrap() {
                assert_eq!(container["image"], json!(expected), "{name}");
                count += 1;
            }
        }
        assert_eq!(count, 4, "{name}");
    }
}

#[test]
fn the_controller_reads_the_settings_that_were_made() {
    for name in ["kind", "bare-metal"] {
        let Some(objects) = overlay(name) else { return };
        let made = objects.iter().find(|it| it["kind"] == "ConfigMap").unwrap();
        let controller: Deployment = typed(find(&objects, "Deployment", CONTROL));
        let from = container(&controller).env_from.unwrap();
        let map = from[0].config_map_ref.clone().unwrap();
        assert_eq!(made["metadata"]["name"], json!(map.name));
        assert_ne!(map.name, SETTINGS, "another content is another name");
        assert_ne!(
            map.optional,
            Some(true),
            "without them it would serve wrongly"
        );
    }
}

#[test]
fn as_a_daemon_set_proxies_are_what_they_are_as_a_deployment() {
    let Some(objects) = overlay("daemonset") else {
        return;
    };
    let set: DaemonSet = typed(find(&objects, "DaemonSet", PROXY));
    let spec = set.spec.unwrap();
    let update = spec.update_strategy.unwrap().rolling_update.unwrap();
    assert_eq!(
        (update.max_surge.unwrap(), update.max_unavailable.unwrap()),
        (Int(0), Int(1))
    );
    let mut pod = spec.template.spec.unwrap();
    let nodes = pod.node_selector.as_ref().unwrap();
    assert_eq!(nodes["podline.io/proxy"], "true");
    let mut expected = self::pod(&deployment(PROXY));
    expected.affinity = None;
    expected.node_selector = pod.node_selector.clone();
    expected.tolerations = pod.tolerations.clone();
    for container in pod.containers.iter_mut().chain(&mut expected.containers) {
        container.image = None;
    }
    assert_eq!(pod, expected);
    assert_eq!(
        spec.selector.match_labels,
        deployment(PROXY).spec.unwrap().selector.match_labels
    );
}

#[test]
fn with_a_spare_node_the_new_proxy_comes_first() {
    let Some(objects) = with_components(&["surge"]) else {
        return;
    };
    let proxies: Deployment = typed(find(&objects, "Deployment", PROXY));
    let update = proxies.spec.clone().unwrap().strategy.unwrap();
    let update = update.rolling_update.unwrap();
    assert_eq!(
        (update.max_surge, update.max_unavailable),
        (Some(Int(1)), Some(Int(0)))
    );
    // Never two on one node: they would listen at the same ports.
    let affinity = pod(&proxies).affinity.unwrap().pod_anti_affinity.unwrap();
    assert!(
        affinity
            .required_during_scheduling_ignored_during_execution
            .is_some()
    );
}

#[test]
fn everything_that_has_metrics_is_scraped_where_it_has_them() {
    let Some(objects) = with_components(&["service-monitor"]) else {
        return;
    };
    let monitor = find(&objects, "ServiceMonitor", "podline");
    let wanted = monitor["spec"]["selector"]["matchLabels"]
        .as_object()
        .unwrap();
    let endpoint = &monitor["spec"]["endpoints"][0]["port"];
    assert_eq!(monitor["spec"]["jobLabel"], NAME_LABEL);
    let mut scraped = BTreeSet::new();
    for (of, port) in [(PROXY, port::PROXY_METRICS), (CONTROL, port::CONTROL_ADMIN)] {
        let service: core::Service = typed(find(&objects, "Service", &format!("{of}-metrics")));
        let labels = json!(service.metadata.labels);
        assert!(wanted.iter().all(|(key, value)| &labels[key] == value));
        assert_eq!(labels[NAME_LABEL], of, "the job's name");
        let spec = service.spec.unwrap();
        assert_eq!(json!(spec.selector), json!({(NAME_LABEL): of}));
        assert_eq!(spec.publish_not_ready_addresses, Some(true));
        let [found] = <[_; 1]>::try_from(spec.ports.unwrap()).unwrap();
        assert_eq!(json!(found.name), *endpoint);
        assert_eq!(found.port, i32::from(port));
        let ports = ports(&container(&typed(find(&objects, "Deployment", of))));
        let target = json!(found.target_port.unwrap());
        assert!(
            ports
                .iter()
                .any(|(name, number)| json!(name) == target && *number == found.port)
        );
        scraped.insert(of);
    }
    // Nothing else has the label that is scraped by: not what answers at other ports.
    let services = objects.iter().filter(|it| it["kind"] == "Service");
    let labelled = services.filter(|it| it["metadata"]["labels"]["podline.io/metrics"] == "true");
    assert_eq!(labelled.count(), scraped.len());
}

#[test]
fn all_components_go_together() {
    if let Some(objects) = with_components(&["service-monitor", "surge"]) {
        let base = names(&super::objects());
        assert!(names(&objects).is_superset(&base));
    }
}
