//! How pingora-proxy is started: as a program of our own around it, which the feature `pingora` builds. Pure.

use super::targets::{File, Wanted, joined};

/// Its backends, one a line; read again on SIGHUP.
const BACKENDS: &str = "pingora-backends";
/// What it says each time that it has read them.
pub(super) const TOOK: &str = "took its backends";

/// The files it reads.
pub(super) fn files(wanted: &Wanted) -> Vec<File> {
    let backends = joined(&wanted.targets.http, |target| format!("{target}\n"));
    vec![(BACKENDS, backends)]
}

/// Its command line.
pub(super) fn arguments(wanted: &Wanted) -> Vec<String> {
    let listen = wanted.http().listen.to_string();
    let workers = wanted.workers.to_string();
    let backends = wanted.path(BACKENDS);
    [
        "--listen",
        &listen,
        "--backends",
        &backends,
        "--workers",
        &workers,
    ]
    .map(ToOwned::to_owned)
    .to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subject::Layer;
    use crate::subject::targets::example;

    #[test]
    fn it_is_told_where_to_listen_and_who_its_backends_are() {
        let wanted = example(Layer::L7);
        let expected =
            "--listen 10.88.0.100:8000 --backends /run/bench/pingora-backends --workers 2";
        assert_eq!(arguments(&wanted).join(" "), expected);
        let expected = "10.244.1.10:8080\n10.244.1.11:8080\n".to_owned();
        assert_eq!(files(&wanted), [(BACKENDS, expected)]);
    }
}
