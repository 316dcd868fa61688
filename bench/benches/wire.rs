//! What the client does with each answer beside the kernel's work: it must be little beside the request's 10 us, and
//! less for a bulk stream's bytes than what moves them.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use podline_bench::wire::{Answer, HEAD, Request, is_pattern};
use podline_lab::pattern;

fn frames(criterion: &mut Criterion) {
    let request = Request {
        sequence: 7,
        wanted: 16,
        sent: 0,
    };
    criterion.bench_function("write a request", |bencher| {
        bencher.iter(|| black_box(request).encode());
    });
    let answer = Answer {
        sequence: 7,
        pod: 3,
        bytes: 16,
        is_last: false,
    };
    let head: [u8; HEAD] = answer.encode();
    criterion.bench_function("read an answer", |bencher| {
        bencher.iter(|| Answer::decode(black_box(&head)));
    });
}

fn payloads(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("compare a payload");
    for bytes in [16, 1_024, 262_144] {
        // Not at the beginning: bytes of a stream come at any offset.
        let payload = pattern::at(12_345, bytes);
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function(format!("{bytes} bytes"), |bencher| {
            bencher.iter(|| is_pattern(black_box(payload), 12_345));
        });
    }
    group.finish();
}

/// A latency as loads keep it.
fn latencies(criterion: &mut Criterion) {
    let mut histogram = hdrhistogram::Histogram::<u64>::new_with_max(60_000_000_000, 3)
        .expect("the bounds are good");
    let mut latency = 1_000;
    criterion.bench_function("keep a latency", |bencher| {
        bencher.iter(|| {
            latency = (latency * 31 + 17) % 10_000_000;
            histogram.saturating_record(black_box(latency));
        });
    });
}

criterion_group!(benches, frames, payloads, latencies);
criterion_main!(benches);
