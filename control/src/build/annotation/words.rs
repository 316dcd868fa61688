//! What annotations are called that Services and Ingresses have in common. Pure.

use super::{
    AUTO_CONFIG, CONFIG, CREATION, DIRECT_ACCESS, MODE, SECURITY_GROUPS, WEIGHTS, ingress,
};
use crate::cluster::Front;

/// The names of annotations, of one kind of object.
#[derive(Debug)]
pub struct Words {
    /// Straight to Pods, or not.
    pub direct_access: &'static str,
    /// Which TkeServiceConfig to follow.
    pub config: &'static str,
    /// Whether to follow one that is made for it.
    pub auto_config: &'static str,
    /// What Pods weigh.
    pub weights: &'static str,
    /// Whether it is looked at.
    pub mode: &'static str,
    /// What TKE would make a load balancer with.
    pub creation: &'static str,
    /// Who may connect to a cloud's load balancer.
    pub security_groups: &'static str,
}

impl Words {
    /// Of Services.
    pub const OF_SERVICES: Self = Self {
        direct_access: DIRECT_ACCESS,
        config: CONFIG,
        auto_config: AUTO_CONFIG,
        weights: WEIGHTS,
        mode: MODE,
        creation: CREATION,
        security_groups: SECURITY_GROUPS,
    };
    /// Of Ingresses.
    pub const OF_INGRESSES: Self = Self {
        direct_access: ingress::DIRECT_ACCESS,
        config: ingress::CONFIG,
        auto_config: ingress::AUTO_CONFIG,
        weights: ingress::WEIGHTS,
        mode: ingress::MODE,
        creation: ingress::CREATION,
        security_groups: ingress::SECURITY_GROUPS,
    };

    /// As an object of this kind writes them.
    pub const fn of(front: &Front) -> &'static Self {
        match front {
            Front::Service(_) => &Self::OF_SERVICES,
            Front::Ingress(_) => &Self::OF_INGRESSES,
        }
    }
}
