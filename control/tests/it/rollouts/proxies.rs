//! One of two proxies fails in the middle of a rolling update: the gates go on, and nothing is lost through the other.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use podline_lab::wait;
use rustix::process::{Pid, Signal, kill_process};

use super::{
    ROLLOUT, Watched, assert_lossless, begin_roll, deployment, pods, serve, surge,
    wait_eligible_on, wait_gone, wait_rolled_out,
};
use crate::harness::scene::Scene;
use crate::harness::traffic::Plan;

const PODS: u32 = 3;

/// Rolls with clients of proxy 0; `fail` is what happens to proxy 1 once the first new Pod is there, `mend` after all.
fn roll_while(name: &str, fail: impl FnOnce(&mut Scene), mend: impl FnOnce(&mut Scene)) {
    let Some(mut scene) = Scene::set(name) else {
        return;
    };
    serve(&scene, deployment(PODS, surge()), PODS, true);
    let watched = Watched::through(&scene, &[0], Plan::FULL);
    begin_roll(&scene, "once");
    wait::until(ROLLOUT, "the first new Pod is there", || {
        pods(&scene).1 > PODS as usize
    });
    fail(&mut scene);
    wait_rolled_out(&scene);
    wait_gone(&scene, PODS);
    wait_eligible_on(&scene, &[0], PODS);
    let tally = watched.stop();
    mend(&mut scene);
    wait_eligible_on(&scene, &[0, 1], PODS);
    assert_lossless(name, &tally);
}

#[test]
fn a_proxy_that_hangs_does_not_stop_a_rolling_update() {
    roll_while(
        "roll-hang",
        |scene| scene.proxies[1].signal(Signal::STOP),
        |scene| scene.proxies[1].signal(Signal::CONT),
    );
}

#[test]
fn a_proxy_that_dies_does_not_stop_a_rolling_update() {
    roll_while(
        "roll-die",
        |scene| {
            scene.proxies[1].signal(Signal::KILL);
            scene.proxies[1].wait_end();
        },
        |scene| scene.restart_proxy(1),
    );
}

#[test]
#[ignore = "long, and close to others; run by hand"]
fn a_proxy_that_starts_anew_does_not_stop_a_rolling_update() {
    roll_while(
        "roll-anew",
        |scene| {
            scene.proxies[1].signal(Signal::KILL);
            scene.proxies[1].wait_end();
            scene.restart_proxy(1);
        },
        |_| {},
    );
}

/// It acknowledges, but late: it stands still most of the time.
#[test]
fn a_proxy_that_lags_does_not_stop_a_rolling_update() {
    let lags = Arc::new(());
    let still = Arc::downgrade(&lags); // gone with the test, however that ends
    let thread = RefCell::new(None);
    roll_while(
        "roll-lag",
        |scene| {
            let pid = Pid::from_raw(scene.proxies[1].pid().cast_signed()).unwrap();
            *thread.borrow_mut() = Some(std::thread::spawn(move || {
                while still.upgrade().is_some() {
                    for (signal, ms) in [(Signal::STOP, 2_500), (Signal::CONT, 500)] {
                        if kill_process(pid, signal).is_err() {
                            return;
                        }
                        std::thread::park_timeout(Duration::from_millis(ms));
                    }
                }
            }));
        },
        |_| {
            drop(lags);
            thread.take().unwrap().join().unwrap();
        },
    );
}
