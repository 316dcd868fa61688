//! Which network mode Pods are in.

use k8s_openapi::api::core::v1 as core;
use serde_json::{Value, json};

use super::*;

fn read(annotations: &Value, resources: &Value) -> Pod {
    let object: core::Pod = serde_json::from_value(json!({
        "metadata": {"namespace": "a", "name": "b", "annotations": annotations},
        "spec": {"containers": [{"name": "c", "resources": resources}]},
    }))
    .unwrap();
    Pod::read(&object).unwrap()
}

#[test]
fn vpc_cni_is_asked_for_by_name_or_by_interface() {
    const NETWORKS: &str = "tke.cloud.tencent.com/networks";
    for networks in [
        "tke-route-eni",
        "tke-direct-eni,flannel",
        "a, tke-route-eni",
    ] {
        let pod = read(&json!({NETWORKS: networks}), &json!({}));
        assert!(pod.is_vpc_cni, "{networks}");
    }
    for networks in ["", "tke-bridge", "flannel", "my-eni"] {
        let pod = read(&json!({NETWORKS: networks}), &json!({}));
        assert!(!pod.is_vpc_cni, "{networks}");
    }
    for (list, name, expected) in [
        ("requests", "tke.cloud.tencent.com/eni-ip", true),
        ("limits", "tke.cloud.tencent.com/direct-eni", true),
        ("limits", "tke.cloud.tencent.com/qgpu-core", false),
        ("requests", "cpu", false),
    ] {
        let resources = json!({list: {name: "1"}});
        let pod = read(&json!({}), &resources);
        assert_eq!(pod.is_vpc_cni, expected, "{name}");
    }
}
