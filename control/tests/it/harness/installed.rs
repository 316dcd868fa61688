//! Podline installed as docker/deploy/base says, with processes of ours behind the toy Pods that its Deployments make.
//!
//! - The proxies' Pods have their nodes' addresses; what comes there at the API's port is passed on to a proxy in a spoke.
//! - A controller runs in the hub with its Pod's name, account and arguments, its API at a loopback address of its own.
//!   Its Pod lingers when it is deleted, until the test has ended the process.

use std::net::{IpAddr, SocketAddr};
use std::ops::{Deref, DerefMut};
use std::process::Command;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod};
use kube::api::{Api, DeleteParams, ListParams};
use kube::core::ObjectMeta;
use podline_lab::{Star, wait};
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::cluster::Reach;
use super::process::Process;
use super::scene::{SYSTEM, Scene};
use super::{LONG, installation, objects};

const SWITCHES: &str = "tke-service-controller-config";

/// A cluster in which Podline is installed, or is going to be.
pub(crate) struct Installed {
    scene: Scene,
    /// Pods of the controller, in the order in which their processes were started.
    pub(crate) replicas: Vec<String>,
    /// Pods of the proxies, by the index of their proxy.
    pub(crate) proxy_pods: Vec<String>,
    relays: Vec<JoinHandle<()>>,
}

/// What a command had to say.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Said {
    /// Runs a command.
    pub(crate) fn by(mut command: Command) -> Self {
        let output = command.output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Self {
            code: output.status.code(),
            out: text(output.stdout),
            err: text(output.stderr),
        }
    }

    /// What was said in JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl Deref for Installed {
    type Target = Scene;

    fn deref(&self) -> &Scene {
        &self.scene
    }
}

impl DerefMut for Installed {
    fn deref_mut(&mut self) -> &mut Scene {
        &mut self.scene
    }
}

impl Installed {
    /// A cluster in which nothing of Podline is, and the test's namespace.
    pub(crate) fn nothing(name: &str) -> Option<Self> {
        let scene = Scene::bare(name)?;
        scene.run(|client, _| async move { installation::remove(&client).await });
        wait::until(LONG, "what earlier tests left is gone", || {
            scene.run(|client, _| async move { is_quiet(&client).await })
        });
        Some(Self {
            scene,
            replicas: Vec::new(),
            proxy_pods: Vec::new(),
            relays: Vec::new(),
        })
    }

    /// The same, with Podline installed and serving.
    pub(crate) fn set(name: &str) -> Option<Self> {
        let mut installed = Self::nothing(name)?;
        installed.install();
        Some(installed)
    }

    /// `kubectl apply -k docker/deploy/base`, and everything that runs then.
    pub(crate) fn install(&mut self) {
        self.scene.account =
            installation::account(&self.scene.cluster, self.scene.directory.path());
        let everything = installation::everything().into_iter().map(with_stand_ins);
        let everything = everything.collect();
        self.run(|client, _| async move { installation::apply(&client, everything).await });
        self.scene.start_proxies();
        let proxies = self.wait_pods("podline-proxy");
        for (index, pod) in (0..).zip(&proxies) {
            let (node, proxy) = (address(pod), Star::spoke(index)[0]);
            self.relay((node, 9902).into(), (proxy, 9902).into());
            self.forward(&name(pod), proxy);
        }
        self.proxy_pods = proxies.iter().map(name).collect();
        for (index, pod) in (0..).zip(self.wait_pods("podline-control")) {
            let own = IpAddr::from([127, 0, 0, 1 + index]);
            self.forward(&name(&pod), own);
            self.start(index, &pod, own);
            self.replicas.push(name(&pod));
            if index == 0 {
                // Then it is the one that leads.
                self.wait_serving();
            }
        }
    }

    /// Starts the process of a controller's Pod.
    fn start(&mut self, index: u8, of: &Pod, api: IpAddr) {
        let (pod, own) = (&*name(of), address(of));
        let mut command = Command::new(env!("CARGO_BIN_EXE_podline-control"));
        let admin = 19_100 + u16::from(index);
        command
            .args(arguments())
            .args(["--admin", &format!("127.0.0.1:{admin}")])
            .args(["--api", &SocketAddr::new(api, 9912).to_string()])
            .args(["--webhook", &SocketAddr::new(own, 9913).to_string()])
            .env("POD_NAME", pod)
            .env("POD_NAMESPACE", SYSTEM)
            .env("KUBECONFIG", &self.scene.account);
        let hub = &self.scene.cluster.star.hub;
        let process = Process::start(&format!("controller {pod}"), hub, command);
        self.scene.controllers.insert(pod.to_owned(), process);
    }

    /// The two Pods of a program, once they run.
    fn wait_pods(&self, program: &str) -> Vec<Pod> {
        let mut found = Vec::new();
        wait::until(LONG, "both Pods run", || {
            found = self.pods(program);
            let runs = |pod: &&Pod| {
                let status = pod.status.as_ref();
                status.is_some_and(|status| {
                    status.phase.as_deref() == Some("Running") && status.pod_ip.is_some()
                })
            };
            found.iter().filter(runs).count() == 2
        });
        found
    }

    /// The Pods of a program.
    pub(crate) fn pods(&self, program: &str) -> Vec<Pod> {
        let wanted = ListParams::default().labels(&format!("app.kubernetes.io/name={program}"));
        self.run(|client, _| async move {
            let list = Api::<Pod>::namespaced(client, SYSTEM).list(&wanted).await;
            list.unwrap().items
        })
    }

    /// Makes port-forwards of a Pod lead to `address`.
    pub(crate) fn forward(&self, pod: &str, address: IpAddr) {
        let pod = pod.to_owned();
        let change =
            json!({"metadata": {"annotations": {"kubelab.podline.io/forward-to": address}}});
        self.run(|client, _| async move {
            objects::merge::<Pod>(&client, SYSTEM, &pod, change).await;
        });
    }

    /// Passes on what comes to `from`, an address in the hub.
    fn relay(&mut self, from: SocketAddr, to: SocketAddr) {
        self.relays.push(relay(&self.scene.cluster, from, to));
    }

    /// `EnableDefaultDirectAccess` in TKE's ConfigMap.
    pub(crate) fn switch_direct(&self, value: &str) {
        let object = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": SWITCHES},
            "data": {"EnableDefaultDirectAccess": value},
        });
        self.run(|client, _| async move {
            objects::apply::<ConfigMap>(&client, "kube-system", object).await;
        });
    }

    /// Runs the shipped `podline` in the hub, with a kubeconfig that may do everything.
    pub(crate) fn podline(&self, arguments: &[&str]) -> Said {
        self.podline_as(self.cluster.kubeconfig(), arguments)
    }

    /// The same, with another kubeconfig.
    pub(crate) fn podline_as(&self, kubeconfig: &std::path::Path, arguments: &[&str]) -> Said {
        let mut command = podline(arguments);
        command.env("KUBECONFIG", kubeconfig);
        self.cluster.star.hub.run(move || Said::by(command))
    }

    /// Starts `podline uninstall`, and plays the kubelet of the controller's Pods: with `signal` for the processes.
    pub(crate) fn uninstall(&self, signal: Signal) -> Process {
        let mut command = podline(&["uninstall", "--yes", "--kubeconfig"]);
        command.arg(self.cluster.kubeconfig());
        let process = Process::start("podline uninstall", &self.cluster.star.hub, command);
        wait::until(LONG, "the controller's Pods are to end", || {
            let pods = self.pods("podline-control");
            let ends = |pod: &Pod| pod.metadata.deletion_timestamp.is_some();
            !process.runs() || pods.iter().all(ends)
        });
        for (pod, controller) in &self.scene.controllers {
            controller.signal(signal);
            assert!(controller.wait_end(LONG), "{pod} does not end");
            let pod = pod.clone();
            self.run(|client, _| async move {
                let pods = Api::<Pod>::namespaced(client, SYSTEM);
                let now = DeleteParams::default().grace_period(0);
                // It may be gone.
                let _ = pods.delete(&pod, &now).await;
            });
        }
        process
    }
}

impl Drop for Installed {
    fn drop(&mut self) {
        for relay in &self.relays {
            relay.abort();
        }
        self.run(|client, _| async move {
            let switches = Api::<ConfigMap>::namespaced(client, "kube-system");
            let _ = switches.delete(SWITCHES, &DeleteParams::default()).await;
        });
    }
}

/// Passes on what comes to `from`, an address in the hub.
pub(crate) fn relay(cluster: &Reach, from: SocketAddr, to: SocketAddr) -> JoinHandle<()> {
    let listener = cluster.run(async move { TcpListener::bind(from).await.unwrap() });
    cluster.spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            tokio::spawn(async move {
                if let Ok(mut server) = TcpStream::connect(to).await {
                    // Both ends know best why it ended.
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                }
            });
        }
    })
}

/// The shipped `podline`.
pub(crate) fn podline(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_podline"));
    command.args(arguments);
    command
}

/// No namespace is about to go, and there is none of ours.
pub(crate) async fn is_quiet(client: &kube::Client) -> bool {
    let list = Api::<Namespace>::all(client.clone())
        .list(&ListParams::default())
        .await;
    list.unwrap().items.iter().all(|namespace| {
        let ObjectMeta {
            name,
            deletion_timestamp,
            ..
        } = &namespace.metadata;
        deletion_timestamp.is_none() && name.as_deref() != Some(SYSTEM)
    })
}

/// The toy Pods do not listen, and the controller's wait for their process when they are deleted.
fn with_stand_ins(mut object: Value) -> Value {
    if object["kind"] == "Deployment" {
        object["spec"]["template"]["metadata"]["annotations"] = json!({
            "kubelab.podline.io/listen": "none",
            "kubelab.podline.io/on-term": if object["metadata"]["name"] == "podline-control" { "linger" } else { "exit" },
        });
    }
    object
}

/// What the controller's Deployment tells it, but for where it listens.
fn arguments() -> Vec<String> {
    let objects = installation::everything();
    let found = objects.iter().find(|object| {
        object["kind"] == "Deployment" && object["metadata"]["name"] == "podline-control"
    });
    let containers = &found.unwrap()["spec"]["template"]["spec"]["containers"];
    let arguments: Vec<String> = serde_json::from_value(containers[0]["args"].clone()).unwrap();
    let here = |argument: &String| {
        ["--admin=", "--api=", "--webhook=", "--log-format="]
            .iter()
            .any(|flag| argument.starts_with(flag))
    };
    arguments
        .into_iter()
        .filter(|argument| !here(argument))
        .collect()
}

fn name(pod: &Pod) -> String {
    pod.metadata.name.clone().unwrap()
}

fn address(pod: &Pod) -> IpAddr {
    pod.status
        .as_ref()
        .unwrap()
        .pod_ip
        .as_ref()
        .unwrap()
        .parse()
        .unwrap()
}
