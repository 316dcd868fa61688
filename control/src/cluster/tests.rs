//! What a change touches.

use super::testing::{bare, endpoint, key, pod, slice};
use super::*;

#[test]
fn a_pod_touches_the_services_that_name_it() {
    let mut cluster = Cluster::default();
    let a = pod("default/a", "10.244.1.2");
    let named = slice("web-1", "default/web", vec![endpoint(&a)]);
    let aimed = slice("odd-1", "other/odd", vec![bare("10.244.1.2")]);
    for slice in [named, aimed] {
        cluster.apply(Change::Slice(slice.key.clone(), Some(slice)));
    }
    let touched = cluster.apply(Change::Pod(a.key.clone(), Some(a.clone())));
    assert_eq!(
        touched.services,
        [key("default/web"), key("other/odd")].into()
    );
    let touched = cluster.apply(Change::Pod(a.key.clone(), Some(a.clone())));
    assert!(touched.is_empty(), "nothing changed: {touched:?}");
    cluster.apply(Change::Slice(key("default/web-1"), None));
    let touched = cluster.apply(Change::Pod(a.key.clone(), None));
    assert_eq!(touched.services, [key("other/odd")].into());
}
