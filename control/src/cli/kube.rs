//! Which cluster is meant, and how its API server is reached. RBAC is the login: whoever may forward a port to the
//! controller's Pod may ask the controller.

#[cfg(test)]
pub(super) mod fake;
pub(super) mod pods;
#[cfg(test)]
pub(super) mod tests;
pub(super) mod trouble;
pub(super) mod tunnel;

use std::path::PathBuf;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Namespace, Pod, Secret};
use kube::Client;
use kube::api::{Api, ListParams};
use kube::config::{Config, KubeConfigOptions, Kubeconfig};
use podline_api::client::{ClientError, ClientTls, ProxyClient};

use super::failure::Failure;
use crate::installation::{CONTROL, CONTROL_SECRET, LEASE, NAME_LABEL, NAMESPACE, PROXY, port};
use pods::Candidate;
use trouble::{Call, Trouble};
use tunnel::Tunnel;

/// To the API server.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// For an answer of the API server.
const LIMIT: Duration = Duration::from_secs(30);

/// The flags that lead to a cluster.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "The cluster")]
pub(super) struct Kube {
    /// Ask the controller in the cluster that kubectl would use, by port-forward; RBAC is the login.
    #[arg(long = "kube", global = true)]
    pub(super) is_meant: bool,
    /// Where Podline runs [default: podline-system].
    #[arg(short, long, global = true, value_name = "NAMESPACE")]
    pub(super) namespace: Option<String>,
    /// The kubeconfig's context [default: its current one].
    #[arg(long, global = true, value_name = "NAME")]
    pub(super) context: Option<String>,
    /// Instead of $KUBECONFIG or ~/.kube/config.
    #[arg(long, global = true, value_name = "FILE")]
    pub(super) kubeconfig: Option<PathBuf>,
    /// With --kube: speak to this proxy, not to the controller.
    #[arg(long, global = true, value_name = "POD")]
    pub(super) proxy_pod: Option<String>,
}

impl Kube {
    /// The flag that makes no sense without --kube, if one is given.
    pub(super) fn detail(&self) -> Option<&'static str> {
        let flags = [
            ("--namespace", self.namespace.is_some()),
            ("--context", self.context.is_some()),
            ("--kubeconfig", self.kubeconfig.is_some()),
            ("--proxy-pod", self.proxy_pod.is_some()),
        ];
        let mut given = flags.iter().filter(|(_, is_given)| *is_given);
        given.next().map(|(flag, _)| *flag)
    }

    /// The namespace that is meant.
    pub(super) fn namespace(&self) -> &str {
        self.namespace.as_deref().unwrap_or(NAMESPACE)
    }

    /// Reads the kubeconfig; nothing is sent yet.
    pub(super) async fn cluster(&self) -> Result<Cluster, Trouble> {
        let mut config = self.config().await?;
        config.connect_timeout = Some(CONNECT_TIMEOUT);
        let server = config.cluster_url.to_string();
        let client = Client::try_from(config).map_err(|error| trouble::config(&error))?;
        Ok(Cluster {
            client,
            namespace: self.namespace().to_owned(),
            server: server.trim_end_matches('/').to_owned(),
        })
    }

    async fn config(&self) -> Result<Config, Trouble> {
        let options = KubeConfigOptions {
            context: self.context.clone(),
            ..KubeConfigOptions::default()
        };
        if let Some(file) = &self.kubeconfig {
            let read = Kubeconfig::read_from(file).map_err(|error| trouble::config(&error))?;
            let config = Config::from_custom_kubeconfig(read, &options).await;
            return config.map_err(|error| trouble::config(&error));
        }
        match Config::from_kubeconfig(&options).await {
            Ok(config) => Ok(config),
            // In a Pod there is no kubeconfig, but an account.
            Err(error) if self.context.is_none() => {
                Config::incluster().map_err(|_| trouble::config(&error))
            }
            Err(error) => Err(trouble::config(&error)),
        }
    }
}

/// A cluster's API server, and where Podline is in it.
#[derive(Clone)]
pub(super) struct Cluster {
    pub(super) client: Client,
    pub(super) namespace: String,
    /// The API server's URL, for people.
    pub(super) server: String,
}

impl Cluster {
    /// Objects of a kind in Podline's namespace.
    pub(super) fn own<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Waits for an answer of the API server, and says what it means if it is none.
    pub(super) async fn answer<T>(
        &self,
        call: Call<'_>,
        answer: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, Trouble> {
        match tokio::time::timeout(LIMIT, answer).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(trouble::of(call, &self.server, &error)),
            Err(_) => Err(trouble::silent(call, &self.server, LIMIT)),
        }
    }

    /// The Pods of one of Podline's two programs.
    pub(super) async fn pods(&self, program: &str) -> Result<Vec<Pod>, Trouble> {
        let of_program = ListParams::default().labels(&format!("{NAME_LABEL}={program}"));
        let call = Call::new("list", "pods").within(&self.namespace);
        let pods = self.own::<Pod>();
        let list = self.answer(call, pods.list(&of_program)).await?;
        Ok(list.items)
    }

    /// A connection to the API of a replica of the controller, and the Pod's name: of the leader's if that can be had.
    pub(super) async fn controller(&self) -> Result<(String, Tunnel), Trouble> {
        let mut first = None;
        for pod in self.replicas().await? {
            match tunnel::open(self, &pod, port::CONTROL_API).await {
                Ok(tunnel) => return Ok((pod, tunnel)),
                // Of all that is wrong, what is wrong with the best is told.
                Err(trouble) => drop(first.get_or_insert(trouble)),
            }
        }
        Err(first.expect("there is a replica, or an error instead"))
    }

    /// The Pods of the controller that run, best first.
    async fn replicas(&self) -> Result<Vec<String>, Trouble> {
        let pods = self.pods(CONTROL).await?;
        let candidates: Vec<_> = pods.iter().map(Candidate::read).collect();
        if candidates.is_empty() {
            return Err(self.nobody().await);
        }
        let leases = self.own::<Lease>();
        let call = Call::new("get", "leases").within(&self.namespace);
        // Without it any replica will do.
        let lease = self.answer(call, leases.get_opt(LEASE)).await;
        let spec = lease.ok().flatten().and_then(|lease| lease.spec);
        let leader = spec.and_then(|spec| spec.holder_identity);
        let running = pods::order(&candidates, leader.as_deref());
        if running.is_empty() {
            return Err(trouble::none_runs(&self.namespace, &candidates));
        }
        Ok(running.into_iter().map(|pod| pod.name.clone()).collect())
    }

    /// Why there is no controller: because there is not even the namespace?
    async fn nobody(&self) -> Trouble {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let call = Call::new("get", "namespaces");
        let found = self.answer(call, namespaces.get_opt(&self.namespace)).await;
        trouble::nobody(&self.namespace, !matches!(found, Ok(None)))
    }

    /// What a controller shows to proxies, and we, too; absent if there is no such Secret.
    pub(super) async fn tls(&self) -> Result<Option<ClientTls>, Trouble> {
        let call = Call::new("get", "secrets").within(&self.namespace);
        let secrets = self.own::<Secret>();
        let secret = self.answer(call, secrets.get_opt(CONTROL_SECRET)).await?;
        let data = secret.and_then(|secret| secret.data).unwrap_or_default();
        let part = |key: &str| data.get(key).map(|value| value.0.clone());
        let parts = (part("ca.crt"), part("tls.crt"), part("tls.key"));
        let (Some(ca), Some(certificate), Some(key)) = parts else {
            return Ok(None);
        };
        Ok(Some(ClientTls {
            ca,
            certificate,
            key,
            server_name: ClientTls::SERVER_NAME.to_owned(),
        }))
    }

    /// The API of a proxy in a Pod, with mutual TLS as the controller has it.
    pub(super) async fn proxy(&self, name: &str) -> Result<ProxyClient, Failure> {
        let call = Call::new("get", "pods").within(&self.namespace);
        let pods = self.own::<Pod>();
        let Some(pod) = self.answer(call, pods.get_opt(name)).await? else {
            return Err(trouble::no_proxy(&self.namespace, name, PROXY).into());
        };
        let tls = self.tls().await?;
        self.proxy_of(&pod, tls.as_ref()).await
    }

    /// The same, of a Pod that was found already. A proxy that speaks plain text there is spoken to in plain text: it
    /// listens on loopback, and the way there is the API server's.
    pub(super) async fn proxy_of(
        &self,
        pod: &Pod,
        tls: Option<&ClientTls>,
    ) -> Result<ProxyClient, Failure> {
        let name = pod.metadata.name.clone().unwrap_or_default();
        let target = format!("{}/{name}", self.namespace);
        let speaking = self.proxy_with(&target, &name, pod, tls).await;
        let error = match speaking {
            Err(Failure::Client { source, .. }) => source,
            done => return done,
        };
        match (error, tls) {
            (ClientError::PlainText { .. }, Some(_)) => {
                self.proxy_with(&target, &name, pod, None).await
            }
            (ClientError::Unreachable { .. }, None) => {
                Err(trouble::no_certificate(&self.namespace, &target).into())
            }
            (
                error @ (ClientError::Untrusted { .. } | ClientError::CertificateRefused { .. }),
                _,
            ) => Err(trouble::certificate(&self.namespace, &error.to_string()).into()),
            (error, _) => Err(error.into()),
        }
    }

    async fn proxy_with(
        &self,
        target: &str,
        name: &str,
        pod: &Pod,
        tls: Option<&ClientTls>,
    ) -> Result<ProxyClient, Failure> {
        let tunnel = tunnel::open(self, name, pods::api_port(pod)).await?;
        match ProxyClient::over(target, tunnel.stream, tls).await {
            Ok(client) => Ok(client),
            Err(error) => Err(match tunnel.problem.soon().await {
                Some(problem) => trouble::tunnel(target, &problem).into(),
                None => error.into(),
            }),
        }
    }
}
