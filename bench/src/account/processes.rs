//! Looks at processes and network namespaces. What their files mean is decided in `stat`.

use std::collections::BTreeMap;
use std::fs;

use podline_lab::Namespace;

use super::meter::Reading;
use super::stat;

/// `roots` and all who descend from them; those that have ended stay among them.
pub fn family(roots: &[u32]) -> Vec<u32> {
    let pids = entries("/proc");
    let parent = |pid: u32| Some((pid, process(pid)?.parent));
    let processes: Vec<_> = pids.filter_map(parent).collect();
    stat::family(&processes, roots)
}

/// Memory of processes in KiB, what they share with others by its part (PSS). Nothing if none of them is there.
pub fn pss_kib(pids: &[u32]) -> Option<u64> {
    let of = |pid: &u32| stat::pss_kib(&read(&format!("/proc/{pid}/smaps_rollup"))?);
    pids.iter().filter_map(of).reduce(|sum, more| sum + more)
}

/// Entries of connection tracking in all of these namespaces. Nothing if the kernel tracks in none of them.
pub fn tracked(namespaces: &[&Namespace]) -> Option<u64> {
    let of = |namespace: &&Namespace| {
        let count = namespace.run(|| read("/proc/sys/net/netfilter/nf_conntrack_count"));
        count?.trim().parse::<u64>().ok()
    };
    namespaces
        .iter()
        .filter_map(of)
        .reduce(|sum, more| sum + more)
}

/// What the kernel tells of these processes and of all below them.
pub(super) fn readings(roots: &[u32]) -> BTreeMap<u32, Reading> {
    let of = |pid: u32| Some((pid, reading(pid)?));
    family(roots).into_iter().filter_map(of).collect()
}

/// The machine's CPUs so far.
pub(super) fn cpus() -> stat::Cpus {
    read("/proc/stat")
        .and_then(|text| stat::cpus(&text))
        .unwrap_or_default()
}

/// Threads tell nanoseconds, which are the same time that the process tells in ticks: over seconds of computing, system
/// calls, TCP and UDP the two differed by less than a tick. Threads that have ended are in the ticks alone.
fn reading(pid: u32) -> Option<Reading> {
    let process = process(pid)?;
    let folder = format!("/proc/{pid}/task");
    let of = |thread: u32| stat::on_cpu(&read(&format!("{folder}/{thread}/schedstat"))?);
    let threads: u64 = entries(&folder).filter_map(of).sum();
    Some(Reading {
        parent: process.parent,
        own: threads.max(process.own * stat::TICK),
        children: process.children * stat::TICK,
    })
}

fn process(pid: u32) -> Option<stat::Process> {
    stat::process(&read(&format!("/proc/{pid}/stat"))?)
}

/// Numbers in a folder's names.
fn entries(folder: &str) -> impl Iterator<Item = u32> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// `None` if it is not there, or no longer.
fn read(path: &str) -> Option<String> {
    let bytes = fs::read(path).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}
