//! A table as the messages of one transaction, and the questions about it. Pure.

use super::attribute::Writer;
use super::expression;
use super::ruleset::{Chain, Hook, Rule, Ruleset};
use crate::host::Family;
use crate::host::netlink::ACK;

/// The table belongs to the socket that made it: others can neither change nor flush it.
pub(super) const OWNER: u32 = 0x2;
/// It stays when its owner ends.
pub(super) const PERSIST: u32 = 0x4;

const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NEW_TABLE: u16 = 0;
const GET_TABLE: u16 = 1;
const DELETE_TABLE: u16 = 2;
const NEW_CHAIN: u16 = 3;
const GET_CHAIN: u16 = 4;
const NEW_RULE: u16 = 6;
const GET_RULE: u16 = 7;

const REQUEST: u16 = 0x1;
const CREATE: u16 = 0x400;
const APPEND: u16 = 0x800;
const DUMP: u16 = 0x300;

/// The kernel keeps 256 bytes about a rule, nft's own form takes three of them.
const COMMENT: usize = 120;

/// What is done with the table of this name that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Old {
    /// There is none.
    None,
    /// It goes in the same transaction.
    Replace,
}

/// Puts the table there, in place of the old one: packets meet either the old rules or the new ones.
pub(super) fn replace(ruleset: &Ruleset, old: Old, flags: u32) -> Vec<u8> {
    transaction(ruleset.family, |batch| {
        if old == Old::Replace {
            batch.add(DELETE_TABLE, 0, |body| body.name(1, &ruleset.table));
        }
        batch.add(NEW_TABLE, CREATE, |body| {
            body.name(1, &ruleset.table);
            body.number(2, flags);
            comment(body, 6, &ruleset.comment);
        });
        for chain in &ruleset.chains {
            batch.add(NEW_CHAIN, CREATE, |body| {
                self::chain(body, &ruleset.table, chain);
            });
        }
        for chain in &ruleset.chains {
            for rule in &chain.rules {
                batch.add(NEW_RULE, CREATE | APPEND, |body| {
                    self::rule(body, ruleset, chain, rule);
                });
            }
        }
    })
}

/// Takes the table away.
pub(super) fn delete(family: Option<Family>, table: &str) -> Vec<u8> {
    transaction(family, |batch| {
        batch.add(DELETE_TABLE, 0, |body| body.name(1, table));
    })
}

/// Asks for the table itself.
pub(super) fn get_table(family: Option<Family>, table: &str) -> Vec<u8> {
    question(family, GET_TABLE, 0, |body| body.name(1, table))
}

/// Asks for a chain of it.
pub(super) fn get_chain(family: Option<Family>, table: &str, chain: &str) -> Vec<u8> {
    question(family, GET_CHAIN, 0, |body| {
        body.name(1, table);
        body.name(3, chain);
    })
}

/// Asks for all rules of it.
pub(super) fn get_rules(family: Option<Family>, table: &str) -> Vec<u8> {
    question(family, GET_RULE, DUMP, |body| body.name(1, table))
}

fn question(
    family: Option<Family>,
    kind: u16,
    flags: u16,
    body: impl FnOnce(&mut Writer),
) -> Vec<u8> {
    let mut writer = Writer::default();
    writer.message(SUBSYSTEM << 8 | kind, REQUEST | flags, 1, |message| {
        header(message, number_of(family), 0);
        body(message);
    });
    writer.into_bytes()
}

#[derive(Default)]
struct Batch {
    family: Option<Family>,
    writer: Writer,
    sequence: u32,
}

impl Batch {
    fn add(&mut self, kind: u16, flags: u16, body: impl FnOnce(&mut Writer)) {
        self.sequence += 1;
        let (kind, flags) = (SUBSYSTEM << 8 | kind, REQUEST | ACK | flags);
        let family = number_of(self.family);
        self.writer.message(kind, flags, self.sequence, |message| {
            header(message, family, 0);
            body(message);
        });
    }

    fn frame(&mut self, kind: u16) {
        self.sequence += 1;
        self.writer
            .message(kind, REQUEST, self.sequence, |message| {
                header(message, 0, SUBSYSTEM);
            });
    }
}

fn transaction(family: Option<Family>, changes: impl FnOnce(&mut Batch)) -> Vec<u8> {
    let mut batch = Batch {
        family,
        ..Batch::default()
    };
    batch.frame(BATCH_BEGIN);
    changes(&mut batch);
    batch.frame(BATCH_END);
    batch.writer.into_bytes()
}

const fn number_of(family: Option<Family>) -> u8 {
    match family {
        None => 1, // inet
        Some(Family::V4) => 2,
        Some(Family::V6) => 10,
    }
}

fn header(writer: &mut Writer, family: u8, resource: u16) {
    writer.raw(&[family, 0]);
    writer.raw(&resource.to_be_bytes());
}

/// As nft keeps comments: type 0, length, text, zero.
fn comment(writer: &mut Writer, kind: u16, text: &str) {
    let mut end = text.len().min(COMMENT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let text = &text[..end];
    if text.is_empty() {
        return;
    }
    let len = u8::try_from(text.len() + 1).unwrap_or(u8::MAX); // cut above
    let value = [&[0, len][..], text.as_bytes(), &[0]].concat();
    writer.attribute(kind, &value);
}

fn chain(writer: &mut Writer, table: &str, chain: &Chain) {
    let (kind, hook) = match chain.hook {
        Hook::Prerouting => ("filter", 0),
        Hook::Output => ("route", 3),
        Hook::OutputFilter => ("filter", 3),
        Hook::Postrouting => ("filter", 4),
        Hook::PostroutingNat => ("nat", 4),
    };
    writer.name(1, table);
    writer.name(3, &chain.name);
    writer.nested(4, |place| {
        place.number(1, hook);
        place.attribute(2, &chain.priority.to_be_bytes());
    });
    writer.number(5, 1); // what no rule decides is accepted
    writer.name(7, kind);
}

fn rule(writer: &mut Writer, ruleset: &Ruleset, chain: &Chain, rule: &Rule) {
    writer.name(1, &ruleset.table);
    writer.name(2, &chain.name);
    writer.nested(4, |list| {
        expression::expressions(list, ruleset.family, rule);
    });
    comment(writer, 7, &rule.comment);
}
