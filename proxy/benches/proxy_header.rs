//! What a PROXY header costs each connection that begins with one: written to a backend, read from a client.

use std::hint::black_box;
use std::net::SocketAddr;

use criterion::{Criterion, criterion_group, criterion_main};
use podline_api::ProxyHeader;
use podline_proxy::proxy_header::{Announced, parse, write};

fn headers(criterion: &mut Criterion) {
    let ends = |client: &str, destination: &str| {
        let at = |text: &str| -> SocketAddr { text.parse().expect("an address") };
        Announced::new(at(client), at(destination))
    };
    let clients = [
        ("IPv4", ends("192.0.2.7:40000", "203.0.113.9:443")),
        ("IPv6", ends("[2001:db8::7]:40000", "[2001:db8::9]:443")),
    ];
    let binary = |crc32c, unique_id| ProxyHeader::V2 { crc32c, unique_id };
    let forms = [
        ("version 1", ProxyHeader::V1),
        ("version 2", binary(false, false)),
        ("version 2 with checksum and id", binary(true, true)),
    ];
    for (family, ends) in clients {
        for (name, form) in forms {
            criterion.bench_function(&format!("write {name}, {family}"), |bencher| {
                bencher.iter(|| write(black_box(form), Some(black_box(ends)), 7));
            });
            let header = write(form, Some(ends), 7);
            criterion.bench_function(&format!("read {name}, {family}"), |bencher| {
                bencher.iter(|| parse(black_box(header.as_bytes())));
            });
        }
    }
}

criterion_group!(benches, headers);
criterion_main!(benches);
