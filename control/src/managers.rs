//! Who else wrote to an object: as the API server keeps it in managedFields. Pure.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::cluster::service::MANAGER;

/// Somebody else, and when they wrote last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Other {
    pub(crate) manager: String,
    pub(crate) time: Option<String>,
}

/// Who wrote last besides us; absent if nobody did.
pub(crate) fn other(metadata: &ObjectMeta) -> Option<Other> {
    let entries = metadata.managed_fields.iter().flatten();
    let others = entries.filter(|entry| entry.manager.as_deref().is_some_and(|by| by != MANAGER));
    let last = others.max_by_key(|entry| entry.time.as_ref().map(|time| time.0))?;
    Some(Other {
        manager: last.manager.clone().unwrap_or_default(),
        time: last.time.as_ref().map(|time| time.0.to_string()),
    })
}

/// The words for somebody who undoes what Podline mends; `what` becomes of the object.
pub(crate) fn contested(other: Option<&Other>, what: &str) -> String {
    let who = match other {
        Some(Other {
            manager,
            time: Some(time),
        }) => format!("{manager} (last at {time})"),
        Some(Other {
            manager,
            time: None,
        }) => manager.clone(),
        None => "somebody".to_owned(),
    };
    format!("{who} keeps undoing what Podline mends; it {what}")
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;

    use super::*;

    fn entry(manager: &str, second: i64) -> ManagedFieldsEntry {
        let time = k8s_openapi::jiff::Timestamp::from_second(second).unwrap();
        ManagedFieldsEntry {
            manager: Some(manager.to_owned()),
            time: Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(time)),
            ..ManagedFieldsEntry::default()
        }
    }

    #[test]
    fn the_last_other_is_named() {
        let of = |entries: Vec<_>| ObjectMeta {
            managed_fields: Some(entries),
            ..ObjectMeta::default()
        };
        let found = other(&of(vec![
            entry("kubectl", 10),
            entry("argocd", 20),
            entry(MANAGER, 30),
        ]));
        let told = contested(found.as_ref(), "waits");
        assert!(
            told.starts_with("argocd (last at 1970-01-01T00:00:20Z) keeps"),
            "{told}"
        );
        assert_eq!(other(&of(vec![entry(MANAGER, 1)])), None);
        assert_eq!(other(&ObjectMeta::default()), None);
    }
}
