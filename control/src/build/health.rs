//! Health checks that Services get, and what the proxies found. Pure.

use podline_api::{BackendKey, HealthCheck, Name, v1};

use crate::observed::Observed;

/// A node says at its `healthCheckNodePort` whether it has Pods of the Service.
pub(super) fn of_nodes(port: u16) -> HealthCheck {
    let wire = v1::HealthCheck {
        r#type: Some(v1::health_check::Type::Http.into()),
        port: Some(port.into()),
        http: Some(v1::HttpCheck {
            path: Some("/healthz".to_owned()),
            statuses: vec!["200".to_owned()],
            ..v1::HttpCheck::default()
        }),
        ..v1::HealthCheck::default()
    };
    HealthCheck::try_from(wire).expect("a path, a status and a port that is not 0 are valid")
}

/// Whether a backend takes traffic on every proxy that serves. Without any, nobody is known to be healthy.
pub(crate) fn on_all(observed: &Observed, set: &Name, backend: &BackendKey) -> bool {
    let mut serving = observed.serving().peekable();
    serving.peek().is_some()
        && serving.all(|(_, proxy)| {
            proxy
                .healthy
                .get(set)
                .is_some_and(|healthy| healthy.contains(backend))
        })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::observed::ProxyView;

    #[test]
    fn healthy_is_what_all_serving_proxies_say_and_none_says_nothing() {
        let set: Name = "web".parse().unwrap();
        let key = BackendKey {
            id: None,
            address: "10.0.0.1:80".parse().unwrap(),
        };
        let proxy = |serving: bool, healthy: bool| ProxyView {
            serving,
            healthy: [(
                set.clone(),
                healthy.then(|| key.clone()).into_iter().collect(),
            )]
            .into_iter()
            .collect(),
            ..ProxyView::default()
        };
        let check = |proxies: &[ProxyView], expected: bool| {
            let proxies = proxies.iter().enumerate();
            let proxies = proxies.map(|(n, proxy)| (n.to_string(), Arc::new(proxy.clone())));
            let observed = Observed {
                proxies: proxies.collect(),
                ..Observed::default()
            };
            assert_eq!(on_all(&observed, &set, &key), expected, "{observed:?}");
        };
        check(&[], false);
        check(&[proxy(true, true)], true);
        check(&[proxy(true, false)], false);
        check(&[proxy(false, true)], false);
        check(&[proxy(true, true), proxy(true, false)], false);
        check(&[proxy(true, true), proxy(false, false)], true);
    }
}
