//! What systemd hears.

use std::os::unix::net::UnixDatagram;

use podline_lab::wait;
use rustix::process::Signal;

use crate::harness::{LONG, SECOND, Start};

#[test]
fn the_service_manager_hears_ready_alive_reloading_and_stopping() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(LONG)).unwrap();
    let proxy = Start {
        yaml: Some("listeners: []".to_owned()),
        environment: vec![
            ("NOTIFY_SOCKET", path.to_str().unwrap()),
            ("WATCHDOG_USEC", "2000000"),
        ],
        ..Start::default()
    }
    .ready();
    let hear = || {
        let mut buffer = [0; 512];
        let bytes = manager.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..bytes]).into_owned()
    };
    let hear_of = |wanted: &str| {
        let mut told = hear();
        wait::until(LONG, wanted, || {
            let found = told.starts_with(wanted);
            if !found {
                told = hear();
            }
            found
        });
        told
    };
    assert_eq!(hear_of("READY=1"), "READY=1\nSTATUS=serving");
    hear_of("WATCHDOG=1");
    hear_of("WATCHDOG=1");
    proxy.signal(Signal::HUP);
    assert!(hear_of("RELOADING=1").contains("MONOTONIC_USEC="));
    hear_of("READY=1");
    proxy.wait_logged("configuration loaded");
    proxy.signal(Signal::TERM);
    hear_of("STOPPING=1");
    assert!(proxy.wait_end(5 * SECOND).unwrap().success());
}

#[test]
fn a_hangup_without_a_file_to_read_ends_nothing() {
    let proxy = Start::default().ready();
    proxy.signal(Signal::HUP);
    proxy.wait_logged("SIGHUP");
    proxy.get();
}
