//! An Ingress with `mode: skip` stays what it was.

use super::*;
use crate::build::annotation::ingress::{MODE, WEIGHTS};

const SITE: &str = "default/site";

fn skipping(checked: &mut Checked, change: impl Fn(&mut Ingress)) {
    put(checked, SITE, |ingress| {
        ingress.finalizers.push(FINALIZER.to_owned());
        let skip = (MODE.to_owned(), "skip".to_owned());
        ingress.annotations.extend([skip]);
        change(ingress);
    });
}

/// It is served, and then says skip.
fn skipped() -> Checked {
    let mut checked = cluster(Options::default());
    put(&mut checked, SITE, |_| {});
    skipping(&mut checked, |_| {});
    checked
}

#[test]
fn edits_of_it_and_of_its_services_change_nothing_until_it_is_taken_back() {
    let mut checked = skipped();
    let before = checked.builder.snapshot().clone();
    let plan = plan_of(&checked, SITE);
    assert_eq!((reasons(&plan), plan.is_skipped), (vec!["Skipped"], true));
    assert!(plan.notes[0].message.contains(MODE), "{plan:?}");
    skipping(&mut checked, |ingress| {
        ingress.rules = vec![rule("a.example", "/", "api")];
        let weights = (WEIGHTS.to_owned(), r#"{"defaultWeight":0}"#.to_owned());
        ingress.annotations.extend([weights]);
    });
    put_service(&mut checked, "default/web", |service| {
        service.ports = vec![crate::cluster::testing::port("", 8443)];
    });
    checked.change(Change::Service(key("default/web"), None));
    let now = checked.builder.snapshot();
    assert_eq!(
        (&now.listeners, &now.sets),
        (&before.listeners, &before.sets)
    );
    put(&mut checked, SITE, |ingress| {
        ingress.rules = vec![rule("a.example", "/", "api")];
    });
    let expected = [format!("a.example/ {API}")];
    assert_eq!(
        routes(&plan_of(&checked, SITE), "default/site/http/80"),
        expected
    );
}

#[test]
fn nobody_joins_and_who_ends_leaves() {
    let mut checked = skipped();
    let web = pod("default/web", "10.0.0.1");
    let more = pod("default/more", "10.0.0.9");
    checked.change(Change::Pod(more.key.clone(), Some(more.clone())));
    let others = slice("web-1", "default/web", vec![endpoint(&more)]);
    checked.change(Change::Slice(others.key.clone(), Some(others)));
    assert_eq!(backends(&plan_of(&checked, SITE), WEB), ["10.0.0.1:8080"]);
    // No slice names it any more, and yet its end is seen.
    let mut ending = web.clone();
    ending.is_deleting = true;
    checked.change(Change::Pod(web.key.clone(), Some(ending)));
    let plan = plan_of(&checked, SITE);
    assert_eq!(plan.sets[0].backends[0].weight.get(), 0);
    checked.change(Change::Pod(web.key, None));
    assert_eq!(backends(&plan_of(&checked, SITE), WEB), [""; 0]);
}

#[test]
fn whoever_starts_anew_takes_it_as_it_is_and_one_that_was_nobodys_gets_nothing() {
    let mut checked = cluster(Options::default());
    skipping(&mut checked, |_| {});
    assert_eq!(backends(&plan_of(&checked, SITE), WEB), ["10.0.0.1:8080"]);
    let mut checked = cluster(Options::default());
    skipping(&mut checked, |ingress| ingress.finalizers.clear());
    assert!(checked.builder.snapshot().listeners.is_empty());
    // Its places are free for others.
    put(&mut checked, "default/late", |ingress| ingress.created += 1);
    assert_eq!(reasons(&plan_of(&checked, "default/late")), [""; 0]);
    skipping(&mut checked, |ingress| ingress.is_deleting = true);
    let standing = checked.builder.ingresses().get(&key(SITE));
    assert_eq!(standing, Some(&Standing::Leaving));
}
