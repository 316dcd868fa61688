//! Runs every fuzz seed, and some thousand mutations of them, as an ordinary test: no input may cause a panic.

use std::fs;
use std::path::Path;

#[path = "../../fuzz/checks.rs"]
mod checks;

const MUTATIONS: usize = 4_000;

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/seeds")
        .join(target);
    let mut paths: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort(); // the mutations must not depend on the file system
    assert!(paths.len() >= 8, "too few seeds for {target}");
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

/// xorshift64*: the same numbers in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        usize::try_from(number).unwrap() % end.max(1)
    }
}

fn mutate(random: &mut Random, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut data = seeds[random.below(seeds.len())].clone();
    for _ in 0..=random.below(4) {
        let at = random.below(data.len());
        let until = (at + random.below(32)).min(data.len());
        match random.below(6) {
            0 if !data.is_empty() => data[at] ^= 1 << random.below(8),
            1 if !data.is_empty() => {
                data[at] = [0, 0x7f, 0x80, 0xff, b'\n', b':', b'-', b'&'][random.below(8)];
            }
            2 => data.truncate(at),
            3 => drop(data.drain(at..until)),
            4 => {
                let part = data[at..until].to_vec();
                data.splice(at..at, part);
            }
            _ => {
                let other = &seeds[random.below(seeds.len())];
                let from = random.below(other.len());
                data.splice(
                    at..until,
                    other[from..(from + 64).min(other.len())].iter().copied(),
                );
            }
        }
    }
    data
}

fn run(target: &str, check: fn(&[u8])) {
    let seeds = seeds(target);
    for seed in &seeds {
        check(seed);
    }
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    for _ in 0..MUTATIONS {
        check(&mutate(&mut random, &seeds));
    }
}

#[test]
fn no_request_causes_a_panic() {
    run("convert", checks::convert);
}

#[test]
fn no_file_causes_a_panic() {
    run("file", checks::file);
}

/// Makes the seeds of `convert` anew: `cargo test -p podline-api --test it write_wire_seeds -- --ignored`.
#[test]
#[ignore = "writes into the source tree"]
fn write_wire_seeds() {
    for (name, bytes) in super::wire_seeds::all() {
        fs::write(
            Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("fuzz/seeds/convert")
                .join(name),
            bytes,
        )
        .unwrap();
    }
}
