//! What following costs; run by hand.

use tokio::time::Instant;

use super::*;

#[test]
#[ignore = "measures; run by hand"]
fn a_thousand_pods_that_come_at_once() {
    let mut bench = Bench::new();
    let uids: Vec<String> = (0..10_000).map(|n| format!("pod-{n:05}")).collect();
    let all: Vec<(&str, u8)> = uids.iter().map(|uid| (uid.as_str(), 10)).collect();
    let time = |what: &str, work: &mut dyn FnMut()| {
        let begun = Instant::now();
        work();
        println!("{what}: {:?}", begun.elapsed());
    };
    time("bind 9,000", &mut || bench.bind(&all[..9_000], 10));
    for proxy in ["a", "b"] {
        bench.ack(proxy, 20);
        let keys: Vec<_> = uids[..9_000]
            .iter()
            .map(|uid| backend(uid, 10).key)
            .collect();
        bench.proxy(
            proxy,
            |view| _ = view.healthy.insert(web(), keys.into_iter().collect()),
            30,
        );
    }
    bench.book.tick(at(20_000));
    bench.book.tick(at(700_000));
    time("bind 1,000 more", &mut || bench.bind(&all, 800_000));
    time("one more proxy's word, 1,000 Pods wait", &mut || {
        bench
            .book
            .observe(Arc::new(bench.observed.clone()), at(800_010));
    });
    time("tick, 1,000 Pods are new", &mut || {
        _ = bench.book.tick(at(800_250));
    });
    let mut weights = all.clone();
    weights[5_000].1 = 0;
    time("one weight of 10,000", &mut || {
        bench.bind(&weights, 800_300);
    });
}
