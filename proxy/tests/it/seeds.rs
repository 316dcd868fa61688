//! Runs every fuzz seed, and some thousand mutations of them, as an ordinary test: no input may cause a panic.

use std::fs;
use std::path::Path;

use crate::harness::random::Random;

#[path = "../../fuzz/checks.rs"]
mod checks;

const MUTATIONS: usize = 20_000;

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/seeds")
        .join(target);
    let entries = fs::read_dir(folder).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort(); // the mutations must not depend on the file system
    assert!(paths.len() >= 8, "too few seeds for {target}");
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

fn mutate(random: &mut Random, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut data = seeds[random.place(seeds.len())].clone();
    for _ in 0..=random.below(4) {
        let at = random.place(data.len().max(1));
        let until = (at + random.place(32)).min(data.len());
        match random.below(6) {
            0 if !data.is_empty() => data[at] ^= 1 << random.below(8),
            1 if !data.is_empty() => {
                data[at] = [0, 0x20, 0xff, b'\r', b'\n', b' ', b':', b'0'][random.place(8)];
            }
            2 => data.truncate(at),
            3 => drop(data.drain(at.min(until)..until)),
            4 if at <= data.len() => {
                let part = data[at.min(until)..until].to_vec();
                data.splice(at..at, part);
            }
            _ => {
                let other = &seeds[random.place(seeds.len())];
                let from = random.place(other.len());
                let part = &other[from..(from + 64).min(other.len())];
                data.splice(at.min(until)..until, part.iter().copied());
            }
        }
    }
    data
}

#[test]
fn no_proxy_header_causes_a_panic() {
    let seeds = seeds("proxy_header");
    for seed in &seeds {
        checks::proxy_header(seed);
    }
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    for _ in 0..MUTATIONS {
        checks::proxy_header(&mutate(&mut random, &seeds));
    }
}
