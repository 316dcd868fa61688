//! Security groups become source ranges, and never open what they were to close without a word.

use super::*;
use crate::build::annotation::SECURITY_GROUPS;

/// A Service that names groups, in a cluster that has some.
fn with(groups: &[(&str, &[&str])], named: &str, ranges: &[&str]) -> Checked {
    let mut checked = cluster(Options::default());
    switch(&mut checked, groups);
    let mut web = service("default/web");
    annotate(&mut web, SECURITY_GROUPS, named);
    web.source_ranges = ranges.iter().map(ToString::to_string).collect();
    put(&mut checked, &web);
    checked
}

fn switch(checked: &mut Checked, groups: &[(&str, &[&str])]) {
    let groups = groups.iter().map(|(id, networks)| {
        let networks = networks.iter().map(ToString::to_string).collect();
        ((*id).to_owned(), networks)
    });
    checked.change(Change::Switches(Switches {
        groups: groups.collect(),
        ..Switches::default()
    }));
}

fn check(checked: &Checked, lets_in: &[&str], told: &[&str]) {
    let plan = plan_of(checked, "default/web");
    let ranges = plan.listeners[0].limits.source_ranges.iter();
    let ranges: Vec<_> = ranges.map(ToString::to_string).collect();
    assert_eq!(ranges, lets_in);
    assert_eq!(reasons(&plan), told);
}

const OFFICE: (&str, &[&str]) = ("sg-office", &["10.0.0.0/8", "2001:db8::/32"]);
const HOME: (&str, &[&str]) = ("sg-home", &["192.0.2.7/32", "10.0.0.0/8"]);
const NOBODY: &[&str] = &["0.0.0.0/32"];

#[test]
fn groups_let_in_what_the_cluster_says_of_them() {
    check(&with(&[OFFICE, HOME], "sg-office", &[]), OFFICE.1, &[]);
    let both = &["10.0.0.0/8", "192.0.2.7/32", "2001:db8::/32"];
    check(&with(&[OFFICE, HOME], "sg-office, sg-home", &[]), both, &[]);
    check(&with(&[("sg-none", &[])], "sg-none", &[]), NOBODY, &[]);
    check(&with(&[OFFICE], "", &[]), &[], &[]);
}

#[test]
fn what_a_group_is_not_known_to_let_in_stays_out_and_is_told() {
    let unknown = &["SecurityGroupUnknown"];
    check(&with(&[OFFICE], "sg-office,sg-x", &[]), OFFICE.1, unknown);
    let mut checked = with(&[OFFICE], "sg-x", &[]);
    check(&checked, NOBODY, unknown);
    switch(&mut checked, &[OFFICE, ("sg-x", &["192.0.2.0/24", "x"])]);
    check(&checked, &["192.0.2.0/24"], &["InvalidSourceRange"]);
    switch(&mut checked, &[("sg-x", &["x"])]);
    check(&checked, NOBODY, &["InvalidSourceRange"]);
    switch(&mut checked, &[OFFICE]);
    check(&checked, NOBODY, unknown);
}

#[test]
fn where_there_are_no_groups_everybody_may_connect_and_is_told_so() {
    check(&with(&[], "sg-a,sg-b", &[]), &[], &["AnnotationIgnored"]);
    check(&with(&[], "", &[]), &[], &[]);
}

#[test]
fn source_ranges_count_alone() {
    let ranges = &["192.0.2.0/24"];
    check(&with(&[], "sg-a", ranges), ranges, &[]);
    let told = &["AnnotationIgnored"];
    check(&with(&[OFFICE], "sg-office", ranges), ranges, told);
}

#[test]
fn what_are_no_ids_changes_nothing() {
    let mut checked = with(&[OFFICE], "sg-office", &[]);
    for odd in [
        "office",
        "sg-",
        "sg-a,,sg-b",
        "sg-a sg-b",
        "sg-1,sg-2,sg-3,sg-4,sg-5,sg-6",
    ] {
        let mut web = service("default/web");
        annotate(&mut web, SECURITY_GROUPS, odd);
        put(&mut checked, &web);
        check(&checked, OFFICE.1, &["InvalidAnnotation"]);
    }
}
