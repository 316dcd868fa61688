//! Asks proxies and the API server. Draws no conclusions.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{Api, ListParams};
use kube::core::NamespaceResourceScope;
use podline_api::client::ProxyClient;
use podline_api::v1;
use serde::de::DeserializeOwned;

use super::plugin;
use crate::cli::controller::Controller;
use crate::cli::failure::Failure;
use crate::cli::kube::Cluster;
use crate::cli::kube::trouble::{Call, Trouble};
use crate::installation::{PROXY, RESPONDER, RETURN_PATH};

/// Objects asked for at once.
const PAGE: u32 = 500;
/// How long a proxy may take to prove all its ways.
const PROOF: Duration = Duration::from_secs(30);
/// Not for a class that nobody asks about: who asks is whoever sees all Services.
const EVERY_NAMESPACE: &str = "";

/// Everything that was asked.
#[derive(Debug, Default)]
pub(super) struct Facts {
    pub(super) proxies: Vec<ProxyFacts>,
    pub(super) cluster: Option<ClusterFacts>,
}

/// What one proxy says.
#[derive(Debug, Default)]
pub(super) struct ProxyFacts {
    pub(super) name: String,
    /// Why it says nothing.
    pub(super) problem: String,
    pub(super) state: v1::GetResponse,
}

/// What the API server says.
#[derive(Debug, Default)]
pub(super) struct ClusterFacts {
    pub(super) nodes: Vec<Node>,
    /// Of everybody.
    pub(super) pods: Vec<Pod>,
    /// Podline's own, by what they are.
    pub(super) return_paths: Vec<Pod>,
    pub(super) responders: Vec<Pod>,
    /// Of the proxies' Pods.
    pub(super) proxy_addresses: Vec<IpAddr>,
    /// Those that go straight to their Pods.
    pub(super) services: Vec<Service>,
    pub(super) policies: Vec<NetworkPolicy>,
    /// In the namespaces of network plugins.
    pub(super) plugin_pods: Vec<Pod>,
    /// What could not be asked, and why.
    pub(super) unseen: Vec<(String, String)>,
}

/// One proxy by itself.
pub(super) async fn alone(
    name: String,
    client: &ProxyClient,
    may_prove: bool,
) -> Result<Facts, Failure> {
    let state = ask(client, may_prove).await?;
    Ok(Facts {
        proxies: vec![ProxyFacts {
            name,
            problem: String::new(),
            state,
        }],
        cluster: None,
    })
}

/// What a proxy says once it has proven its ways anew. One that cannot be asked for that says what it knows.
async fn ask(client: &ProxyClient, may_prove: bool) -> Result<v1::GetResponse, Failure> {
    if may_prove {
        let all = v1::ProveRequest::default();
        let _ = tokio::time::timeout(PROOF, client.prove(all)).await;
    }
    Ok(client.get(v1::GetRequest::default()).await?)
}

/// All proxies of a cluster, and what is around them.
pub(super) async fn cluster(cluster: &Cluster, may_prove: bool) -> Result<Facts, Failure> {
    let pods = cluster.pods(PROXY).await?;
    let tls = cluster.tls().await?;
    let mut facts = Facts::default();
    for pod in &pods {
        let name = pod.metadata.name.clone().unwrap_or_default();
        let answer = match cluster.proxy_of(pod, tls.as_ref()).await {
            Ok(client) => ask(&client, may_prove).await,
            Err(failure) => Err(failure),
        };
        let (problem, state) = match answer {
            Ok(state) => (String::new(), state),
            Err(failure) => (failure.with_cause(), v1::GetResponse::default()),
        };
        facts.proxies.push(ProxyFacts {
            name,
            problem,
            state,
        });
    }
    let mut seen = ClusterFacts {
        proxy_addresses: pods.iter().flat_map(addresses).collect(),
        ..ClusterFacts::default()
    };
    seen.look(cluster).await;
    facts.cluster = Some(seen);
    Ok(facts)
}

fn addresses(pod: &Pod) -> Vec<IpAddr> {
    let status = pod.status.iter();
    let ips = status.flat_map(|status| status.pod_ips.iter().flatten());
    ips.filter_map(|ip| ip.ip.parse().ok()).collect()
}

impl ClusterFacts {
    fn take<T: Default>(&mut self, what: &str, answer: Result<T, Trouble>) -> T {
        answer.unwrap_or_else(|trouble| {
            self.unseen.push((what.to_owned(), trouble.problem));
            T::default()
        })
    }

    async fn look(&mut self, cluster: &Cluster) {
        let nodes: Api<Node> = Api::all(cluster.client.clone());
        let nodes = list(cluster, Call::new("list", "nodes"), &nodes).await;
        self.nodes = self.take("Nodes", nodes);
        let own = cluster.pods(RETURN_PATH).await;
        self.return_paths = self.take("Pods of podline-return-path", own);
        let own = cluster.pods(RESPONDER).await;
        self.responders = self.take("Pods of podline-responder", own);
        for namespace in plugin::NAMESPACES {
            let pods = within::<Pod>(cluster, namespace, "pods").await;
            let mut pods = self.take(&format!("Pods in {namespace}"), pods);
            self.plugin_pods.append(&mut pods);
        }
        let pods: Api<Pod> = Api::all(cluster.client.clone());
        let pods = list(cluster, Call::new("list", "pods"), &pods).await;
        self.pods = self.take("Pods", pods);
        let direct = direct(cluster).await;
        let direct = self.take("Services that go straight to their Pods", direct);
        let namespaces: BTreeSet<&String> = direct.iter().map(|(namespace, _)| namespace).collect();
        for namespace in namespaces {
            let services = within::<Service>(cluster, namespace, "services").await;
            let services = self.take(&format!("Services in {namespace}"), services);
            let is_direct = |service: &Service| {
                let name = service.metadata.name.clone().unwrap_or_default();
                direct.contains(&(namespace.clone(), name))
            };
            self.services.extend(services.into_iter().filter(is_direct));
            self.policies_of(cluster, namespace).await;
        }
        self.policies_of(cluster, &cluster.namespace).await;
    }

    async fn policies_of(&mut self, cluster: &Cluster, namespace: &str) {
        let policies = within::<NetworkPolicy>(cluster, namespace, "networkpolicies").await;
        let mut policies = self.take(&format!("NetworkPolicies in {namespace}"), policies);
        self.policies.append(&mut policies);
    }
}

/// Namespace and name of Services that go straight to their Pods, as the controller has it.
async fn direct(cluster: &Cluster) -> Result<BTreeSet<(String, String)>, Trouble> {
    let asked = async {
        let controller = Controller::within(cluster).await?;
        controller.status(EVERY_NAMESPACE).await
    };
    let status = asked.await.map_err(|failure| match failure {
        Failure::Cluster(trouble) => trouble,
        other => Trouble::new(other.exit(), other.with_cause(), []),
    })?;
    let is_direct =
        |service: &v1::ServiceStatus| service.mode() == v1::service_status::Mode::Direct;
    let direct = status.services.into_iter().filter(is_direct);
    Ok(direct.map(|it| (it.namespace, it.name)).collect())
}

async fn within<K>(cluster: &Cluster, namespace: &str, plural: &str) -> Result<Vec<K>, Trouble>
where
    K: kube::Resource<Scope = NamespaceResourceScope> + Clone + DeserializeOwned + std::fmt::Debug,
    K::DynamicType: Default,
{
    let api = Api::<K>::namespaced(cluster.client.clone(), namespace);
    list(cluster, Call::new("list", plural).within(namespace), &api).await
}

/// All of them, page by page.
async fn list<K>(cluster: &Cluster, call: Call<'_>, api: &Api<K>) -> Result<Vec<K>, Trouble>
where
    K: Clone + DeserializeOwned + std::fmt::Debug,
{
    let mut wanted = ListParams::default().limit(PAGE);
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
