//! Which Secrets are to be watched: those that Services and Ingresses of ours name for their certificates, and no others. Pure.

use std::sync::Arc;

use crate::build::{self, Options};
use crate::cluster::{Change, Cluster, Front, Touched};
use crate::secrets::Wanted;

/// What is wanted now.
#[derive(Debug, Default)]
pub(super) struct Wants {
    wanted: Arc<Wanted>,
    /// Of the newest.
    generation: u64,
    /// All that was wanted was known, once.
    has_begun: bool,
}

impl Wants {
    /// Takes in who names what. Something else is wanted now if it says so; what is not wanted any more is forgotten,
    /// which touches whom it says.
    pub(super) fn update(
        &mut self,
        cluster: &mut Cluster,
        options: &Options,
    ) -> (Option<Arc<Wanted>>, Touched) {
        let is_ours = |front: &Front| match front {
            Front::Service(key) => {
                let entry = cluster.service(key);
                entry.is_some_and(|entry| build::is_ours(&entry.service, options))
            }
            Front::Ingress(key) => {
                let entry = cluster.ingress(key);
                entry.is_some_and(|entry| build::is_our_ingress(&entry.ingress, options))
            }
        };
        let named = cluster.named_secrets();
        let named = named.filter(|(_, fronts)| fronts.iter().any(is_ours));
        let newest = self.generation + 1;
        let before = &self.wanted;
        let now = named.map(|(key, _)| {
            let generation = before.get(key).copied().unwrap_or(newest);
            (key.clone(), generation)
        });
        let now: Wanted = now.collect();
        // A watch that was given up may have told something since.
        let stale = cluster.known_secrets().filter(|key| !now.contains_key(key));
        let stale: Vec<_> = stale.cloned().collect();
        let mut touched = Touched::default();
        for key in stale {
            touched.merge(cluster.apply(Change::Secret(key, None)));
        }
        if *self.wanted == now {
            return (None, touched);
        }
        self.generation = newest;
        self.wanted = Arc::new(now);
        (Some(Arc::clone(&self.wanted)), touched)
    }

    /// Something is wanted and not known, and never was all known.
    pub(super) fn lacks_first(&mut self, cluster: &Cluster) -> bool {
        let is_known = |key| cluster.secret(key).is_some();
        let has_tickets = self.wanted.is_empty() || cluster.ticket_keys().is_some();
        self.has_begun |= self.wanted.keys().all(is_known) && has_tickets;
        !self.has_begun
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::testing::{key, service, tls_secret};

    fn put(cluster: &mut Cluster, name: &str, secret: Option<&str>, is_ours: bool) {
        let mut made = service(name);
        if !is_ours {
            made.class = Some("other".to_owned());
        }
        let said = secret
            .map(|secret| format!(r#"{{"80":{{"protocol":["HTTPS"],"tls":"{secret}"}}}}"#))
            .unwrap_or_default();
        let specify = "service.cloud.tencent.com/specify-protocol";
        made.annotations.insert(specify.to_owned(), said);
        cluster.apply(Change::Service(key(name), Some(Box::new(made))));
    }

    #[test]
    fn secrets_are_wanted_while_a_service_of_ours_names_them() {
        let (mut cluster, mut wants) = (Cluster::default(), Wants::default());
        let update = |cluster: &mut Cluster, wants: &mut Wants| {
            let (now, _) = wants.update(cluster, &Options::default());
            let list = |now: &Arc<Wanted>| -> Vec<_> {
                now.iter().map(|(key, at)| (key.to_string(), *at)).collect()
            };
            now.as_ref().map(list)
        };
        put(&mut cluster, "a/web", Some("s"), true);
        put(&mut cluster, "a/api", Some("s"), true);
        put(&mut cluster, "b/web", Some("s"), false);
        let one = vec![("a/s".to_owned(), 1)];
        assert_eq!(update(&mut cluster, &mut wants), Some(one));
        assert_eq!(update(&mut cluster, &mut wants), None);
        assert!(wants.lacks_first(&cluster));
        cluster.apply(Change::Secret(key("a/s"), Some(tls_secret("a"))));
        assert!(wants.lacks_first(&cluster), "ticket keys are wanted, too");
        cluster.apply(Change::TicketKeys([].into()));
        assert!(!wants.lacks_first(&cluster));

        put(&mut cluster, "a/api", Some("t"), true);
        let two = vec![("a/s".to_owned(), 1), ("a/t".to_owned(), 2)];
        assert_eq!(update(&mut cluster, &mut wants), Some(two));
        assert!(
            !wants.lacks_first(&cluster),
            "only the first are waited for"
        );
        put(&mut cluster, "a/web", None, true);
        // Its last readable value stays.
        assert_eq!(update(&mut cluster, &mut wants), None);
        cluster.apply(Change::Service(key("a/web"), None));
        let one = vec![("a/t".to_owned(), 2)];
        assert_eq!(update(&mut cluster, &mut wants), Some(one));
        assert_eq!(cluster.secret(&key("a/s")), None, "forgotten");
        put(&mut cluster, "a/web", Some("s"), true);
        let two = vec![("a/s".to_owned(), 4), ("a/t".to_owned(), 2)];
        assert_eq!(update(&mut cluster, &mut wants), Some(two), "read anew");
    }
}
