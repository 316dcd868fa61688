//! `podline --kube explain service/NAMESPACE/NAME`, or `ingress/...`: what counts for it and who set it, and what became of
//! each of its endpoints.

use std::fmt::Write;

use podline_api::v1;

use crate::cli::backend::Wanted;
use crate::cli::failure::{Exit, Failure};
use crate::cli::human::{Columns, clean};
use crate::cli::output::Screen;
use crate::cli::selection::{Front, FrontKind};
use crate::cli::status::{mode, notes_of};
use crate::cli::target::Target;

pub(super) async fn run(
    front: &Front,
    backend: Option<&Wanted>,
    target: &Target,
    screen: &mut Screen,
) -> Result<Exit, Failure> {
    if !target.asks_controller() {
        let problem =
            "the controller explains Services and Ingresses: add --kube, or --control ADDR";
        return Err(Failure::Usage(problem.to_owned()));
    }
    if backend.is_some() {
        let problem = "of a Service or Ingress every endpoint is explained: leave the backend out";
        return Err(Failure::Usage(problem.to_owned()));
    }
    let answer = target.controller().await?.explain(front).await?;
    screen.answer(&answer, || render(&answer, front.kind))?;
    Ok(Exit::Done)
}

fn render(answer: &v1::ExplainServiceResponse, kind: FrontKind) -> String {
    let mut text = String::new();
    let service = answer.service.clone().unwrap_or_default();
    header(&mut text, &service, kind);
    if !answer.values.is_empty() {
        const HEADER: &[&str] = &["VALUE", "IS", "SET BY"];
        let mut columns = Columns::new("", HEADER);
        for value in &answer.values {
            columns.row([
                value.name.clone(),
                value.value.clone(),
                value.origin.clone(),
            ]);
        }
        text.extend(["\n", &columns.text()]);
    }
    if !answer.endpoints.is_empty() {
        text.extend(["\n", &endpoints(&answer.endpoints)]);
    }
    text
}

fn header(text: &mut String, service: &v1::ServiceStatus, kind: FrontKind) {
    use v1::service_status::Standing;
    let (word, not_ours) = match kind {
        FrontKind::Service => (
            "service",
            "none of Podline's: it is no LoadBalancer, or its loadBalancerClass is another's",
        ),
        FrontKind::Ingress => (
            "ingress",
            "none of Podline's: its class is none of --ingress-class",
        ),
    };
    let name = format!("{}/{}", clean(&service.namespace), clean(&service.name));
    let how = match service.standing() {
        Standing::NotOurs => not_ours,
        Standing::ClaimedByOther => "another controller's",
        Standing::Leaving => "let go as soon as the proxies have let go of it",
        Standing::Ours | Standing::Unspecified => mode(service),
    };
    let at = match service.addresses.as_slice() {
        [] if service.standing() == Standing::Ours => ", at no address yet".to_owned(),
        [] => String::new(),
        addresses => format!(", at {}", clean(&addresses.join(", "))),
    };
    let _ = writeln!(text, "{word}/{name}: {how}{at}");
    for port in &service.ports {
        let _ = write!(text, "  port {}/{}: ", port.port, clean(&port.protocol));
        let _ = if port.error.is_empty() {
            writeln!(
                text,
                "{} of {} backends take traffic on every proxy that serves, {} have a weight",
                port.healthy, port.backends, port.weighted
            )
        } else {
            writeln!(text, "FAILED: {}", clean(&port.error))
        };
    }
    *text += &notes_of(word, "  ", service);
}

fn endpoints(list: &[v1::EndpointExplanation]) -> String {
    const HEADER: &[&str] = &[
        "ENDPOINT",
        "BEHIND",
        "SET",
        ">WEIGHT",
        "TRAFFIC ON",
        "WHY",
        "GATE",
    ];
    let mut columns = Columns::new("", HEADER);
    for endpoint in list {
        let weight = endpoint.weight.map(|weight| weight.to_string());
        columns.row([
            endpoint.address.clone(),
            endpoint.behind.clone(),
            endpoint.backend_set.clone(),
            weight.unwrap_or_else(|| "-".to_owned()),
            format!("{} of {}", endpoint.healthy_on, endpoint.serving_proxies),
            endpoint.fact.clone(),
            endpoint.gate.clone(),
        ]);
    }
    columns.text()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::status::services_tests::web;

    fn endpoint(
        address: &str,
        pod: &str,
        weight: Option<u32>,
        on: u32,
        fact: &str,
    ) -> v1::EndpointExplanation {
        v1::EndpointExplanation {
            address: address.to_owned(),
            behind: format!("default/{pod}"),
            backend_set: "default/web/tcp/80".to_owned(),
            weight,
            fact: fact.to_owned(),
            healthy_on: on,
            serving_proxies: 2,
            gate: String::new(),
        }
    }

    pub(super) fn answer() -> v1::ExplainServiceResponse {
        let value = |name: &str, value: &str, origin: &str| v1::EffectiveValue {
            name: name.to_owned(),
            value: value.to_owned(),
            origin: origin.to_owned(),
        };
        v1::ExplainServiceResponse {
            service: Some(web()),
            values: vec![
                value(
                    "mode",
                    "direct",
                    "annotation service.cloud.tencent.com/direct-access",
                ),
                value("backend quota", "200", "--backend-quota"),
            ],
            endpoints: vec![
                endpoint(
                    "10.244.0.3:8080",
                    "web-a",
                    Some(10),
                    2,
                    "bound, probes pass",
                ),
                endpoint(
                    "10.244.0.4:8080",
                    "web-b",
                    Some(0),
                    0,
                    "weight 0: not ready",
                ),
                endpoint(
                    "10.244.0.5:8080",
                    "web-c",
                    None,
                    0,
                    "BeyondQuota: not bound",
                ),
            ],
        }
    }

    #[test]
    fn values_and_endpoints_are_explained() {
        let text = "\
service/default/web: direct, at 10.0.0.1, 10.0.0.2
  port 80/TCP: 2 of 4 backends take traffic on every proxy that serves, 3 have a weight
  port 53/UDP: FAILED: UDPNotSupported
  service/default/web: UDPNotSupported: port 53 [2J: UDP is not there yet

VALUE          IS      SET BY
mode           direct  annotation service.cloud.tencent.com/direct-access
backend quota  200     --backend-quota

ENDPOINT         BEHIND         SET                 WEIGHT  TRAFFIC ON  WHY
10.244.0.3:8080  default/web-a  default/web/tcp/80      10  2 of 2      bound, probes pass
10.244.0.4:8080  default/web-b  default/web/tcp/80       0  0 of 2      weight 0: not ready
10.244.0.5:8080  default/web-c  default/web/tcp/80       -  0 of 2      BeyondQuota: not bound
";
        assert_eq!(render(&answer(), FrontKind::Service), text);
        let text = render(&answer(), FrontKind::Ingress);
        let told = [
            "ingress/default/web: direct",
            "\n  ingress/default/web: UDPNotSupported",
        ];
        assert!(told.iter().all(|told| text.contains(told)), "{text}");
    }

    #[test]
    fn a_service_of_nobody_is_told_as_such() {
        let mut service = v1::ServiceStatus {
            namespace: "a".to_owned(),
            name: "b".to_owned(),
            ..Default::default()
        };
        let told = |service: &v1::ServiceStatus| {
            let answer = v1::ExplainServiceResponse {
                service: Some(service.clone()),
                ..Default::default()
            };
            render(&answer, FrontKind::Service)
        };
        service.set_standing(v1::service_status::Standing::NotOurs);
        assert_eq!(
            told(&service),
            "service/a/b: none of Podline's: it is no LoadBalancer, or its loadBalancerClass is another's\n"
        );
        service.set_standing(v1::service_status::Standing::Leaving);
        assert_eq!(
            told(&service),
            "service/a/b: let go as soon as the proxies have let go of it\n"
        );
        service.set_standing(v1::service_status::Standing::Ours);
        service.set_mode(v1::service_status::Mode::Direct);
        assert_eq!(told(&service), "service/a/b: direct, at no address yet\n");
    }
}
