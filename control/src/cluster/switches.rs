//! Switches for the whole cluster, from TKE's ConfigMap `kube-system/tke-service-controller-config`.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;

/// Where the switches are.
pub const NAMESPACE: &str = "kube-system";
/// What the ConfigMap is called.
pub const NAME: &str = "tke-service-controller-config";
/// Pods with addresses of their nodes' networks may be bound directly.
pub const GLOBAL_ROUTES: &str = "GlobalRouteDirectAccess";
/// A new Service that does not say how goes straight to Pods.
const DIRECT: &str = "EnableDefaultDirectAccess";
/// Which release of which controller follows the ConfigMap.
pub const VERSION: &str = "VERSION";
/// What begins the id of a security group.
const GROUP: &str = "sg-";
/// What begins those of ours.
const OURS: &str = "podline-";

/// The switches; all are off without a ConfigMap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Switches {
    /// `EnableDefaultDirectAccess`: a new Service that does not say how goes straight to Pods.
    pub direct_for_new: bool,
    /// `GlobalRouteDirectAccess`: whether Pods of GlobalRouter may be bound directly, if that is said.
    pub global_routes: Option<bool>,
    /// Nothing is said of that, and the ConfigMap has the version of another controller.
    pub is_of_tke: bool,
    /// Security groups by id: the networks that each lets in, and nothing parsed.
    pub groups: BTreeMap<String, Vec<String>>,
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
        let global_routes = switch(GLOBAL_ROUTES);
        let groups = data.into_iter().flatten();
        let groups = groups.filter(|(key, _)| key.starts_with(GROUP));
        let groups = groups.map(|(id, text)| (id.clone(), networks(text)));
        let is_foreign = || get(VERSION).is_some_and(|version| !version.starts_with(OURS));
        Self {
            direct_for_new: direct == Some(true),
            global_routes: global_routes.flatten(),
            is_of_tke: global_routes.is_none() && is_foreign(),
            groups: groups.collect(),
            unreadable,
        }
    }
}

/// With commas, spaces or lines between them.
fn networks(text: &str) -> Vec<String> {
    let parts = text.split(|c: char| c == ',' || c.is_whitespace());
    let parts = parts.filter(|part| !part.is_empty());
    parts.map(ToOwned::to_owned).collect()
}

/// The version that Podline gives: its release.
pub fn own_version() -> String {
    format!("{OURS}v{}", env!("CARGO_PKG_VERSION"))
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
    fn the_version_of_another_controller_is_a_sign_of_tke() {
        let of = |data: &[(&str, &str)]| {
            let read = read(data);
            (read.global_routes, read.is_of_tke)
        };
        let nothing = (None, false);
        assert_eq!(Switches::read(None), Switches::default());
        assert_eq!(of(&[]), nothing);
        assert_eq!(of(&[(DIRECT, "true")]), nothing, "made by hand");
        assert_eq!(of(&[(VERSION, "v2.11.4")]), (None, true));
        assert_eq!(of(&[(VERSION, &own_version())]), nothing);
        let with = |value| of(&[(VERSION, "v2.11.4"), (GLOBAL_ROUTES, value)]);
        assert_eq!(with("true"), (Some(true), false));
        assert_eq!(with("false"), (Some(false), false));
        assert_eq!(of(&[(GLOBAL_ROUTES, "true")]), (Some(true), false));
        assert_eq!(with("yes"), nothing, "nobody is refused for a slip");
    }

    #[test]
    fn security_groups_are_told_by_their_ids() {
        let read = read(&[
            ("sg-office", "10.0.0.0/8, 192.0.2.0/24\n2001:db8::/32\n"),
            ("sg-nobody", ""),
            ("other", "10.0.0.0/8"),
        ]);
        let list = |texts: &[&str]| texts.iter().map(ToString::to_string).collect();
        let office = list(&["10.0.0.0/8", "192.0.2.0/24", "2001:db8::/32"]);
        let expected = [("sg-nobody", list(&[])), ("sg-office", office)];
        assert_eq!(
            read.groups,
            expected.map(|(id, list)| (id.to_owned(), list)).into()
        );
    }

    #[test]
    fn what_is_no_switch_is_told() {
        let read = read(&[(DIRECT, "on"), (GLOBAL_ROUTES, "")]);
        assert!(!read.direct_for_new);
        assert_eq!(read.unreadable, [DIRECT, GLOBAL_ROUTES]);
    }
}
