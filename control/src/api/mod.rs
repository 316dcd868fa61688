//! `podline.v1.Control`: what the controller knows, read-only, in plain text on a loopback address. Whoever may forward a
//! port to the Pod may read it, so RBAC is the login. Must not know how the answers come about: that is `answers`.

mod answers;
mod timeline;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use podline_api::v1::control_server::{Control, ControlServer};
use podline_api::{FILE_DESCRIPTOR_SET, v1};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

use crate::cluster::{Front, Key};
use crate::engine::Shared;
use crate::reign::Reign;
use crate::timeline::Timelines;

use timeline::Refused;

/// What the API tells of the process itself.
#[derive(Clone)]
pub struct Identity {
    /// The replica's name.
    pub name: String,
    /// Who the proxies know it as.
    pub owner: String,
    /// Whether it leads.
    pub reign: tokio::sync::watch::Receiver<Reign>,
    /// Why it is not ready.
    pub ready: Arc<dyn Fn() -> Result<(), String> + Send + Sync>,
}

struct Service {
    shared: Shared,
    timelines: Timelines,
    identity: Identity,
}

/// Binds the address.
///
/// # Errors
/// Somebody else has it.
pub async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address).await
}

/// Serves until it breaks.
///
/// # Errors
/// The transport gave up.
pub async fn serve(
    listener: TcpListener,
    shared: Shared,
    timelines: Timelines,
    identity: Identity,
) -> Result<(), tonic::transport::Error> {
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
        .build_v1()
        .expect("the descriptors were compiled by our own build");
    Server::builder()
        .concurrency_limit_per_connection(16)
        .add_service(ControlServer::new(Service {
            shared,
            timelines,
            identity,
        }))
        .add_service(reflection)
        .serve_with_incoming(TcpListenerStream::new(listener))
        .await
}

impl Service {
    fn explain(
        &self,
        kind: impl Fn(Key) -> Front,
        request: &v1::ExplainServiceRequest,
    ) -> Result<Response<v1::ExplainServiceResponse>, Status> {
        let core = self.shared.look();
        let front = kind(Key::new(&request.namespace, &request.name));
        let answer = answers::explain(&core, &front);
        answer.map(Response::new).ok_or_else(|| {
            let problem = if core.is_synced() {
                format!("there is no {front}")
            } else {
                "the cluster was not listed yet: try again".to_owned()
            };
            Status::not_found(problem)
        })
    }
}

#[tonic::async_trait]
impl Control for Service {
    async fn status(
        &self,
        request: Request<v1::StatusRequest>,
    ) -> Result<Response<v1::StatusResponse>, Status> {
        let request = request.into_inner();
        let ready = (self.identity.ready)();
        let core = self.shared.look();
        Ok(Response::new(answers::status(
            &core,
            &self.identity,
            ready,
            &request.namespace,
        )))
    }

    async fn explain_service(
        &self,
        request: Request<v1::ExplainServiceRequest>,
    ) -> Result<Response<v1::ExplainServiceResponse>, Status> {
        self.explain(Front::Service, &request.into_inner())
    }

    async fn explain_ingress(
        &self,
        request: Request<v1::ExplainServiceRequest>,
    ) -> Result<Response<v1::ExplainServiceResponse>, Status> {
        self.explain(Front::Ingress, &request.into_inner())
    }

    async fn timeline(
        &self,
        request: Request<v1::TimelineRequest>,
    ) -> Result<Response<v1::TimelineResponse>, Status> {
        let answer = timeline::answer(&self.timelines.book(), request.get_ref());
        answer.map(Response::new).map_err(|refused| match refused {
            Refused::NotLeader => Status::failed_precondition(format!(
                "replica {} does not lead, and only who leads keeps timelines: ask that one",
                self.identity.name
            )),
            Refused::Kind => Status::invalid_argument("kind: say which"),
            Refused::NotFound(problem) => Status::not_found(problem),
        })
    }

    async fn gates(
        &self,
        request: Request<v1::GatesRequest>,
    ) -> Result<Response<v1::GatesResponse>, Status> {
        let namespace = request.into_inner().namespace;
        let now = std::time::SystemTime::now().into();
        let core = self.shared.look();
        let now_ms = core.now_ms();
        Ok(Response::new(answers::gates(
            &core, now, now_ms, &namespace,
        )))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;
    use crate::build::Options;

    /// A Pod that waits for its containers, one that is bound without a gate, and how both are told.
    #[test]
    fn who_waits_and_who_has_no_gate_is_told() {
        use crate::cluster::testing::{endpoint, key, node, pod, service, slice};
        use crate::cluster::{Change, Gate, Kind, Pod, Touched};
        use crate::gate::Changed;

        let shared = Shared::new(Options::default());
        let waiting = Pod {
            gate: Gate::Waiting,
            containers_ready: false,
            ..pod("default/new", "10.0.0.1")
        };
        let old = pod("default/old", "10.0.0.2");
        let of_web = slice(
            "web-1",
            "default/web",
            vec![endpoint(&waiting), endpoint(&old)],
        );
        let web = service("default/web");
        let mut core = shared.look();
        let core = &mut *core;
        for change in [
            Change::Node("node-1".into(), Some(node("node-1", "10.89.0.11"))),
            Change::Pod(waiting.key.clone(), Some(waiting)),
            Change::Pod(old.key.clone(), Some(old)),
            Change::Slice(of_web.key.clone(), Some(of_web)),
            Change::Service(web.key.clone(), Some(Box::new(web))),
        ] {
            core.cluster.apply(change);
        }
        core.synced.extend(Kind::ALL);
        let touched = Touched::all();
        let standings = core.builder.build(&core.cluster, &touched);
        let changed = Changed {
            touched: &touched,
            standings: &standings,
            pods: &[].into(),
            all_pods: true,
        };
        core.gates
            .take(&core.cluster, &core.builder, &changed, 1_000);
        let now = prost_types::Timestamp {
            seconds: 500,
            nanos: 0,
        };
        let answer = answers::gates(core, now, 61_000, "");
        let [pod] = answer.waiting.as_slice() else {
            panic!("{answer:?}");
        };
        assert_eq!((&*pod.name, &*pod.reason, pod.opens), ("new", "", false));
        assert_eq!(pod.message, "its containers are not ready");
        assert_eq!(pod.since.map(|since| since.seconds), Some(440));
        assert_eq!(answer.without_gate[0].name, "old");
        let elsewhere = answers::gates(core, now, 61_000, "other");
        assert_eq!(elsewhere, v1::GatesResponse::default());
        let front = Front::Service(key("default/web"));
        let explained = answers::explain(core, &front).unwrap().endpoints;
        let gates: Vec<_> = explained.iter().map(|it| it.gate.as_str()).collect();
        assert_eq!(gates, ["closed: its containers are not ready", ""]);
    }

    #[test]
    fn whether_we_are_ready_may_be_found_out_by_a_look() {
        let shared = Shared::new(Options::default());
        let looks = shared.clone();
        let service = Service {
            shared,
            timelines: Timelines::default(),
            identity: Identity {
                name: "a".to_owned(),
                owner: "k8s/default".to_owned(),
                reign: tokio::sync::watch::channel(Reign::Follower).1,
                ready: Arc::new(move || {
                    let known = looks.look().is_synced();
                    known.then_some(()).ok_or_else(|| "not listed".to_owned())
                }),
            },
        };
        let (answer, answered) = mpsc::channel();
        // A thread of its own: one that waits for its own lock never ends.
        std::thread::spawn(move || {
            let asked = service.status(Request::new(v1::StatusRequest::default()));
            let asked = futures_util::FutureExt::now_or_never(asked);
            answer.send(asked.unwrap().unwrap().into_inner()).unwrap();
        });
        let answer = answered.recv_timeout(Duration::from_secs(10)).unwrap();
        assert_eq!(answer.not_ready_reason, "not listed");
    }
}
