//! What of Podline is in a cluster now.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Event, Namespace, Pod, Service};
use k8s_openapi::api::networking::v1::Ingress;
use kube::api::{Api, ApiResource, DynamicObject, ListParams, PartialObjectMeta};
use kube::core::{GroupVersionKind, ObjectMeta};
use podline_api::Owner;
use serde::de::DeserializeOwned;

use super::gate::{self, Gated};
use super::objects::{KINDS, Kind, Place, Thing, is_of_every_namespace};
use super::owner;
use super::trace::{self, Trace};
use crate::cli::kube::Cluster;
use crate::cli::kube::pods::Candidate;
use crate::cli::kube::trouble::{Call, Trouble};
use crate::cluster::service::MANAGER;
use crate::cluster::service_config::MADE_FOR;
use crate::cluster::switches;
use crate::crd;
use crate::installation::{CONTROL, LEASE, NAME_LABEL, PART_OF, PROXY};

/// Objects that are named.
const MOST_SHOWN: usize = 5;
/// Objects asked for at once.
const PAGE: u32 = 500;

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Survey {
    /// Where Podline is.
    pub(super) namespace: String,
    /// Its uid, if it is there and carries our label.
    pub(super) own_namespace: Option<String>,
    /// Deployments of the controller in it.
    pub(super) controllers: Vec<Thing>,
    /// Others, in other namespaces.
    pub(super) elsewhere: Vec<String>,
    /// Pods of the controller are there.
    pub(super) has_controller_pods: bool,
    /// The Lease is there.
    pub(super) has_lease: bool,
    /// Pods of proxies that run.
    pub(super) proxies: Vec<String>,
    /// Whose the controllers' state is in the proxies.
    pub(super) owners: Vec<Owner>,
    /// Proxies that controllers were given by address.
    pub(super) outside: Vec<String>,
    /// Services and Ingresses that have something of ours.
    pub(super) traces: Vec<Trace>,
    /// Pods that wait for our readiness gate, which nobody will open.
    pub(super) gates: Vec<Gated>,
    /// Our Events: namespace and name.
    pub(super) events: Vec<(String, String)>,
    /// Objects with our label, in the order of the kinds.
    pub(super) things: Vec<Thing>,
    /// Objects with our label that stay, and why.
    pub(super) kept: Vec<(String, String)>,
    /// Objects in our namespace that are not ours.
    pub(super) foreign: Vec<String>,
    /// What could not be looked at, and why.
    pub(super) unseen: Vec<(String, String)>,
}

impl Survey {
    /// Nothing is there.
    pub(super) fn is_empty(&self) -> bool {
        self.own_namespace.is_none()
            && self.controllers.is_empty()
            && !self.has_controller_pods
            && !self.has_lease
            && self.traces.is_empty()
            && self.gates.is_empty()
            && self.events.is_empty()
            && self.things.is_empty()
            && self.kept.is_empty()
            && self.unseen.is_empty()
    }

    /// Looks at everything.
    ///
    /// # Errors
    /// The controller, the Services or the namespace cannot be looked at. What else cannot be is in `unseen`.
    pub(super) async fn take(cluster: &Cluster) -> Result<Self, Trouble> {
        let mut survey = Self {
            namespace: cluster.namespace.clone(),
            ..Self::default()
        };
        survey.find_controllers(cluster).await?;
        survey.find_namespace(cluster).await?;
        let services: Api<Service> = Api::all(cluster.client.clone());
        let call = Call::new("list", "services");
        let services = list(cluster, call, &services, ListParams::default()).await?;
        // Its own go as a whole.
        let is_users = |it: &&Service| {
            !is_ours(&it.metadata) || it.metadata.namespace.as_ref() != Some(&survey.namespace)
        };
        let of_users = services.iter().filter(is_users);
        survey.traces = of_users.filter_map(trace::of).collect();
        let ingresses: Api<Ingress> = Api::all(cluster.client.clone());
        let call = Call::new("list", "ingresses");
        match list(cluster, call, &ingresses, ListParams::default()).await {
            Ok(found) => survey.traces.extend(found.iter().filter_map(trace::of)),
            Err(trouble) => survey.not_seen("Ingresses", &trouble),
        }
        let maps: Api<ConfigMap> = Api::namespaced(cluster.client.clone(), switches::NAMESPACE);
        let call = Call::new("get", "configmaps").within(switches::NAMESPACE);
        match cluster.answer(call, maps.get_opt(switches::NAME)).await {
            Ok(found) => survey.traces.extend(found.iter().filter_map(trace::of)),
            Err(trouble) => survey.not_seen("ConfigMap of switches", &trouble),
        }
        let pods: Api<Pod> = Api::all(cluster.client.clone());
        match list(
            cluster,
            Call::new("list", "pods"),
            &pods,
            ListParams::default(),
        )
        .await
        {
            Ok(pods) => survey.gates = pods.iter().filter_map(gate::of).collect(),
            Err(trouble) => survey.not_seen("readiness gates of Pods", &trouble),
        }
        let ours = ListParams::default().fields(&format!("reportingComponent={MANAGER}"));
        let events: Api<Event> = Api::all(cluster.client.clone());
        match list(cluster, Call::new("list", "events"), &events, ours).await {
            Ok(events) => {
                let named = |event: Event| Some((event.metadata.namespace?, event.metadata.name?));
                survey.events = events.into_iter().filter_map(named).collect();
            }
            Err(trouble) => survey.not_seen("Events", &trouble),
        }
        for kind in KINDS {
            if let Err(trouble) = survey.find(cluster, kind).await {
                survey.not_seen(kind.plural, &trouble);
            }
        }
        if let Err(trouble) = survey.keep_definition(cluster).await {
            survey.not_seen(crd::PLURAL, &trouble);
        }
        Ok(survey)
    }

    /// With the definition of a kind all objects of it would go: it stays while there are any that users wrote.
    async fn keep_definition(&mut self, cluster: &Cluster) -> Result<(), Trouble> {
        let is_it = |thing: &Thing| {
            thing.kind.noun == "CustomResourceDefinition" && thing.name == crd::NAME
        };
        let Some(at) = self.things.iter().position(is_it) else {
            return Ok(());
        };
        let definition = self.things.remove(at);
        let kind = GroupVersionKind::gvk(crd::GROUP, crd::VERSION, crd::KIND);
        let resource = ApiResource::from_gvk_with_plural(&kind, crd::PLURAL);
        let api: Api<DynamicObject> = Api::all_with(cluster.client.clone(), &resource);
        let call = Call::new("list", crd::PLURAL);
        let found = list_metadata(cluster, call, &api, ListParams::default()).await?;
        let is_made = |meta: &ObjectMeta| {
            let annotations = meta.annotations.as_ref();
            annotations.is_some_and(|all| all.contains_key(MADE_FOR))
        };
        let of_users = found.iter().filter(|found| !is_made(&found.metadata));
        let names = of_users.map(|found| {
            let text = |text: &Option<String>| text.clone().unwrap_or_default();
            let meta = &found.metadata;
            format!("{}/{}", text(&meta.namespace), text(&meta.name))
        });
        let names: Vec<_> = names.collect();
        if names.is_empty() {
            self.things.insert(at, definition);
            return Ok(());
        }
        let shown = names.iter().take(MOST_SHOWN).cloned();
        let shown: Vec<_> = shown.collect();
        let more = names.len() - shown.len();
        let more = if more > 0 {
            format!(" and {more} more")
        } else {
            String::new()
        };
        let why = format!(
            "users' objects would go with it: {}{more}",
            shown.join(", ")
        );
        self.kept.push((definition.to_string(), why));
        Ok(())
    }

    fn not_seen(&mut self, what: &str, trouble: &Trouble) {
        self.unseen.push((what.to_owned(), trouble.problem.clone()));
    }

    async fn find_controllers(&mut self, cluster: &Cluster) -> Result<(), Trouble> {
        let of_control = ListParams::default().labels(&format!("{NAME_LABEL}={CONTROL}"));
        let all: Api<Deployment> = Api::all(cluster.client.clone());
        let call = Call::new("list", "deployments");
        for deployment in list(cluster, call, &all, of_control).await? {
            let thing = thing("Deployment", &deployment.metadata);
            if thing.namespace.as_ref() != Some(&self.namespace) {
                let namespace = thing.namespace.unwrap_or_default();
                self.elsewhere.push(format!("{namespace}/{}", thing.name));
                continue;
            }
            self.owners.extend(owner::of(&deployment));
            self.outside.extend(owner::outside(&deployment));
            self.controllers.push(thing);
        }
        if self.owners.is_empty() {
            self.owners.extend(Owner::try_from("k8s/default"));
        }
        self.has_controller_pods = !cluster.pods(CONTROL).await?.is_empty();
        let call = Call::new("get", "leases").within(&self.namespace);
        let leases = cluster.own::<Lease>();
        let lease = cluster.answer(call, leases.get_opt(LEASE)).await?;
        self.has_lease = lease.is_some();
        let pods = cluster.pods(PROXY).await?;
        let running = pods.iter().map(Candidate::read).filter(Candidate::runs);
        self.proxies = running.map(|pod| pod.name).collect();
        Ok(())
    }

    async fn find_namespace(&mut self, cluster: &Cluster) -> Result<(), Trouble> {
        let call = Call::new("get", "namespaces");
        let namespaces: Api<Namespace> = Api::all(cluster.client.clone());
        let found = cluster
            .answer(call, namespaces.get_opt(&self.namespace))
            .await?;
        let ours = found.filter(|namespace| is_ours(&namespace.metadata));
        self.own_namespace = ours.map(|namespace| namespace.metadata.uid.unwrap_or_default());
        Ok(())
    }

    async fn find(&mut self, cluster: &Cluster, kind: &'static Kind) -> Result<(), Trouble> {
        let (client, resource) = (cluster.client.clone(), kind.resource());
        let call = Call::new("list", kind.plural);
        let ours = ListParams::default().labels(&format!("{}={}", PART_OF.0, PART_OF.1));
        let (api, call, wanted): (Api<DynamicObject>, _, _) = match kind.place {
            Place::Cluster | Place::Everywhere => (Api::all_with(client, &resource), call, ours),
            Place::Own => (
                Api::namespaced_with(client, &self.namespace, &resource),
                call.within(&self.namespace),
                // The others count, too, before a namespace is deleted.
                ListParams::default(),
            ),
        };
        for found in list_metadata(cluster, call, &api, wanted).await? {
            let found = found.metadata;
            let thing = Thing {
                kind,
                ..thing(kind.noun, &found)
            };
            if is_ours(&found) {
                self.things.push(thing);
            } else if !is_of_every_namespace(kind, &thing.name) && !has_controller(&found) {
                self.foreign.push(thing.to_string());
            }
        }
        Ok(())
    }
}

fn is_ours(meta: &ObjectMeta) -> bool {
    let labels = meta.labels.as_ref();
    labels
        .and_then(|labels| labels.get(PART_OF.0))
        .is_some_and(|value| value == PART_OF.1)
}

/// Made by something else, and gone with it.
fn has_controller(meta: &ObjectMeta) -> bool {
    meta.owner_references.iter().flatten().next().is_some()
}

fn thing(kind: &str, meta: &ObjectMeta) -> Thing {
    let known = KINDS.iter().find(|known| known.noun == kind);
    Thing {
        kind: known.expect("callers name a kind of the table"),
        namespace: meta.namespace.clone(),
        name: meta.name.clone().unwrap_or_default(),
        uid: meta.uid.clone().unwrap_or_default(),
    }
}

/// All of them, page by page.
async fn list<K>(
    cluster: &Cluster,
    call: Call<'_>,
    api: &Api<K>,
    wanted: ListParams,
) -> Result<Vec<K>, Trouble>
where
    K: Clone + DeserializeOwned + std::fmt::Debug,
{
    let mut wanted = wanted.limit(PAGE);
    let mut found = Vec::new();
    loop {
        let page = cluster.answer(call, api.list(&wanted)).await?;
        found.extend(page.items);
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => wanted.continue_token = Some(token),
            None => return Ok(found),
        }
    }
}

/// The same without what the objects hold: Secrets are none of our business. Kinds that are not served have none.
async fn list_metadata(
    cluster: &Cluster,
    call: Call<'_>,
    api: &Api<DynamicObject>,
    wanted: ListParams,
) -> Result<Vec<PartialObjectMeta<DynamicObject>>, Trouble> {
    let mut wanted = wanted.limit(PAGE);
    let mut found = Vec::new();
    loop {
        let page = async {
            match api.list_metadata(&wanted).await {
                Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
                page => page.map(Some),
            }
        };
        let Some(page) = cluster.answer(call, page).await? else {
            return Ok(found);
        };
        found.extend(page.items);
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => wanted.continue_token = Some(token),
            None => return Ok(found),
        }
    }
}
