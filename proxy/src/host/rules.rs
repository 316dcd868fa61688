//! Routing rules: packets with a mark are routed by a table of their own.

use std::fmt;
use std::io;

use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::routing::{PROTOCOL, Routing, Want};
use super::{Bits, Family, HostError};

/// Packets of this IP version with this mark are routed by this table, if it knows a way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MarkRule {
    /// Of which IP version.
    pub family: Family,
    /// Lower ones are asked first; the main table is at 32766.
    pub priority: u32,
    /// The mark.
    pub mark: Bits,
    /// The table.
    pub table: u32,
}

impl fmt::Display for MarkRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (family, priority) = (self.family.option(), self.priority);
        let (mark, table) = (self.mark, self.table);
        write!(
            f,
            "ip {family} rule priority {priority} fwmark {mark} lookup {table}"
        )
    }
}

impl Routing {
    /// The rules that we made, of all processes of ours, in the kernel's order.
    pub fn rules(&mut self, family: Family) -> Result<Vec<MarkRule>, HostError> {
        let mut ask = RuleMessage::default();
        ask.header.family = family.into();
        let replies = self
            .ask(RouteNetlinkMessage::GetRule(ask), Want::All)
            .map_err(HostError::new("list the routing rules"))?;
        let rules = replies.iter().filter_map(|reply| match reply {
            RouteNetlinkMessage::NewRule(message) => read(family, message),
            _ => None,
        });
        Ok(rules.collect())
    }

    /// Adds it, unless it is there.
    pub fn add_rule(&mut self, rule: MarkRule) -> Result<(), HostError> {
        let message = RouteNetlinkMessage::NewRule(write(rule));
        match self.ask(message, Want::Add) {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(HostError::new(format!("add {rule}"))(error)),
        }
    }

    /// Deletes it, if it is there.
    pub fn delete_rule(&mut self, rule: MarkRule) -> Result<(), HostError> {
        let message = RouteNetlinkMessage::DelRule(write(rule));
        match self.ask(message, Want::Delete) {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(HostError::new(format!("delete {rule}"))(error)),
        }
    }
}

fn write(rule: MarkRule) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = rule.family.into();
    message.header.action = RuleAction::ToTable;
    message.attributes = vec![
        RuleAttribute::Priority(rule.priority),
        RuleAttribute::FwMark(rule.mark.value()),
        RuleAttribute::FwMask(rule.mark.mask()),
        RuleAttribute::Table(rule.table),
        RuleAttribute::Protocol(PROTOCOL),
    ];
    message
}

/// Absent if it is not ours.
fn read(family: Family, message: &RuleMessage) -> Option<MarkRule> {
    let (mut priority, mut value, mut mask, mut table) = (0, 0, u32::MAX, 0);
    let mut is_ours = false;
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::Priority(number) => priority = *number,
            RuleAttribute::FwMark(number) => value = *number,
            RuleAttribute::FwMask(number) => mask = *number,
            RuleAttribute::Table(number) => table = *number,
            RuleAttribute::Protocol(protocol) => is_ours = *protocol == PROTOCOL,
            _ => {}
        }
    }
    Some(MarkRule {
        family,
        priority,
        mark: Bits::new(value, mask).filter(|_| is_ours)?,
        table,
    })
}

impl From<Family> for AddressFamily {
    fn from(family: Family) -> Self {
        match family {
            Family::V4 => Self::Inet,
            Family::V6 => Self::Inet6,
        }
    }
}
