//! What becomes of a TKE Ingress. Pure.

use serde_json::Value;

use super::look::{Item, Known, Verdict, annotations, known, of_table};
use crate::build::annotation::Effect::Ignored;

const NOT_YET: &str = "Ingress is not there yet.";

/// The annotations of Ingresses that TKE knows.
const TABLE: &[Known] = &[
    known("kubernetes.io/ingress.class", Ignored, NOT_YET),
    known("kubernetes.io/ingress.existLbId", Ignored, NOT_YET),
    known(
        "kubernetes.io/ingress.subnetId",
        Ignored,
        "there are no subnets.",
    ),
    known(
        "kubernetes.io/ingress.internetChargeType",
        Ignored,
        "billing.",
    ),
    known(
        "kubernetes.io/ingress.internetMaxBandwidthOut",
        Ignored,
        "billing.",
    ),
    known(
        "kubernetes.io/ingress.extensiveParameters",
        Ignored,
        NOT_YET,
    ),
    known("kubernetes.io/ingress.rule-mix", Ignored, NOT_YET),
    known("kubernetes.io/ingress.rule-mix-both", Ignored, NOT_YET),
    known("kubernetes.io/ingress.http-rules", Ignored, NOT_YET),
    known("kubernetes.io/ingress.https-rules", Ignored, NOT_YET),
    known(
        "kubernetes.io/ingress.qcloud-loadbalance-id",
        Ignored,
        "a cloud's own.",
    ),
    known("ingress.cloud.tencent.com/direct-access", Ignored, NOT_YET),
    known(
        "ingress.cloud.tencent.com/tke-service-config",
        Ignored,
        NOT_YET,
    ),
    known(
        "ingress.cloud.tencent.com/tke-service-config-auto",
        Ignored,
        NOT_YET,
    ),
    known("ingress.cloud.tencent.com/listen-ports", Ignored, NOT_YET),
    known("ingress.cloud.tencent.com/auto-rewrite", Ignored, NOT_YET),
    known(
        "ingress.cloud.tencent.com/rewrite-support",
        Ignored,
        NOT_YET,
    ),
    known(
        "ingress.cloud.tencent.com/auto-rewrite-code",
        Ignored,
        NOT_YET,
    ),
    known(
        "ingress.cloud.tencent.com/enable-grace-shutdown",
        Ignored,
        NOT_YET,
    ),
    known(
        "ingress.cloud.tencent.com/enable-grace-shutdown-tkex",
        Ignored,
        NOT_YET,
    ),
    known(
        "ingress.cloud.tencent.com/enable-grace-deletion",
        Ignored,
        NOT_YET,
    ),
    known("ingress.cloud.tencent.com/lb-rs-weight", Ignored, NOT_YET),
    known(
        "ingress.cloud.tencent.com/mix-target-prefer",
        Ignored,
        NOT_YET,
    ),
    known("ingress.cloud.tencent.com/certificate", Ignored, NOT_YET),
    known("ingress.cloud.tencent.com/enable-group", Ignored, NOT_YET),
    known(
        "ingress.cloud.tencent.com/pass-to-target",
        Ignored,
        "there are no security groups.",
    ),
    known(
        "ingress.cloud.tencent.com/security-groups",
        Ignored,
        "there are no security groups.",
    ),
    known(
        "ingress.cloud.tencent.com/modification-protection",
        Ignored,
        NOT_YET,
    ),
    known(
        "ingress.cloud.tencent.com/deletion-protection",
        Ignored,
        "a cloud's own.",
    ),
    known(
        "ingress.cloud.tencent.com/loadbalance-retain",
        Ignored,
        "a cloud's own.",
    ),
    known("ingress.cloud.tencent.com/mode", Ignored, NOT_YET),
];

pub(super) fn look(object: &Value) -> Result<Vec<Item>, String> {
    let mut items = vec![Item {
        what: "spec".to_owned(),
        verdict: Verdict::Ignored,
        why: NOT_YET.to_owned(),
    }];
    let prefixes = ["ingress.cloud.tencent.com/", "kubernetes.io/ingress."];
    items.extend(of_table(&annotations(object)?, TABLE, &prefixes));
    Ok(items)
}
