//! Holds the manifests against the table.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1 as wire;

use super::*;
use crate::installation::tests::{files, of_kind};
use crate::installation::{CONTROL, NAMESPACE, PROXY, TLS_ROLE};

fn rules(scope: Scope) -> Vec<wire::PolicyRule> {
    let of_scope = RULES.iter().filter(|rule| rule.scope == scope);
    wired(of_scope)
}

fn wired<'a>(rules: impl IntoIterator<Item = &'a Rule>) -> Vec<wire::PolicyRule> {
    let list = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
    rules
        .into_iter()
        .map(|rule| wire::PolicyRule {
            api_groups: Some(list(&[rule.group])),
            resources: Some(list(&[rule.resource])),
            resource_names: (!rule.names.is_empty()).then(|| list(rule.names)),
            verbs: list(rule.verbs),
            non_resource_urls: None,
        })
        .collect()
}

#[test]
fn the_manifests_allow_what_the_table_says_and_no_more() {
    let [cluster, tls] = <[wire::ClusterRole; 2]>::try_from(of_kind("ClusterRole")).unwrap();
    assert_eq!(cluster.rules.unwrap(), rules(Scope::Cluster));
    assert_eq!(tls.metadata.name.as_deref(), Some(TLS_ROLE));
    assert_eq!(tls.rules.unwrap(), wired(TLS));
    let roles = of_kind::<wire::Role>("Role");
    assert_eq!(roles.len(), 2);
    for role in roles {
        let scope = match role.metadata.namespace.as_deref() {
            Some(NAMESPACE) => Scope::Own,
            Some(switches::NAMESPACE) => Scope::KubeSystem,
            other => panic!("{other:?}"),
        };
        assert_eq!(role.rules.unwrap(), rules(scope));
    }
}

#[test]
fn the_roles_are_the_controllers_alone() {
    let cluster = of_kind::<wire::ClusterRoleBinding>("ClusterRoleBinding");
    let own = of_kind::<wire::RoleBinding>("RoleBinding");
    assert_eq!((cluster.len(), own.len()), (1, 2));
    let of_cluster = cluster
        .into_iter()
        .map(|found| (found.role_ref, found.subjects));
    let of_own = own
        .into_iter()
        .map(|found| (found.role_ref, found.subjects));
    for (role, subjects) in of_cluster.chain(of_own) {
        assert_eq!(role.name, CONTROL);
        let [subject] = <[_; 1]>::try_from(subjects.unwrap()).unwrap();
        let account = (
            subject.kind.as_str(),
            subject.name.as_str(),
            subject.namespace.as_deref(),
        );
        assert_eq!(account, ("ServiceAccount", CONTROL, Some(NAMESPACE)));
    }
    let accounts = of_kind::<ServiceAccount>("ServiceAccount");
    assert_eq!(accounts.len(), 2);
    for account in accounts {
        let may_speak = account.automount_service_account_token.unwrap_or(true);
        assert_eq!(may_speak, account.metadata.name.as_deref() != Some(PROXY));
    }
}

#[test]
fn each_rule_says_in_the_manifest_what_needs_it() {
    let files = files();
    let (_, text) = files
        .iter()
        .find(|(name, _)| name == "accounts.yaml")
        .unwrap();
    let comments: Vec<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# "))
        .collect();
    for rule in RULES.iter().chain(TLS) {
        assert!(
            comments.contains(&rule.why),
            "no comment says {:?}",
            rule.why
        );
    }
}

#[test]
fn nothing_is_allowed_twice_and_every_reason_is_a_sentence() {
    for (i, rule) in RULES.iter().enumerate() {
        assert!(rule.why.ends_with('.'), "{}", rule.why);
        let same = |other: &Rule| {
            (other.scope, other.group, other.resource) == (rule.scope, rule.group, rule.resource)
                && other.verbs.iter().any(|verb| rule.verbs.contains(verb))
        };
        assert!(!RULES[..i].iter().any(same), "{}", rule.resource);
    }
}
