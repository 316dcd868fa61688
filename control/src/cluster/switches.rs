//! Switches for the whole cluster, from TKE's ConfigMap `kube-system/tke-service-controller-config`.

use k8s_openapi::api::core::v1::ConfigMap;

/// Where the switches are.
pub const NAMESPACE: &str = "kube-system";
/// What the ConfigMap is called.
pub const NAME: &str = "tke-service-controller-config";

/// The switches; all are off without a ConfigMap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Switches {
    /// `EnableDefaultDirectAccess`: a new Service that does not say how goes straight to Pods.
    pub direct_for_new: bool,
    /// Keys whose value is neither `true` nor `false`.
    pub unreadable: Vec<String>,
}

impl Switches {
    /// Reads the ConfigMap; `None` is none.
    pub fn read(object: Option<&ConfigMap>) -> Self {
        const DIRECT: &str = "EnableDefaultDirectAccess";
        let data = object.and_then(|object| object.data.as_ref());
        match data.and_then(|data| data.get(DIRECT)).map(String::as_str) {
            None | Some("false") => Self::default(),
            Some("true") => Self {
                direct_for_new: true,
                ..Self::default()
            },
            Some(_) => Self {
                unreadable: vec![DIRECT.to_owned()],
                ..Self::default()
            },
        }
    }
}
