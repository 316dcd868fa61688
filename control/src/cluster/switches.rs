//! Switches for the whole cluster, from TKE's ConfigMap `kube-system/tke-service-controller-config`.

use k8s_openapi::api::core::v1::ConfigMap;

/// Where the switches are.
pub const NAMESPACE: &str = "kube-system";
/// What the ConfigMap is called.
pub const NAME: &str = "tke-service-controller-config";
/// Pods with addresses of their nodes' networks may be bound directly.
pub const GLOBAL_ROUTES: &str = "GlobalRouteDirectAccess";
/// A new Service that does not say how goes straight to Pods.
const DIRECT: &str = "EnableDefaultDirectAccess";
/// Which release of TKE's controller wrote the ConfigMap.
const VERSION: &str = "VERSION";

/// The switches; all are off without a ConfigMap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Switches {
    /// `EnableDefaultDirectAccess`: a new Service that does not say how goes straight to Pods.
    pub direct_for_new: bool,
    /// `GlobalRouteDirectAccess`: whether Pods of GlobalRouter may be bound directly. Nothing where TKE's network modes
    /// mean nothing: without a value, unless a controller of TKE wrote the ConfigMap.
    pub global_routes: Option<bool>,
    /// Keys whose value is neither `true` nor `false`.
    pub unreadable: Vec<String>,
}

impl Switches {
    /// Reads the ConfigMap; `None` is none.
    pub fn read(object: Option<&ConfigMap>) -> Self {
        let data = object.and_then(|object| object.data.as_ref());
        let get = |key: &str| data?.get(key).map(String::as_str);
        let mut unreadable = Vec::new();
        let mut switch = |key: &str| match get(key)? {
            "true" => Some(Some(true)),
            "false" => Some(Some(false)),
            _ => {
                unreadable.push(key.to_owned());
                Some(None)
            }
        };
        let direct = switch(DIRECT).flatten();
        let global_routes = match switch(GLOBAL_ROUTES) {
            None => get(VERSION).map(|_| false),
            Some(said) => said,
        };
        Self {
            direct_for_new: direct == Some(true),
            global_routes,
            unreadable,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(data: &[(&str, &str)]) -> Switches {
        let data = data.iter();
        let data = data.map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        Switches::read(Some(&ConfigMap {
            data: Some(data.collect()),
            ..ConfigMap::default()
        }))
    }

    #[test]
    fn network_modes_mean_something_where_tke_was() {
        let of = |data: &[(&str, &str)]| read(data).global_routes;
        assert_eq!(Switches::read(None).global_routes, None);
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[(DIRECT, "true")]), None, "made by hand");
        assert_eq!(of(&[(VERSION, "v2.11.4")]), Some(false));
        let with = |value| of(&[(VERSION, "v2.11.4"), (GLOBAL_ROUTES, value)]);
        assert_eq!((with("true"), with("false")), (Some(true), Some(false)));
        assert_eq!(of(&[(GLOBAL_ROUTES, "true")]), Some(true));
        assert_eq!(with("yes"), None, "nobody is refused for a slip");
    }

    #[test]
    fn what_is_no_switch_is_told() {
        let read = read(&[(DIRECT, "on"), (GLOBAL_ROUTES, "")]);
        assert!(!read.direct_for_new);
        assert_eq!(read.unreadable, [DIRECT, GLOBAL_ROUTES]);
    }
}
