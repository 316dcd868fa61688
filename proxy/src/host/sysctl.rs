//! Settings of the kernel below `/proc/sys/net`, of the namespace that the process is in.

use std::fs;
use std::io;

const LOCAL_PORTS: &str = "ipv4/ip_local_port_range";
/// What the kernel starts with.
const DEFAULT_PORTS: (u16, u16) = (32_768, 60_999);
/// Nothing of Kubernetes or its usual neighbours listens here, but for node ports, which are no sockets.
const WIDE_PORTS: (u16, u16) = (16_384, 65_535);

fn read(key: &str) -> io::Result<String> {
    fs::read_to_string(format!("/proc/sys/net/{key}"))
}

fn write(key: &str, value: &str) -> Result<(), String> {
    let path = format!("/proc/sys/net/{key}");
    fs::write(&path, value).map_err(|error| format!("{path}: {error}"))
}

/// The ports that the kernel gives to sockets that ask for none, both ends included.
pub(super) fn local_ports() -> (u16, u16) {
    let text = read(LOCAL_PORTS).unwrap_or_default();
    let mut ports = text.split_whitespace().map(str::parse);
    match (ports.next(), ports.next()) {
        (Some(Ok(low)), Some(Ok(high))) if low <= high => (low, high),
        _ => DEFAULT_PORTS,
    }
}

/// More of them, unless somebody has chosen already.
pub(super) fn widen_local_ports() -> Result<(), String> {
    if local_ports() != DEFAULT_PORTS {
        return Ok(());
    }
    let (low, high) = WIDE_PORTS;
    write(LOCAL_PORTS, &format!("{low} {high}"))
}

/// A port whose last connection to the same end was closed a second ago is as good as a new one.
pub(super) fn reuse_ports_early() -> Result<(), String> {
    const KEY: &str = "ipv4/tcp_tw_reuse";
    if read(KEY).is_ok_and(|value| value.trim() == "1") {
        return Ok(());
    }
    write(KEY, "1")
}

/// Links that may drop answers of backends, with what an operator has to know.
pub(super) fn filters() -> Vec<(String, &'static str)> {
    let links = fs::read_dir("/proc/sys/net/ipv4/conf")
        .into_iter()
        .flatten();
    let names = links.flatten().map(|link| link.file_name());
    let names = names.filter_map(|name| name.into_string().ok());
    let mut found = Vec::new();
    for link in names.filter(|link| !["all", "default", "lo"].contains(&link.as_str())) {
        if is_strict(&link) {
            found.push((
                link.clone(),
                "rp_filter is strict: answers of backends are dropped where the main table's way to them is another link",
            ));
        }
        if of_link(&link, "src_valid_mark") == 1 {
            found.push((
                link,
                "src_valid_mark is on: answers of backends to imitated clients are dropped as martian",
            ));
        }
    }
    found
}

/// Whether the kernel drops what comes in by a link that it would not answer by.
pub(super) fn is_strict(link: &str) -> bool {
    of_link(link, "rp_filter") == 1
}

/// The kernel takes the larger of `all` and the link's own.
fn of_link(link: &str, key: &str) -> u8 {
    let value = |scope: &str| -> u8 {
        let text = read(&format!("ipv4/conf/{scope}/{key}")).unwrap_or_default();
        text.trim().parse().unwrap_or_default()
    };
    value("all").max(value(link))
}
