//! Holds what runs Podline without Kubernetes against the code: systemd's units, their files, and compose.yaml.

use super::*;
use podline_api::Document;

const DOCKER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docker");
/// The proxy's settings cannot be imported, so their source is read.
const PROXY_SETTINGS: &str = concat!(
    include_str!("../../../../proxy/src/settings.rs"),
    include_str!("../../../../proxy/src/host/return_path/settings.rs"),
);
const UNITS: [&str; 3] = ["podline-control", "podline-proxy", "podline-return-path"];

fn read(name: &str) -> String {
    let path = format!("{DOCKER}/{name}");
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The values of a key of a unit, in their order.
fn values(unit: &str, key: &str) -> Vec<String> {
    let text = read(&format!("systemd/{unit}.service"));
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let values = lines.filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    values.map(str::to_owned).collect()
}

fn value(unit: &str, key: &str) -> String {
    let [value] = <[_; 1]>::try_from(values(unit, key))
        .unwrap_or_else(|found| panic!("{unit}: {key} is {found:?}"));
    value
}

fn is_variable_of_the_proxy(name: &str) -> bool {
    PROXY_SETTINGS.contains(&format!("env = \"{name}\""))
}

#[test]
fn units_start_what_there_is_with_variables_that_there_are() {
    for unit in UNITS {
        let command = value(unit, "ExecStart");
        let (program, verb) = match unit {
            "podline-return-path" => (PROXY, " return-path"),
            unit => (unit, ""),
        };
        assert_eq!(command, format!("/usr/local/bin/{program}{verb}"));
    }
    for variable in values("podline-proxy", "Environment") {
        let (name, _) = variable.split_once('=').unwrap();
        let is_the_allocators = name.starts_with("MIMALLOC_");
        assert!(
            is_the_allocators || is_variable_of_the_proxy(name),
            "{name}"
        );
    }
    let command = Settings::command();
    for variable in values("podline-control", "Environment") {
        let (name, _) = variable.split_once('=').unwrap();
        let mut all = command.get_arguments();
        let found = all.any(|argument| argument.get_env().is_some_and(|env| env == name));
        assert!(found, "{name}");
    }
    // What the unit of the way back asks its file for.
    assert!(is_variable_of_the_proxy("PODLINE_RETURN_PATH_PROXY"));
}

/// Both sides of the socket, its folder and its user.
#[test]
fn the_controller_finds_the_proxy_beside_it() {
    let variables = |unit| values(unit, "Environment");
    let socket = "unix:/run/podline/proxy.sock";
    assert!(variables("podline-proxy").contains(&format!("PODLINE_API={socket}")));
    assert!(variables("podline-control").contains(&format!("PODLINE_PROXY={socket}")));
    assert_eq!(value("podline-proxy", "RuntimeDirectory"), "podline");
    assert_eq!(value("podline-proxy", "StateDirectory"), "podline");
    for unit in UNITS {
        assert_eq!(value(unit, "User"), "podline");
    }
    assert!(read("systemd/podline.sysusers").contains("\nu podline - "));
}

#[test]
fn units_may_what_the_manifests_may() {
    let of = |unit, key| values(unit, key);
    let adds = container(&deployment(PROXY)).security_context.unwrap();
    let adds = adds.capabilities.unwrap().add.unwrap();
    let expected = adds.iter().map(|name| format!("CAP_{name}"));
    let expected = expected.collect::<Vec<_>>().join(" ");
    for (unit, capabilities) in [
        ("podline-proxy", &*expected),
        ("podline-return-path", "CAP_NET_ADMIN"),
        ("podline-control", ""),
    ] {
        assert_eq!(of(unit, "CapabilityBoundingSet"), [capabilities]);
        let ambient = match capabilities {
            "" => vec![],
            some => vec![some.to_owned()],
        };
        assert_eq!(of(unit, "AmbientCapabilities"), ambient);
        for (key, expected) in [
            ("NoNewPrivileges", "yes"),
            ("ProtectSystem", "strict"),
            ("ProtectHome", "yes"),
            ("PrivateTmp", "yes"),
            ("PrivateDevices", "yes"),
            ("ProtectKernelTunables", "yes"),
            ("RestrictNamespaces", "yes"),
            ("MemoryDenyWriteExecute", "yes"),
            ("SystemCallArchitectures", "native"),
            ("UMask", "0077"),
        ] {
            assert_eq!(value(unit, key), expected, "{unit}: {key}");
        }
    }
}

/// A unit may not write the kernel's settings, so a file has what the proxy would set.
#[test]
fn the_kernels_settings_are_those_that_the_proxy_would_make() {
    const SOURCE: &str = include_str!("../../../../proxy/src/host/sysctl.rs");
    let file = read("systemd/podline.sysctl");
    assert!(file.contains("\nnet.ipv4.ip_local_port_range = 16384 65535\n"));
    assert!(SOURCE.contains("WIDE_PORTS: (u16, u16) = (16_384, 65_535)"));
    assert!(file.contains("\nnet.ipv4.tcp_tw_reuse = 1\n"));
    assert!(SOURCE.contains("write(KEY, \"1\")"));
}

/// A page that is followed to the letter has to name what there is.
#[test]
fn every_file_that_the_page_names_is_there() {
    let page = read("README.md");
    let is_of_path = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    let words = page.split(|c: char| !is_of_path(c));
    let paths: BTreeSet<_> = words
        .filter_map(|word| word.strip_prefix("docker/"))
        .map(|path| path.trim_end_matches('.'))
        .collect();
    assert!(paths.len() > 10, "{paths:?}");
    for path in paths {
        assert!(Path::new(DOCKER).join(path).exists(), "docker/{path}");
    }
}

#[test]
fn configuration_files_are_valid() {
    for name in ["systemd/podline.yaml", "compose/podline.yaml"] {
        let document = Document::from_yaml(&read(name));
        let document = document.unwrap_or_else(|invalid| panic!("{name}: {invalid}"));
        assert_eq!(document.listeners.len(), 1);
    }
}

#[test]
fn compose_starts_what_there_is_with_as_little_as_it_needs() {
    let compose: Value = serde_saphyr::from_str(&read("compose.yaml")).unwrap();
    let services = compose["services"].as_object().unwrap();
    assert_eq!(services.len(), 3);
    let configuration = read("compose/podline.yaml");
    for (name, service) in services {
        assert_eq!(service["image"], "podline:latest", "{name}");
        assert_eq!(service["read_only"], true, "{name}");
        assert_eq!(service["cap_drop"], json!(["ALL"]), "{name}");
        assert!(service.get("cap_add").is_none() && service.get("privileged").is_none());
        let command = service["command"].as_array().unwrap();
        let words: Vec<_> = command.iter().map(|word| word.as_str().unwrap()).collect();
        assert_eq!(words[0], PROXY);
        if name == "proxy" {
            for word in &words[1..] {
                let flag = word.strip_prefix("--").unwrap().split('=').next().unwrap();
                let variable = format!("PODLINE_{}", flag.replace('-', "_").to_uppercase());
                assert!(is_variable_of_the_proxy(&variable), "{word}");
            }
        } else {
            assert_eq!(words[1..], ["responder", "--listen=0.0.0.0:8080"]);
            let address = &service["networks"]["backends"]["ipv4_address"];
            let address = format!("{}:8080", address.as_str().unwrap());
            assert!(configuration.contains(&address), "{address}");
        }
    }
}
