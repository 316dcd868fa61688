//! What goes wrong on the way through a cluster's API server, and what to do about it. Pure.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use super::pods::Candidate;
use crate::cli::failure::Exit;
use crate::cli::human::clean;
use crate::fault::said;
use crate::installation::{CONTROL, CONTROL_SECRET, NAME_LABEL};

/// What has to be allowed for a port-forward.
pub(in crate::cli) const PORT_FORWARD: &str = "pods/portforward";

/// What is wrong, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub(in crate::cli) struct Trouble {
    pub(in crate::cli) problem: String,
    /// Lines.
    pub(in crate::cli) advice: Vec<String>,
    pub(in crate::cli) exit: Exit,
}

impl Trouble {
    pub(in crate::cli) fn new<const N: usize>(
        exit: Exit,
        problem: impl Into<String>,
        advice: [String; N],
    ) -> Self {
        Self {
            problem: clean(&problem.into()),
            advice: advice.into(),
            exit,
        }
    }
}

/// A call of the API server, in RBAC's words.
#[derive(Clone, Copy, Debug)]
pub(in crate::cli) struct Call<'a> {
    verb: &'a str,
    /// In plural, with its subresource.
    resource: &'a str,
    namespace: Option<&'a str>,
}

impl<'a> Call<'a> {
    /// In the whole cluster, or of something that has no namespace.
    pub(in crate::cli) const fn new(verb: &'a str, resource: &'a str) -> Self {
        Self {
            verb,
            resource,
            namespace: None,
        }
    }

    /// In one namespace.
    pub(in crate::cli) const fn within(mut self, namespace: &'a str) -> Self {
        self.namespace = Some(namespace);
        self
    }
}

impl fmt::Display for Call<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.verb, self.resource)?;
        match self.namespace {
            Some(namespace) => write!(f, " in namespace {namespace}"),
            None => Ok(()),
        }
    }
}

/// What a call that failed means.
pub(super) fn of(call: Call<'_>, server: &str, error: &kube::Error) -> Trouble {
    let status = match error {
        kube::Error::Api(status) => status,
        kube::Error::Auth(_) => {
            let problem = format!(
                "cannot log in to the API server at {server}: {}",
                said(error)
            );
            return Trouble::new(Exit::Refused, problem, [another()]);
        }
        kube::Error::Service(_) | kube::Error::HyperError(_) | kube::Error::RustlsTls(_) => {
            return unreachable(server, &innermost(error));
        }
        _ => {
            let problem = format!("cannot {call}: {}", said(error));
            return Trouble::new(Exit::Unreachable, problem, [another()]);
        }
    };
    let words = said(error);
    match status.code {
        401 => {
            let problem = format!("the API server at {server} does not know you: {words}");
            let advice = "nothing was done; log in to the cluster again".to_owned();
            Trouble::new(Exit::Refused, problem, [advice, another()])
        }
        403 => Trouble::new(
            Exit::Refused,
            format!("you may not {call}: {words}"),
            [format!("ask for RBAC that allows: {}", needed(call))],
        ),
        404 => Trouble::new(
            Exit::DifferentOrMissing,
            format!("cannot {call}: {words}"),
            [],
        ),
        500.. if call.resource == PORT_FORWARD => Trouble::new(
            Exit::Unreachable,
            format!(
                "cannot forward a port to a Pod in {}: {words}",
                call.namespace.unwrap_or("?")
            ),
            ["the API server answers, but does not reach the Pod's node: is that up?".to_owned()],
        ),
        408 | 429 | 500.. => Trouble::new(
            Exit::Unreachable,
            format!("cannot {call}: {words}"),
            ["the API server is not well; try again".to_owned()],
        ),
        _ => Trouble::new(Exit::Refused, format!("cannot {call}: {words}"), []),
    }
}

/// The verbs and the resource that RBAC has to allow.
fn needed(call: Call<'_>) -> String {
    let place = match call.namespace {
        Some(namespace) => format!(", in namespace {namespace}"),
        None => String::new(),
    };
    let verbs = match call.resource {
        // Opened by GET over a WebSocket: older API servers ask for get, those from 1.35 on for create, too.
        PORT_FORWARD => "create and get",
        _ => call.verb,
    };
    format!("{verbs} on {}{place}", call.resource)
}

fn unreachable(server: &str, cause: &str) -> Trouble {
    Trouble::new(
        Exit::Unreachable,
        format!("cannot reach the API server at {server}: {cause}"),
        [
            "does kubectl reach it? it uses the same kubeconfig".to_owned(),
            another(),
        ],
    )
}

fn another() -> String {
    "another cluster: --context NAME or --kubeconfig FILE".to_owned()
}

/// The API server took a request, and says nothing.
pub(super) fn silent(call: Call<'_>, server: &str, limit: Duration) -> Trouble {
    let limit = limit.as_secs();
    Trouble::new(
        Exit::Unreachable,
        format!("the API server at {server} did not answer within {limit} s: {call}"),
        ["try again; does kubectl get an answer?".to_owned()],
    )
}

/// The kubeconfig cannot be used.
pub(super) fn config(error: &dyn fmt::Display) -> Trouble {
    Trouble::new(
        Exit::Usage,
        format!("no cluster to speak to: {error}"),
        [
            "nothing was sent; kubectl config get-contexts shows what there is".to_owned(),
            another(),
        ],
    )
}

/// No Pod carries the controller's label.
pub(super) fn nobody(namespace: &str, is_namespace: bool) -> Trouble {
    let problem = if is_namespace {
        format!("there is no {CONTROL} in namespace {namespace}")
    } else {
        format!("there is no namespace {namespace}")
    };
    Trouble::new(
        Exit::DifferentOrMissing,
        problem,
        [
            "if it is elsewhere: --namespace NAMESPACE".to_owned(),
            format!("kubectl get pods -A -l {NAME_LABEL}={CONTROL} finds it"),
        ],
    )
}

/// There are Pods of the controller, and none runs.
pub(super) fn none_runs(namespace: &str, pods: &[Candidate]) -> Trouble {
    let pods: Vec<_> = pods
        .iter()
        .map(|pod| {
            let phase = if pod.is_terminating {
                "terminating"
            } else {
                &pod.phase
            };
            format!("{} is {phase}", pod.name)
        })
        .collect();
    Trouble::new(
        Exit::Unreachable,
        format!(
            "no {CONTROL} runs in namespace {namespace}: {}",
            pods.join(", ")
        ),
        [format!(
            "kubectl -n {namespace} describe pods -l {NAME_LABEL}={CONTROL} says why"
        )],
    )
}

/// There is no such Pod of a proxy.
pub(super) fn no_proxy(namespace: &str, name: &str, program: &str) -> Trouble {
    Trouble::new(
        Exit::DifferentOrMissing,
        format!("there is no Pod {name} in namespace {namespace}"),
        [format!(
            "kubectl -n {namespace} get pods -l {NAME_LABEL}={program} shows what there is"
        )],
    )
}

/// The proxy hangs up on plain text, and there is nothing better.
pub(super) fn no_certificate(namespace: &str, target: &str) -> Trouble {
    Trouble::new(
        Exit::Unreachable,
        format!("the proxy at {target} hung up"),
        [
            format!(
                "it may want TLS, and there is no Secret {namespace}/{CONTROL_SECRET} to show to it"
            ),
            format!("{CONTROL} makes that; does it run?"),
        ],
    )
}

/// The proxy and the controller's Secret do not belong together.
pub(super) fn certificate(namespace: &str, problem: &str) -> Trouble {
    Trouble::new(
        Exit::Unreachable,
        problem,
        [
            format!(
                "nothing was changed; the certificate is that of Secret {namespace}/{CONTROL_SECRET}"
            ),
            format!("{CONTROL} keeps it in step with the proxies'; its log says more"),
        ],
    )
}

/// The API server forwards, and the Pod does not take it.
pub(in crate::cli) fn tunnel(target: &str, problem: &str) -> Trouble {
    Trouble::new(
        Exit::Unreachable,
        format!("cannot forward a port to Pod {target}: {problem}"),
        ["nothing was changed; does the Pod still run? its log says more".to_owned()],
    )
}

/// The last of the causes.
pub(in crate::cli) fn innermost(error: &dyn Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    fn refused(code: u16, message: &str) -> kube::Error {
        kube::Error::Api(Box::new(Status {
            code,
            message: message.to_owned(),
            ..Status::default()
        }))
    }

    fn told(call: Call<'_>, error: &kube::Error) -> (String, Exit) {
        let trouble = of(call, "https://c:6443", error);
        let lines: Vec<_> = std::iter::once(trouble.problem)
            .chain(trouble.advice)
            .collect();
        (lines.join("\n"), trouble.exit)
    }

    #[test]
    fn what_rbac_lacks_is_named() {
        let call = Call::new("create", "pods/portforward").within("podline-system");
        let (text, exit) = told(call, &refused(403, "pods \"x\" is forbidden"));
        assert_eq!(
            text,
            "you may not create pods/portforward in namespace podline-system: pods \"x\" is forbidden\n\
             ask for RBAC that allows: create and get on pods/portforward, in namespace podline-system"
        );
        assert_eq!(exit, Exit::Refused);
        let (text, _) = told(Call::new("list", "services"), &refused(403, "no"));
        assert_eq!(
            text,
            "you may not list services: no\nask for RBAC that allows: list on services"
        );
    }

    #[test]
    fn other_answers_say_what_to_do() {
        let call = Call::new("get", "pods").within("n");
        let check = |code, exit, part: &str| {
            let (text, found) = told(call, &refused(code, "because"));
            assert_eq!(found, exit, "{text}");
            assert!(text.contains("because") && text.contains(part), "{text}");
        };
        check(401, Exit::Refused, "log in");
        check(
            404,
            Exit::DifferentOrMissing,
            "cannot get pods in namespace n",
        );
        check(500, Exit::Unreachable, "try again");
        check(503, Exit::Unreachable, "try again");
        check(422, Exit::Refused, "cannot get pods");
    }

    #[test]
    fn a_server_that_is_not_there_is_told_apart() {
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        let error = kube::Error::Service(Box::new(refused));
        let (text, exit) = told(Call::new("list", "pods"), &error);
        assert!(
            text.starts_with("cannot reach the API server at https://c:6443: connection refused\n"),
            "{text}"
        );
        assert!(text.contains("--context"), "{text}");
        assert_eq!(exit, Exit::Unreachable);
    }

    #[test]
    fn a_controller_that_is_not_there_is_told_from_a_namespace_that_is_not() {
        let there = nobody("n", true);
        assert_eq!(there.problem, "there is no podline-control in namespace n");
        assert_eq!(nobody("n", false).problem, "there is no namespace n");
        assert!(there.advice[0].contains("--namespace"));
        let pods = [Candidate {
            name: "a".to_owned(),
            phase: "Pending".to_owned(),
            is_ready: false,
            is_terminating: false,
        }];
        let none = none_runs("n", &pods).problem;
        assert_eq!(none, "no podline-control runs in namespace n: a is Pending");
    }
}
