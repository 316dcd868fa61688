//! One test's stage: a namespace, two proxies, a controller, and what the proxies are to look like.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::MutexGuard;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, Pod, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::Ingress;
use kube::Api;
use kube::api::{DeleteParams, ListParams};
use podline_api::client::ProxyClient;
use podline_api::v1;
use podline_control::installation::WEBHOOK_SERVICE;
use podline_lab::{Star, wait};
use rustix::process::Signal;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::cluster::{CLIENT, Cluster, PROXIES, cluster};
use super::load::Load;
use super::process::{Process, binary};
use super::{LONG, installation, objects};

/// The namespace of controllers and proxies.
pub(crate) const SYSTEM: &str = "podline-system";
/// The proxies' headless Service.
pub(crate) const PROXY_SERVICE: &str = "podline-proxy";
/// A label of slices of the webhooks' Service that no Pod stands for.
const BY_HAND: &str = "podline.test/by-hand";

/// A stage. Its namespace is removed at the end.
pub(crate) struct Scene {
    /// The Kubernetes namespace of the test's objects.
    pub(crate) namespace: String,
    pub(crate) proxies: Vec<Proxy>,
    pub(crate) controllers: BTreeMap<String, Process>,
    /// Controllers that were ever started: each has ports of its own.
    started: u16,
    /// Further arguments of controllers that are started.
    pub(crate) arguments: Vec<String>,
    pub(crate) directory: TempDir,
    /// The kubeconfig of the controller's own account.
    pub(crate) account: PathBuf,
    /// Last: the next test has it once every process of this one has ended.
    pub(crate) cluster: MutexGuard<'static, Cluster>,
}

/// A running proxy.
pub(crate) struct Proxy {
    index: u8,
    process: Process,
    directory: PathBuf,
}

impl Scene {
    /// A stage with two proxies and one controller; `None` if there is no control plane here.
    pub(crate) fn set(name: &str) -> Option<Self> {
        Self::with(name, &[])
    }

    /// The same, with further arguments for the controller.
    pub(crate) fn with(name: &str, arguments: &[&str]) -> Option<Self> {
        let mut scene = Self::without_controller(name)?;
        scene.arguments = arguments.iter().map(|text| (*text).to_owned()).collect();
        scene.start_controller("a");
        scene.wait_serving();
        Some(scene)
    }

    /// A stage with two proxies and nobody who tells them what to do.
    pub(crate) fn without_controller(name: &str) -> Option<Self> {
        let mut scene = Self::bare(name)?;
        scene.account = installation::account(&scene.cluster, scene.directory.path());
        scene.run(|client, _| async move {
            clear_system(&client).await;
            proxy_service(&client).await;
        });
        scene.start_proxies();
        Some(scene)
    }

    /// A stage with nothing but the test's namespace.
    pub(crate) fn bare(name: &str) -> Option<Self> {
        let cluster = cluster()?;
        let client = cluster.client.clone();
        let namespace = name.to_owned();
        let own = namespace.clone();
        cluster.run(async move {
            objects::sweep(&client).await;
            objects::namespace(&client, &own).await;
        });
        Some(Self {
            cluster,
            namespace,
            proxies: Vec::new(),
            controllers: BTreeMap::new(),
            started: 0,
            arguments: Vec::new(),
            directory: tempfile::tempdir().unwrap(),
            account: PathBuf::new(),
        })
    }

    /// Starts the proxies.
    pub(crate) fn start_proxies(&mut self) {
        let proxies = (0..).zip(PROXIES).map(|(index, spoke)| {
            let folder = self.directory.path().join(format!("proxy-{index}"));
            std::fs::create_dir_all(&folder).unwrap();
            Proxy::start(index, &self.cluster.star.spokes[spoke], folder)
        });
        self.proxies = proxies.collect();
    }

    /// Starts a replica of the controller; its index, by which it is asked for metrics.
    pub(crate) fn start_controller(&mut self, name: &str) -> u16 {
        let service = format!("{SYSTEM}/{PROXY_SERVICE}");
        let usual = ["--proxy-service", &service, "--namespace", SYSTEM];
        self.start_controller_for(name, &usual)
    }

    /// The same, with other ways to find its proxies and its Lease.
    pub(crate) fn start_controller_for(&mut self, name: &str, ways: &[&str]) -> u16 {
        let mut command = Command::new(env!("CARGO_BIN_EXE_podline-control"));
        let index = self.started;
        self.started += 1;
        command
            .args(ways)
            .args(["--identity", name])
            .args(["--admin", &format!("127.0.0.1:{}", 19_100 + index)])
            .args(["--api", &format!("127.0.0.1:{}", 19_200 + index)])
            .args([
                "--log",
                "info,podline_control::reconcile=debug,podline_control::gate=debug",
            ])
            .arg("--kubeconfig")
            .arg(&self.account)
            .args(&self.arguments);
        // Whoever leads elsewhere leaves this cluster's webhooks alone.
        if ways.contains(&SYSTEM) {
            let port = 19_300 + index;
            command.args(["--webhook", &format!("0.0.0.0:{port}")]);
            let name = name.to_owned();
            self.run(|client, _| async move { webhook_slice(&client, &name, port).await });
        }
        let process = Process::start(
            &format!("controller {name}"),
            &self.cluster.star.hub,
            command,
        );
        self.controllers.insert(name.to_owned(), process);
        index
    }

    /// Writes the proxies' Service and slice.
    pub(crate) fn declare_proxies(&self) {
        self.run(|client, _| async move { proxy_service(&client).await });
    }

    /// Starts a proxy again that has ended, or was ended.
    pub(crate) fn restart_proxy(&mut self, index: usize) {
        let folder = self.proxies[index].directory.clone();
        let number = self.proxies[index].index;
        let spoke = &self.cluster.star.spokes[PROXIES[index]];
        self.proxies[index] = Proxy::start(number, spoke, folder);
        let socket = self.proxies[index].directory.join("api");
        wait::until(LONG, "the proxy's API is there", || {
            std::os::unix::net::UnixStream::connect(&socket).is_ok()
        });
    }

    /// Runs a future in the hub, with a client.
    pub(crate) fn run<T, F>(&self, work: impl FnOnce(kube::Client, String) -> F) -> T
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        self.cluster
            .run(work(self.cluster.client.clone(), self.namespace.clone()))
    }

    /// Waits until every proxy serves, as the controller sees it. Meanwhile plays the kubelet that mounts the Secret.
    pub(crate) fn wait_serving(&self) {
        self.wait_serving_by(0);
    }

    /// The same, as the controller with this index sees it.
    pub(crate) fn wait_serving_by(&self, index: u16) {
        wait::until(LONG, "the controller counts every proxy as serving", || {
            self.mount();
            let metrics = self.metrics(index);
            let serving = metrics.lines().filter(|line| {
                line.starts_with("podline_control_proxy_serving{") && line.ends_with(" 1")
            });
            serving.count() == self.proxies.len()
        });
    }

    /// What the kubelet does with a Secret that is mounted.
    pub(crate) fn mount(&self) {
        let secret = self.run(|client, _| async move {
            let api = Api::<Secret>::namespaced(client, SYSTEM);
            api.get_opt("podline-proxy-tls").await.unwrap()
        });
        for (name, bytes) in secret
            .into_iter()
            .flat_map(|secret| secret.data.unwrap_or_default())
        {
            for proxy in &self.proxies {
                let path = proxy.directory.join(&name);
                if std::fs::read(&path).ok().as_deref() != Some(&bytes.0) {
                    std::fs::write(path, &bytes.0).unwrap();
                }
            }
        }
    }

    /// The metrics page of the replica with this index.
    pub(crate) fn metrics(&self, index: u16) -> String {
        self.page(index, "/metrics").unwrap_or_default()
    }

    /// A page of a replica's admin server.
    pub(crate) fn page(&self, index: u16, path: &str) -> std::io::Result<String> {
        let path = path.to_owned();
        self.cluster.star.hub.run(move || {
            let address = SocketAddr::from(([127, 0, 0, 1], 19_100 + index));
            super::http::Client::connect(address)?.get(&path)
        })
    }

    /// A metric of the first replica; 0 if it is not there.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let metrics = self.metrics(0);
        let values = metrics
            .lines()
            .filter_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok());
        values.sum()
    }

    /// What a proxy has of ours.
    pub(crate) fn state(&self, proxy: usize) -> v1::GetResponse {
        self.proxies[proxy].get(&self.cluster)
    }

    /// Backends of a set in a proxy, by address, with their weights.
    pub(crate) fn backends(&self, proxy: usize, set: &str) -> BTreeMap<String, u32> {
        let state = self.state(proxy);
        let mut sets = state.backend_sets.into_iter();
        let found = sets.find(|status| status.set.as_ref().is_some_and(|found| found.name == set));
        let backends = found.into_iter().flat_map(|status| status.backends);
        let backends = backends
            .filter(|status| !status.draining)
            .filter_map(|status| status.backend);
        backends
            .map(|backend| (backend.address, backend.weight.unwrap_or_default()))
            .collect()
    }

    /// What a Service says of itself.
    pub(crate) fn service(&self, name: &str) -> Option<Service> {
        let name = name.to_owned();
        self.run(|client, namespace| async move {
            Api::<Service>::namespaced(client, &namespace)
                .get_opt(&name)
                .await
                .unwrap()
        })
    }

    /// The addresses in a Service's status.
    pub(crate) fn ingress(&self, name: &str) -> Vec<String> {
        let status = self
            .service(name)
            .and_then(|service| service.status?.load_balancer?.ingress);
        status
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.ip)
            .collect()
    }

    /// Waits until the status of a Service names every proxy.
    pub(crate) fn wait_addresses(&self, name: &str) {
        wait::until(LONG, "the status names every proxy", || {
            self.ingress(name).len() == self.proxies.len()
        });
    }

    /// The condition of a Service: status, reason, message.
    pub(crate) fn condition(&self, name: &str, kind: &str) -> Option<(String, String, String)> {
        let conditions = self.service(name)?.status?.conditions?;
        let found = conditions
            .into_iter()
            .find(|condition| condition.type_ == kind)?;
        Some((found.status, found.reason, found.message))
    }

    /// Where clients reach a port, one address a proxy.
    pub(crate) fn addresses(&self, port: u16) -> Vec<SocketAddr> {
        let proxies = self.proxies.iter();
        proxies
            .map(|proxy| SocketAddr::new(Star::spoke(proxy.index)[0], port))
            .collect()
    }

    /// Clients of a port, through every proxy.
    pub(crate) fn load(&self, port: u16) -> Load {
        Load::start(&self.cluster.star.spokes[CLIENT], &self.addresses(port))
    }

    /// One request through a proxy: who answered.
    pub(crate) fn ask(&self, proxy: usize, port: u16) -> std::io::Result<String> {
        let address = self.addresses(port)[proxy];
        self.cluster.star.spokes[CLIENT].run(move || super::http::ask(address))
    }

    /// Waits until a Pod whose name begins so answers through a proxy: what was just bound has no verdict at first.
    pub(crate) fn wait_answered(&self, proxy: usize, port: u16, begins: &str) {
        let what = format!("{begins}* answers at port {port} of proxy {proxy}");
        wait::until(LONG, &what, || {
            self.ask(proxy, port)
                .is_ok_and(|name| name.starts_with(begins))
        });
    }

    /// Events of the test's namespace: `Reason: message`.
    pub(crate) fn events(&self) -> Vec<String> {
        self.run(|client, namespace| async move {
            let api = Api::<k8s_openapi::api::events::v1::Event>::namespaced(client, &namespace);
            let list = api.list(&ListParams::default()).await.unwrap();
            let ours = list
                .items
                .into_iter()
                .filter(|event| event.reporting_controller.as_deref() == Some("podline-control"));
            ours.map(|event| {
                format!(
                    "{}: {}",
                    event.reason.unwrap_or_default(),
                    event.note.unwrap_or_default()
                )
            })
            .collect()
        })
    }

    /// Changes a Service.
    pub(crate) fn merge_service(&self, name: &str, change: Value) {
        let name = name.to_owned();
        self.run(|client, namespace| async move {
            objects::merge::<Service>(&client, &namespace, &name, change).await;
        });
    }

    /// A Deployment of toy Pods and a Service in front of them, and waits until it is served, and every gate is open.
    pub(crate) fn serve(&self, name: &str, replicas: u32, annotations: Value) {
        let own = name.to_owned();
        self.run(|client, namespace| async move {
            objects::deployment(&client, &namespace, &own, replicas, json!({})).await;
            objects::apply::<Service>(&client, &namespace, objects::service(&own, annotations))
                .await;
        });
        self.wait_addresses(name);
        self.wait_rolled_out(name);
    }

    /// Scales a Deployment, and waits until it is so.
    pub(crate) fn scale(&self, name: &str, replicas: u32) {
        self.begin_scale(name, replicas);
        self.wait_rolled_out(name);
    }

    /// Scales a Deployment.
    pub(crate) fn begin_scale(&self, name: &str, replicas: u32) {
        use k8s_openapi::api::apps::v1::Deployment;
        let own = name.to_owned();
        self.run(|client, namespace| async move {
            objects::merge::<Deployment>(
                &client,
                &namespace,
                &own,
                json!({"spec": {"replicas": replicas}}),
            )
            .await;
        });
    }

    /// Replaces every Pod of a Deployment, and waits until it is so.
    pub(crate) fn roll(&self, name: &str) {
        use k8s_openapi::api::apps::v1::Deployment;
        let own = name.to_owned();
        let change =
            json!({"spec": {"template": {"metadata": {"annotations": {"rolled": "yes"}}}}});
        self.run(|client, namespace| async move {
            objects::merge::<Deployment>(&client, &namespace, &own, change).await;
        });
        self.wait_rolled_out(name);
    }

    /// Waits until a Deployment is as it should be.
    pub(crate) fn wait_rolled_out(&self, name: &str) {
        use k8s_openapi::api::apps::v1::Deployment;
        wait::until(LONG, "the Deployment is rolled out", || {
            let own = name.to_owned();
            self.run(|client, namespace| async move {
                let api = Api::<Deployment>::namespaced(client, &namespace);
                let found = api.get(&own).await.unwrap();
                let wanted = found
                    .spec
                    .as_ref()
                    .and_then(|spec| spec.replicas)
                    .unwrap_or_default();
                let generation = found.metadata.generation;
                let status = found.status.unwrap_or_default();
                let all = [
                    status.replicas,
                    status.updated_replicas,
                    status.available_replicas,
                ];
                status.observed_generation == generation
                    && all.iter().all(|count| count.unwrap_or_default() == wanted)
            })
        });
    }

    /// Waits until both proxies have exactly as many backends with a weight in a set.
    pub(crate) fn wait_backends(&self, set: &str, count: usize) {
        wait::until(LONG, "the proxies have the backends", || {
            (0..self.proxies.len()).all(|proxy| {
                let backends = self.backends(proxy, set);
                backends.values().filter(|weight| **weight > 0).count() == count
            })
        });
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        // While a controller still runs, so that Services can be let go.
        let client = self.cluster.client.clone();
        let namespace = self.namespace.clone();
        let has_controller = self.controllers.values().any(Process::runs);
        self.cluster.run(async move {
            let deadline = std::time::Instant::now() + Duration::from_secs(10);
            let services = Api::<Service>::namespaced(client.clone(), &namespace);
            let ingresses = Api::<Ingress>::namespaced(client.clone(), &namespace);
            delete_all(&services).await;
            delete_all(&ingresses).await;
            while has_controller && std::time::Instant::now() < deadline {
                if is_empty(&services).await && is_empty(&ingresses).await {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            let api = Api::<Namespace>::all(client.clone());
            api.delete(&namespace, &DeleteParams::default()).await.ok();
            clear_webhook_slices(&client).await;
        });
        for controller in self.controllers.values() {
            if controller.runs() {
                controller.signal(Signal::TERM);
                controller.wait_end(Duration::from_secs(5));
            }
        }
        let is_fair = !self.cluster.was_disturbed();
        if is_fair && !std::thread::panicking() {
            let logs = self.controllers.values().map(Process::log);
            let refused: Vec<_> = logs.flat_map(|log| forbidden(&log)).collect();
            assert!(
                refused.is_empty(),
                "not in docker/deploy/base: {refused:#?}"
            );
        }
    }
}

async fn delete_all<K>(api: &Api<K>)
where
    K: Clone + std::fmt::Debug + DeserializeOwned + kube::Resource,
{
    let found = api.list_metadata(&ListParams::default()).await;
    for object in found.map(|list| list.items).unwrap_or_default() {
        let name = object.metadata.name.unwrap_or_default();
        api.delete(&name, &DeleteParams::default()).await.ok();
    }
}

async fn is_empty<K>(api: &Api<K>) -> bool
where
    K: Clone + std::fmt::Debug + DeserializeOwned + kube::Resource,
{
    let found = api.list_metadata(&ListParams::default()).await;
    found.is_ok_and(|list| list.items.is_empty())
}

/// Lines of a log that tell of what RBAC does not allow.
fn forbidden(log: &str) -> Vec<String> {
    let lines = log.lines().filter(|line| line.contains("forbidden: User"));
    lines.map(str::to_owned).collect()
}

impl Proxy {
    fn start(index: u8, namespace: &podline_lab::Namespace, directory: PathBuf) -> Self {
        let file = |name: &str| directory.join(name);
        let socket = file("api");
        std::fs::remove_file(&socket).ok();
        let mut command = Command::new(binary("podline-proxy").unwrap());
        command
            .args(["--workers", "2", "--admin", "127.0.0.1:9901"])
            .args(["--api", &format!("unix:{}", socket.display())])
            .args(["--api", &format!("{}:9902", Star::spoke(index)[0])])
            .arg("--api-cert")
            .arg(file("tls.crt"))
            .arg("--api-key")
            .arg(file("tls.key"))
            .arg("--api-client-ca")
            .arg(file("ca.crt"))
            .arg("--state-file")
            .arg(file("state"));
        let process = Process::start(&format!("proxy {index}"), namespace, command);
        Self {
            index,
            process,
            directory,
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    pub(crate) fn wait_end(&self) {
        assert!(self.process.wait_end(LONG), "the proxy has not ended");
    }

    /// Where it keeps its state.
    pub(crate) fn state_file(&self) -> PathBuf {
        self.directory.join("state")
    }

    /// Its API by the Unix socket, which needs no certificate.
    pub(crate) fn target(&self) -> String {
        format!("unix:{}", self.directory.join("api").display())
    }

    fn get(&self, cluster: &Cluster) -> v1::GetResponse {
        let target = self.target();
        cluster.run(async move {
            let client = ProxyClient::connect(&target).await.unwrap();
            client.get(v1::GetRequest::default()).await.unwrap()
        })
    }
}

/// Leads the API server's calls of webhooks to a controller that runs as a process, not as a Pod. A controller that is
/// started again takes the place of the one before.
async fn webhook_slice(client: &kube::Client, controller: &str, port: u16) {
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {
            "name": format!("podline-webhook-hand-{controller}"),
            "labels": {"kubernetes.io/service-name": WEBHOOK_SERVICE, BY_HAND: "yes"},
        },
        "endpoints": [{"addresses": [Star::hub(0)[0]], "conditions": {"ready": true}}],
        "ports": [{"name": "webhook", "port": port, "protocol": "TCP"}],
    });
    objects::apply::<EndpointSlice>(client, SYSTEM, slice).await;
}

/// Nobody is to be called any more. It may be gone with its namespace.
async fn clear_webhook_slices(client: &kube::Client) {
    let api = Api::<EndpointSlice>::namespaced(client.clone(), SYSTEM);
    let by_hand = ListParams::default().labels(BY_HAND);
    api.delete_collection(&DeleteParams::default(), &by_hand)
        .await
        .ok();
}

/// What an earlier test left of Lease and webhooks. An installation that stayed has Pods that the webhooks' Service leads
/// to, where nobody answers.
async fn clear_system(client: &kube::Client) {
    use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
    use k8s_openapi::api::coordination::v1::Lease;
    let (one, all) = (DeleteParams::default(), ListParams::default());
    let deployments = Api::<Deployment>::namespaced(client.clone(), SYSTEM);
    deployments.delete_collection(&one, &all).await.unwrap();
    let agents = Api::<DaemonSet>::namespaced(client.clone(), SYSTEM);
    agents.delete_collection(&one, &all).await.unwrap();
    let pods = Api::<Pod>::namespaced(client.clone(), SYSTEM);
    let slices = Api::<EndpointSlice>::namespaced(client.clone(), SYSTEM);
    let deadline = std::time::Instant::now() + LONG;
    let others = ListParams::default().labels(&format!("!{BY_HAND}"));
    let is_left = async || {
        let slices = slices.list(&others).await.unwrap().items;
        let is_aimed = slices.iter().any(|slice| {
            let service = slice.metadata.labels.as_ref();
            let service = service.and_then(|labels| labels.get("kubernetes.io/service-name"));
            let is_ours = service.is_some_and(|service| service == WEBHOOK_SERVICE);
            is_ours && slice.endpoints.iter().flatten().next().is_some()
        });
        is_aimed || !pods.list(&all).await.unwrap().items.is_empty()
    };
    while is_left().await {
        let now = std::time::Instant::now();
        assert!(now < deadline, "Pods stay in {SYSTEM}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let leases = Api::<Lease>::namespaced(client.clone(), SYSTEM);
    leases
        .delete("podline-control", &DeleteParams::default())
        .await
        .ok();
    clear_webhook_slices(client).await;
}

/// The headless Service of the proxies, with a slice written by hand: they run as processes, not as Pods.
async fn proxy_service(client: &kube::Client) {
    let service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": PROXY_SERVICE},
        "spec": {"clusterIP": "None", "publishNotReadyAddresses": true, "ports": [{"name": "api", "port": 9902}]},
    });
    objects::apply::<Service>(client, SYSTEM, service).await;
    let endpoints: Vec<_> = (0..2)
        .map(|index| json!({"addresses": [Star::spoke(index)[0]], "conditions": {"ready": true}}))
        .collect();
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "podline-proxy-hand", "labels": {"kubernetes.io/service-name": PROXY_SERVICE}},
        "endpoints": endpoints, "ports": [{"name": "api", "port": 9902, "protocol": "TCP"}],
    });
    objects::apply::<EndpointSlice>(client, SYSTEM, slice).await;
}
