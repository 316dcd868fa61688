//! What the controller was started with, as far as its Deployment tells. Pure.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Container;
use podline_api::Owner;

/// Whose the controller's state is in the proxies.
pub(super) fn of(deployment: &Deployment) -> Option<Owner> {
    let found = setting(deployment, "cluster", "PODLINE_CLUSTER");
    let cluster = found.unwrap_or_else(|| "default".to_owned());
    Owner::try_from(format!("k8s/{cluster}")).ok()
}

/// Proxies that it was given by address, and that may well be no Pods.
pub(super) fn outside(deployment: &Deployment) -> Option<String> {
    setting(deployment, "proxy", "PODLINE_PROXY")
}

/// The value of a flag, or of its environment variable.
fn setting(deployment: &Deployment, flag: &str, variable: &str) -> Option<String> {
    let pod = deployment.spec.as_ref()?.template.spec.as_ref()?;
    let of_container = |container: &Container| {
        let words = || container.command.iter().chain(&container.args).flatten();
        let long = format!("--{flag}");
        let joined = words().find_map(|word| word.strip_prefix(&long)?.strip_prefix('='));
        let apart = || words().skip_while(|word| **word != long).nth(1);
        let given = joined.map(str::to_owned).or_else(|| apart().cloned());
        let mut variables = container.env.iter().flatten();
        given.or_else(|| {
            variables
                .find(|found| found.name == variable)?
                .value
                .clone()
        })
    };
    pod.containers.iter().find_map(of_container)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn deployment(container: &Value) -> Deployment {
        let spec = json!({"selector": {}, "template": {"spec": {"containers": [container]}}});
        serde_json::from_value(json!({"spec": spec})).unwrap()
    }

    #[test]
    fn flags_and_variables_are_read() {
        let check = |container: Value, owner: &str, proxies: Option<&str>| {
            let found = deployment(&container);
            assert_eq!(of(&found).unwrap().as_str(), owner, "{container}");
            assert_eq!(outside(&found).as_deref(), proxies, "{container}");
        };
        check(json!({"name": "c"}), "k8s/default", None);
        check(
            json!({"name": "c", "args": ["--cluster=east", "--proxy", "a:1,b:1"]}),
            "k8s/east",
            Some("a:1,b:1"),
        );
        check(
            json!({"name": "c", "command": ["podline-control", "--cluster", "east"],
                "args": ["--proxy-service=podline-proxy"]}),
            "k8s/east",
            None,
        );
        check(
            json!({"name": "c", "env": [{"name": "PODLINE_CLUSTER", "value": "west"}]}),
            "k8s/west",
            None,
        );
    }
}
