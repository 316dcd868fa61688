//! A subject that runs: what callers have of it.

use std::net::IpAddr;

use podline_lab::Namespace;

use super::forwarder::Forwarder;
use super::start::of_pod;
use super::targets::Targets;
use super::ways::Ways;
use super::{Backend, Entry, Site, Subject};
use crate::account;

/// A subject that runs, until it is dropped.
#[derive(Debug)]
pub struct Running<'a> {
    /// Where it is reached.
    pub entry: Entry,
    subject: Subject,
    proxy: &'a Namespace,
    nodes: Vec<(&'a Namespace, IpAddr)>,
    /// None where clients talk to a Pod.
    forwarder: Option<Forwarder>,
}

impl<'a> Running<'a> {
    pub(super) fn new(subject: Subject, forwarder: Forwarder, site: &Site<'a>) -> Self {
        Self {
            entry: forwarder.wanted().entry(),
            subject,
            proxy: site.proxy,
            nodes: site.nodes.clone(),
            forwarder: Some(forwarder),
        }
    }

    /// Waits until it serves.
    pub(super) fn wait_serving(&mut self) -> Result<(), String> {
        let forwarder = self.forwarder.as_mut();
        forwarder.map_or(Ok(()), |forwarder| {
            forwarder.wait_serving(self.subject, self.proxy)
        })
    }

    /// The first Pod by itself.
    pub(super) fn of_pod(first: IpAddr, site: &Site<'a>) -> Self {
        Self {
            entry: of_pod(first),
            subject: Subject::Pod,
            proxy: site.proxy,
            nodes: site.nodes.clone(),
            forwarder: None,
        }
    }

    /// The processes that forward, with their children. What forwards in the kernel is not among them.
    pub fn pids(&self) -> Vec<u32> {
        let main = self.forwarder.as_ref().map(Forwarder::pid);
        main.map_or_else(Vec::new, |pid| account::family(&[pid]))
    }

    /// Processes that help without forwarding: the agents on nodes where clients are imitated.
    pub fn helpers(&self) -> Vec<u32> {
        let ways = self
            .forwarder
            .as_ref()
            .and_then(|forwarder| forwarder.ways.as_ref());
        ways.map_or_else(Vec::new, Ways::pids)
    }

    /// Whether all of its processes still run.
    ///
    /// # Errors
    /// One has ended: which, how, and the end of its log.
    pub fn check(&mut self) -> Result<(), String> {
        self.forwarder.as_mut().map_or(Ok(()), Forwarder::check)
    }

    /// Forwards to these Pods from now on, and to no others. Returns when it does so, as far as it tells. With NodePorts,
    /// kube-proxy's rules are for the caller to change; only nodes that have or lose all of their Pods are told here.
    ///
    /// # Errors
    /// It did not take them; or there are none.
    pub fn change(&mut self, backends: &[Backend]) -> Result<(), String> {
        let Some(first) = backends.first() else {
            return Err(format!("{}: there is nobody to forward to", self.subject));
        };
        let Some(forwarder) = &mut self.forwarder else {
            self.entry = of_pod(first.address);
            return Ok(());
        };
        let nodes: Vec<IpAddr> = self.nodes.iter().map(|(_, address)| *address).collect();
        let targets = Targets::of(self.subject, &nodes, backends);
        if targets == forwarder.wanted().targets {
            return Ok(());
        }
        forwarder.change(targets, self.proxy)
    }

    /// Whether [`Self::drain`] can be asked of it.
    pub fn can_drain(&self) -> bool {
        let is_direct = matches!(self.subject, Subject::Direct | Subject::DirectTransparent);
        is_direct && self.forwarder.is_some()
    }

    /// Gives a Pod no new connections; those that it has live on. Only Podline in front of Pods can be told so.
    ///
    /// # Errors
    /// This subject cannot, or it did not take it.
    pub fn drain(&self, backend: &Backend) -> Result<(), String> {
        let forwarder = self.forwarder.as_ref();
        let forwarder = forwarder.filter(|_| !self.subject.is_nodeport());
        let forwarder = forwarder.ok_or_else(|| format!("{} drains no Pods", self.subject))?;
        let targets = Targets::of(self.subject, &[], &[*backend]);
        forwarder.drain(targets.http[0], targets.frames[0])
    }

    /// Ends it, and takes away what it has set up.
    ///
    /// # Errors
    /// Something is left in the namespaces.
    pub fn end(mut self) -> Result<(), String> {
        self.take_away()
    }

    fn take_away(&mut self) -> Result<(), String> {
        let ways = self.forwarder.take().and_then(Forwarder::end);
        ways.map_or(Ok(()), |ways| ways.remove(self.proxy, &self.nodes))
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.take_away().ok(); // `end` tells
    }
}
