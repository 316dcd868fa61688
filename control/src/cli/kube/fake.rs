//! An API server that only plays a part: it keeps objects as they are, knows no kind, and forwards ports of Pods to
//! wherever the test says. What a real one makes of an apply is tried on a real one.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::Cluster;
use crate::cluster::service::FINALIZER;
use crate::installation::NAMESPACE;

/// The part.
#[derive(Default)]
pub(in crate::cli) struct Part {
    /// By the path of each.
    pub(in crate::cli) objects: BTreeMap<String, Value>,
    /// Where a Pod's ports lead; to nobody if they are missing.
    pub(in crate::cli) ports: HashMap<(String, u16), SocketAddr>,
    /// Forbidden are requests that begin so: "GET /api/v1/services".
    pub(in crate::cli) forbidden: Vec<&'static str>,
}

/// The part, while it is played.
pub(in crate::cli) struct Fake {
    part: Mutex<Part>,
    requests: Mutex<Vec<String>>,
}

/// A cluster whose API server plays `part`.
pub(in crate::cli) async fn cluster(part: Part) -> (Cluster, Arc<Fake>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = format!("http://{}", listener.local_addr().unwrap());
    let fake = Arc::new(Fake {
        part: Mutex::new(part),
        requests: Mutex::default(),
    });
    tokio::spawn(serve(listener, Arc::clone(&fake)));
    let mut config = kube::Config::new(server.parse().unwrap());
    config.default_retry = false;
    let cluster = Cluster {
        client: kube::Client::try_from(config).unwrap(),
        namespace: NAMESPACE.to_owned(),
        server,
    };
    (cluster, fake)
}

async fn serve(listener: TcpListener, fake: Arc<Fake>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let fake = Arc::clone(&fake);
        tokio::spawn(async move {
            let answer = service_fn(move |request| {
                let fake = Arc::clone(&fake);
                async move { Ok::<_, Infallible>(fake.answer(request).await) }
            });
            let server = hyper::server::conn::http1::Builder::new();
            let connection = server.serve_connection(TokioIo::new(stream), answer);
            let _ = connection.with_upgrades().await;
        });
    }
}

fn told(code: StatusCode, body: &Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.to_string().into()));
    *response.status_mut() = code;
    response
}

fn refused(code: StatusCode, message: &str) -> Response<Full<Bytes>> {
    let reason = if code == StatusCode::NOT_FOUND {
        "NotFound"
    } else {
        "Forbidden"
    };
    let body = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code.as_u16()});
    told(code, &body)
}

fn decoded(text: &str) -> String {
    ["%2F", "%3D"]
        .iter()
        .zip(["/", "="])
        .fold(text.to_owned(), |text, (code, plain)| {
            text.replace(code, plain)
        })
}

impl Fake {
    /// Whatever was asked for that changes something, in order.
    pub(in crate::cli) fn changes(&self) -> Vec<String> {
        let requests = self.requests.lock().unwrap();
        let changing = requests
            .iter()
            .filter(|request| !request.starts_with("GET "));
        changing.cloned().collect()
    }

    /// What is there now.
    pub(in crate::cli) fn objects(&self) -> BTreeMap<String, Value> {
        self.part.lock().unwrap().objects.clone()
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let path = request.uri().path().to_owned();
        let asked = format!("{} {path}", request.method());
        self.requests.lock().unwrap().push(asked.clone());
        let is_forbidden =
            |part: &Part| part.forbidden.iter().any(|start| asked.starts_with(start));
        if is_forbidden(&self.part.lock().unwrap()) {
            return refused(StatusCode::FORBIDDEN, "it is forbidden");
        }
        if let Some(pod) = path.strip_suffix("/portforward") {
            let pod = pod.rsplit('/').next().unwrap().to_owned();
            return self.forward(&pod, request);
        }
        let query = decoded(request.uri().query().unwrap_or_default());
        let (parts, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        let is_apply = parts
            .headers
            .get(header::CONTENT_TYPE)
            .is_some_and(|kind| kind == "application/apply-patch+yaml");
        let mut part = self.part.lock().unwrap();
        match parts.method {
            Method::GET => part.get(&path, &query),
            Method::PATCH => part.patch(&path, &body, is_apply),
            Method::DELETE => part.delete(&path),
            _ => refused(StatusCode::METHOD_NOT_ALLOWED, "not in this part"),
        }
    }

    fn forward(&self, pod: &str, mut request: Request<Incoming>) -> Response<Full<Bytes>> {
        let query = request.uri().query().unwrap();
        let port: u16 = query.split("ports=").nth(1).unwrap().parse().unwrap();
        let target = self
            .part
            .lock()
            .unwrap()
            .ports
            .get(&(pod.to_owned(), port))
            .copied();
        let key = request.headers()[header::SEC_WEBSOCKET_KEY]
            .as_bytes()
            .to_owned();
        tokio::spawn(async move {
            let upgraded = hyper::upgrade::on(&mut request).await.unwrap();
            let stream = TokioIo::new(upgraded);
            let socket = WebSocketStream::from_raw_socket(stream, Role::Server, None).await;
            bridge(socket, port, target).await;
        });
        let response = Response::builder()
            .status(StatusCode::SWITCHING_PROTOCOLS)
            .header(header::UPGRADE, "websocket")
            .header(header::CONNECTION, "Upgrade")
            .header(header::SEC_WEBSOCKET_ACCEPT, derive_accept_key(&key))
            .header(header::SEC_WEBSOCKET_PROTOCOL, "v4.channel.k8s.io");
        response.body(Full::default()).unwrap()
    }
}

/// As a kubelet does: channel 0 for data, 1 for what is wrong; each begins with the port.
async fn bridge<S>(mut socket: WebSocketStream<S>, port: u16, target: Option<SocketAddr>)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let [low, high] = port.to_le_bytes();
    for channel in 0..2 {
        let hello = Message::binary(vec![channel, low, high]);
        socket.send(hello).await.unwrap();
    }
    let Some(target) = target else {
        let problem = b"\x01connection refused inside the Pod";
        socket
            .send(Message::binary(problem.to_vec()))
            .await
            .unwrap();
        // Not before the other end has read it.
        while let Some(Ok(_)) = socket.next().await {}
        return;
    };
    let stream = TcpStream::connect(target).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let (mut from, mut to) = stream.into_split();
    let mut buffer = vec![0; 16 << 10];
    loop {
        tokio::select! {
            read = from.read(&mut buffer) => {
                let Ok(count @ 1..) = read else { break };
                let mut message = vec![0];
                message.extend_from_slice(&buffer[..count]);
                if socket.send(Message::binary(message)).await.is_err() {
                    return;
                }
            }
            message = socket.next() => match message {
                Some(Ok(Message::Binary(bytes))) => to.write_all(&bytes[1..]).await.unwrap(),
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                Some(Ok(_)) => {}
            },
        }
    }
    let _ = socket.close(None).await;
}

impl Part {
    fn get(&self, path: &str, query: &str) -> Response<Full<Bytes>> {
        if let Some(object) = self.objects.get(path) {
            return told(StatusCode::OK, object);
        }
        // The last part of an object's path is its name, that of a list the kind.
        let (place, kind) = path.rsplit_once('/').unwrap();
        let of_list = |(found, _): &(&String, &Value)| {
            let (collection, _) = found.rsplit_once('/').unwrap();
            collection == path
                || collection.starts_with(&format!("{place}/namespaces/"))
                    && collection.ends_with(&format!("/{kind}"))
        };
        let wanted = query
            .split('&')
            .find_map(|part| part.split_once("labelSelector="));
        let wanted = wanted.and_then(|(_, label)| label.split_once('='));
        let labelled = |(_, object): &(&String, &Value)| {
            wanted.is_none_or(|(key, value)| object["metadata"]["labels"][key] == value)
        };
        let found = self.objects.iter().filter(of_list).filter(labelled);
        let items: Vec<_> = found.map(|(_, object)| object).collect();
        if items.is_empty() && is_name_of_object(path) {
            return refused(StatusCode::NOT_FOUND, "it is not there");
        }
        let list = json!({"kind": "List", "apiVersion": "v1", "metadata": {}, "items": items});
        told(StatusCode::OK, &list)
    }

    fn patch(&mut self, path: &str, body: &Value, is_apply: bool) -> Response<Full<Bytes>> {
        let (path, is_status) = match path.strip_suffix("/status") {
            Some(path) => (path, true),
            None => (path, false),
        };
        let Some(object) = self.objects.get_mut(path) else {
            return refused(StatusCode::NOT_FOUND, "it is not there");
        };
        if is_apply {
            give_up(object, is_status);
        } else {
            merge(object, body);
        }
        let answer = object.clone();
        let is_held = |name: &Value| answer["metadata"][name.as_str().unwrap()].is_array();
        if answer["metadata"]["deletionTimestamp"].is_string() && !is_held(&json!("finalizers")) {
            self.objects.remove(path);
        }
        if answer["spec"]["replicas"] == 0 {
            let label = answer["metadata"]["labels"].clone();
            self.objects.retain(|path, found| {
                !path.contains("/pods/") || found["metadata"]["labels"] != label
            });
        }
        told(StatusCode::OK, &answer)
    }

    fn delete(&mut self, path: &str) -> Response<Full<Bytes>> {
        match self.objects.remove(path) {
            Some(object) => {
                // What is in a namespace goes with it, and the Pods of a Deployment.
                let label = &object["metadata"]["labels"];
                let is_in = |found: &str| found.starts_with(&format!("{path}/"));
                let is_of = |found: &str, pod: &Value| {
                    path.contains("/deployments/")
                        && found.contains("/pods/")
                        && pod["metadata"]["labels"] == *label
                };
                self.objects
                    .retain(|found, other| !is_in(found) && !is_of(found, other));
                let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"});
                told(StatusCode::OK, &status)
            }
            None => refused(StatusCode::NOT_FOUND, "it is not there"),
        }
    }
}

/// Whether a path names one object, and not a list.
fn is_name_of_object(path: &str) -> bool {
    let parts: Vec<_> = path.trim_start_matches('/').split('/').collect();
    let rest = if parts[0] == "api" {
        &parts[2..]
    } else {
        &parts[3..]
    };
    match rest {
        ["namespaces"] => false,
        ["namespaces", _] => true,
        ["namespaces", _, rest @ ..] | rest => rest.len() == 2,
    }
}

/// What an apply of nothing does to a Service that our controller wrote.
fn give_up(object: &mut Value, is_status: bool) {
    if let Some(entries) = object["metadata"]["managedFields"].as_array_mut() {
        let ours = |entry: &Value| {
            entry["manager"] == "podline-control" && entry["subresource"].is_string() == is_status
        };
        entries.retain(|entry| !ours(entry));
    }
    if is_status {
        object["status"] = json!({});
        return;
    }
    if let Some(finalizers) = object["metadata"]["finalizers"].as_array_mut() {
        finalizers.retain(|finalizer| finalizer != FINALIZER);
        if finalizers.is_empty() {
            object["metadata"]
                .as_object_mut()
                .unwrap()
                .remove("finalizers");
        }
    }
}

fn merge(object: &mut Value, patch: &Value) {
    let Some(fields) = patch.as_object() else {
        *object = patch.clone();
        return;
    };
    if !object.is_object() {
        *object = json!({});
    }
    for (key, value) in fields {
        if value.is_null() || *value == json!([]) {
            object.as_object_mut().unwrap().remove(key);
        } else {
            merge(&mut object[key], value);
        }
    }
}
