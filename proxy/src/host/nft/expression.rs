//! Rules in the kernel's own form: expressions that load a value into a register, change it, compare it. Pure.
//!
//! The form is the one that `nft` writes, so that `nft list` can read it back.

use std::net::IpAddr;

use ipnet::IpNet;

use super::attribute::Writer;
use super::ruleset::{Action, Match, Rule, Transport};
use crate::host::{Bits, Family, Mac};

/// The register that values go through.
const REGISTER: u32 = 1;
/// A second one, behind the room of a longest value in the first.
const SECOND: u32 = 2;
/// Names of links are compared with the zeros behind them.
const LINK_NAME: usize = 16;

/// `meta` keys.
mod meta {
    pub(super) const MARK: u32 = 3;
    pub(super) const IN_NAME: u32 = 6;
    pub(super) const OUT_NAME: u32 = 7;
    pub(super) const IN_TYPE: u32 = 8;
    pub(super) const FAMILY: u32 = 15;
    pub(super) const PROTOCOL: u32 = 16;
}

/// `ct` keys.
mod ct {
    pub(super) const STATE: u32 = 0;
    pub(super) const DIRECTION: u32 = 1;
    pub(super) const MARK: u32 = 3;
    pub(super) const IS_INVALID: u32 = 1;
    pub(super) const IS_RELATED: u32 = 4;
    pub(super) const IS_NEW: u32 = 8;
}

/// `socket` keys.
mod socket {
    pub(super) const TRANSPARENT: u32 = 0;
    pub(super) const WILDCARD: u32 = 2;
}

#[derive(Clone, Copy)]
enum Is {
    Equal,
    Different,
}

/// The list of expressions of a rule, in a table that sees this IP version, or both.
pub(super) fn expressions(writer: &mut Writer, of: Option<Family>, rule: &Rule) {
    for one in &rule.matches {
        matching(writer, of, one);
    }
    for action in &rule.then {
        acting(writer, *action);
    }
}

fn matching(writer: &mut Writer, of: Option<Family>, one: &Match) {
    match one {
        Match::Family(family) => self::family(writer, *family),
        Match::Protocol(transport) => {
            load_meta(writer, meta::PROTOCOL);
            compare(writer, Is::Equal, &[number_of(*transport)]);
        }
        Match::From(link) => link_is(writer, meta::IN_NAME, Is::Equal, link),
        Match::NotFrom(link) => link_is(writer, meta::IN_NAME, Is::Different, link),
        Match::To(link) => link_is(writer, meta::OUT_NAME, Is::Equal, link),
        Match::EtherSource(mac) => ether_source(writer, Is::Equal, *mac),
        Match::NotEtherSource(mac) => ether_source(writer, Is::Different, *mac),
        Match::Source(network) => address(writer, of, End::Source, Is::Equal, *network),
        Match::NotSource(network) => address(writer, of, End::Source, Is::Different, *network),
        Match::Destination(network) => address(writer, of, End::Destination, Is::Equal, *network),
        Match::NotDestination(network) => {
            address(writer, of, End::Destination, Is::Different, *network);
        }
        Match::New => state(writer, ct::IS_NEW),
        Match::Related => state(writer, ct::IS_RELATED),
        Match::Original => direction(writer, 0),
        Match::Reply => direction(writer, 1),
        Match::BeginsNoConnection => {
            load_meta(writer, meta::PROTOCOL);
            compare(writer, Is::Equal, &[number_of(Transport::Tcp)]);
            payload(writer, Base::Transport, 13, 1); // flags
            bitwise(writer, &[2], &[0]); // SYN
            compare(writer, Is::Equal, &[0]);
        }
        Match::OfUnknownConnection => state(writer, ct::IS_INVALID | ct::IS_NEW),
        Match::ConnectionMark(bits) => {
            load_ct(writer, ct::MARK);
            bits_are(writer, Is::Equal, *bits);
        }
        Match::NotConnectionMark(bits) => {
            load_ct(writer, ct::MARK);
            bits_are(writer, Is::Different, *bits);
        }
        Match::Mark(bits) => {
            load_meta(writer, meta::MARK);
            bits_are(writer, Is::Equal, *bits);
        }
        Match::TransparentSocket => {
            load_socket(writer, socket::WILDCARD);
            compare(writer, Is::Equal, &[0]);
            load_socket(writer, socket::TRANSPARENT);
            compare(writer, Is::Equal, &[1]);
        }
    }
}

fn acting(writer: &mut Writer, action: Action) {
    match action {
        Action::SetMark(bits) => {
            load_meta(writer, meta::MARK);
            masked(writer, !bits.mask(), bits.value());
            store(writer, "meta", meta::MARK, 3);
        }
        Action::ClearMark(bits) => {
            load_meta(writer, meta::MARK);
            masked(writer, !bits.mask(), 0);
            store(writer, "meta", meta::MARK, 3);
        }
        Action::SetConnectionMark(bits) => {
            load_ct(writer, ct::MARK);
            masked(writer, !bits.mask(), bits.value());
            store(writer, "ct", ct::MARK, 4);
        }
        Action::ClearConnectionMark(bits) => {
            load_ct(writer, ct::MARK);
            masked(writer, !bits.mask(), 0);
            store(writer, "ct", ct::MARK, 4);
        }
        Action::Accept => verdict(writer, 1),
        Action::Return => verdict(writer, -5),
        Action::Drop => verdict(writer, 0),
        Action::CopyTo(neighbour, link) => {
            immediate(writer, REGISTER, &octets(neighbour));
            immediate(writer, SECOND, &link.to_ne_bytes());
            expression(writer, "dup", |data| {
                data.number(1, REGISTER);
                data.number(2, SECOND);
            });
        }
        Action::KeepSource(family) => {
            self::family(writer, family);
            let (offset, len) = End::Source.place(family);
            payload(writer, Base::Network, offset, len);
            expression(writer, "nat", |data| {
                data.number(1, 0); // source
                data.number(2, number_of_family(family).into());
                data.number(3, REGISTER);
                data.number(4, REGISTER);
            });
        }
        Action::Masquerade => expression(writer, "masq", |_| ()),
    }
}

fn expression(writer: &mut Writer, name: &str, data: impl FnOnce(&mut Writer)) {
    writer.nested(1, |element| {
        element.name(1, name);
        element.nested(2, data);
    });
}

fn load(writer: &mut Writer, name: &str, [to, key]: [u16; 2], value: u32) {
    expression(writer, name, |data| {
        data.number(key, value);
        data.number(to, REGISTER);
    });
}

fn load_meta(writer: &mut Writer, key: u32) {
    load(writer, "meta", [1, 2], key);
}

fn load_ct(writer: &mut Writer, key: u32) {
    load(writer, "ct", [1, 2], key);
}

fn load_socket(writer: &mut Writer, key: u32) {
    load(writer, "socket", [2, 1], key);
}

/// Writes the register to a key; `from` is the attribute that names the register.
fn store(writer: &mut Writer, name: &str, key: u32, from: u16) {
    expression(writer, name, |data| {
        data.number(2, key);
        data.number(from, REGISTER);
    });
}

fn data(writer: &mut Writer, kind: u16, value: &[u8]) {
    writer.nested(kind, |data| data.attribute(1, value));
}

fn immediate(writer: &mut Writer, register: u32, value: &[u8]) {
    expression(writer, "immediate", |immediate| {
        immediate.number(1, register);
        data(immediate, 2, value);
    });
}

fn compare(writer: &mut Writer, is: Is, value: &[u8]) {
    expression(writer, "cmp", |cmp| {
        cmp.number(1, REGISTER);
        cmp.number(2, is as u32);
        data(cmp, 3, value);
    });
}

/// Keeps these bits of the register's number and turns those over.
fn masked(writer: &mut Writer, keep: u32, flip: u32) {
    bitwise(writer, &keep.to_ne_bytes(), &flip.to_ne_bytes());
}

fn bitwise(writer: &mut Writer, keep: &[u8], flip: &[u8]) {
    expression(writer, "bitwise", |bitwise| {
        bitwise.number(1, REGISTER);
        bitwise.number(2, REGISTER);
        bitwise.number(3, u32::try_from(keep.len()).unwrap_or_default());
        data(bitwise, 4, keep);
        data(bitwise, 5, flip);
    });
}

fn bits_are(writer: &mut Writer, is: Is, bits: Bits) {
    masked(writer, bits.mask(), 0);
    compare(writer, is, &bits.value().to_ne_bytes());
}

fn state(writer: &mut Writer, bit: u32) {
    load_ct(writer, ct::STATE);
    masked(writer, bit, 0);
    compare(writer, Is::Different, &[0; 4]);
}

fn direction(writer: &mut Writer, direction: u8) {
    load_ct(writer, ct::DIRECTION);
    compare(writer, Is::Equal, &[direction]);
}

fn family(writer: &mut Writer, family: Family) {
    load_meta(writer, meta::FAMILY);
    compare(writer, Is::Equal, &[number_of_family(family)]);
}

fn link_is(writer: &mut Writer, key: u32, is: Is, link: &str) {
    let mut name = [0; LINK_NAME];
    for (to, from) in name[..LINK_NAME - 1].iter_mut().zip(link.bytes()) {
        *to = from;
    }
    load_meta(writer, key);
    compare(writer, is, &name);
}

fn ether_source(writer: &mut Writer, is: Is, mac: Mac) {
    load_meta(writer, meta::IN_TYPE);
    compare(writer, Is::Equal, &1_u16.to_ne_bytes()); // Ethernet
    payload(writer, Base::Link, 6, 6);
    compare(writer, is, &mac.0);
}

#[derive(Clone, Copy)]
enum Base {
    Link,
    Network,
    Transport,
}

fn payload(writer: &mut Writer, base: Base, offset: u32, len: u32) {
    expression(writer, "payload", |data| {
        data.number(1, REGISTER);
        data.number(2, base as u32);
        data.number(3, offset);
        data.number(4, len);
    });
}

#[derive(Clone, Copy)]
enum End {
    Source,
    Destination,
}

impl End {
    /// Where its address is in the header of IP, and how long it is.
    const fn place(self, family: Family) -> (u32, u32) {
        match (self, family) {
            (Self::Source, Family::V4) => (12, 4),
            (Self::Destination, Family::V4) => (16, 4),
            (Self::Source, Family::V6) => (8, 16),
            (Self::Destination, Family::V6) => (24, 16),
        }
    }
}

fn address(writer: &mut Writer, of: Option<Family>, end: End, is: Is, network: IpNet) {
    let version = Family::of(network.addr());
    let (offset, len) = end.place(version);
    // Where that is clear already, nft 1.0 could not list the rule.
    if of.is_none() {
        family(writer, version);
    }
    payload(writer, Base::Network, offset, len);
    let mask = octets(network.netmask());
    if network.prefix_len() < network.max_prefix_len() {
        bitwise(writer, &mask, &vec![0; mask.len()]);
    }
    compare(writer, is, &octets(network.network()));
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn verdict(writer: &mut Writer, code: i32) {
    expression(writer, "immediate", |immediate| {
        immediate.number(1, 0); // the register of verdicts
        immediate.nested(2, |data| {
            data.nested(2, |verdict| verdict.attribute(1, &code.to_be_bytes()));
        });
    });
}

const fn number_of(transport: Transport) -> u8 {
    match transport {
        Transport::Icmp => 1,
        Transport::Tcp => 6,
        Transport::Udp => 17,
        Transport::Icmpv6 => 58,
    }
}

const fn number_of_family(family: Family) -> u8 {
    match family {
        Family::V4 => 2,
        Family::V6 => 10,
    }
}
