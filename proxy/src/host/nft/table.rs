//! One table of ours in the kernel.

use std::io;

use netlink_sys::protocols::NETLINK_NETFILTER;

use super::attribute::{find, number};
use super::encode::{self, OWNER, Old, PERSIST};
use super::ruleset::Ruleset;
use super::text::family_name;
use crate::host::netlink::{Netlink, Reply};
use crate::host::{Family, HeldByAnother, HostError};

/// What a message of nf_tables has before its attributes.
const HEADER: usize = 4;
const TABLE_FLAGS: u16 = 2;
const TABLE_USE: u16 = 3;
const TABLE_OWNER: u16 = 7;
const TABLE_COMMENT: u16 = 6;
const RULE_TABLE: u16 = 1;

/// A table of ours: what it should be, and what the kernel said of it when it was put there.
///
/// Dropping it leaves the table in place, without an owner.
#[derive(Debug)]
pub struct Table {
    netlink: Netlink,
    family: Option<Family>,
    name: String,
    is_shared: bool,
    /// As it was put, and as the kernel showed it right afterwards.
    put: Option<(Ruleset, Content)>,
}

/// How a table was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// As we put it.
    AsPut,
    /// Somebody changed it, or it was never put by this handle.
    Changed,
    /// It is not there.
    Missing,
}

/// What the kernel shows of a table: its messages but for what counts and ages.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Content(Vec<Vec<u8>>);

/// What is there under a name.
struct Present {
    flags: u32,
    owner: Option<u32>,
}

impl Table {
    /// A handle for the table `inet NAME`; nothing is changed yet.
    pub fn open(name: &str) -> Result<Self, HostError> {
        Self::of(None, name)
    }

    /// A handle for the table of this name that sees one IP version; none: both.
    pub fn of(family: Option<Family>, name: &str) -> Result<Self, HostError> {
        let netlink = Netlink::open(NETLINK_NETFILTER);
        Ok(Self {
            netlink: netlink.map_err(HostError::new("speak to nf_tables"))?,
            family,
            name: name.to_owned(),
            is_shared: false,
            put: None,
        })
    }

    /// Lets others change the table, as before Linux 6.9.
    #[must_use]
    pub fn shared(mut self) -> Self {
        self.is_shared = true;
        self
    }

    /// Puts the table there, in one transaction, in place of what is there under its name. It is ours alone where the
    /// kernel knows owners.
    ///
    /// # Errors
    /// Nothing is changed.
    pub fn put(&mut self, ruleset: &Ruleset) -> Result<(), HostError> {
        let what = format!("put the {self}");
        debug_assert_eq!(
            (ruleset.family, &ruleset.table),
            (self.family, &self.name),
            "one handle, one table"
        );
        let put = self.try_put(ruleset);
        put.map_err(HostError::new(what))
    }

    fn try_put(&mut self, ruleset: &Ruleset) -> io::Result<()> {
        let old = match self.present()? {
            Some(_) => Old::Replace,
            None => Old::None,
        };
        let flags = if self.is_shared { 0 } else { OWNER | PERSIST };
        if let Err(error) = self.netlink.exchange(&encode::replace(ruleset, old, flags)) {
            if flags == 0 || !is_unknown(&error) {
                return Err(self.held_by_another().unwrap_or(error));
            }
            // Before Linux 6.9. To own it without letting it persist would take it away when this process ends.
            self.netlink.exchange(&encode::replace(ruleset, old, 0))?;
        }
        let content = self.content(ruleset)?;
        self.put = content.map(|content| (ruleset.clone(), content));
        Ok(())
    }

    /// How the table is now, compared with how it was put.
    pub fn look(&mut self) -> Result<Seen, HostError> {
        let what = format!("look at the {self}");
        self.try_look().map_err(HostError::new(what))
    }

    fn try_look(&mut self) -> io::Result<Seen> {
        let Some((ruleset, then)) = self.put.clone() else {
            let present = self.present()?;
            return Ok(present.map_or(Seen::Missing, |_| Seen::Changed));
        };
        Ok(match self.content(&ruleset)? {
            Some(now) if now == then => Seen::AsPut,
            Some(_) => Seen::Changed,
            None => Seen::Missing,
        })
    }

    /// Whether others can neither change nor flush it.
    pub fn is_owned(&mut self) -> bool {
        let present = self.present().ok().flatten();
        present.is_some_and(|present| present.flags & OWNER != 0)
    }

    /// Takes the table away; false if there was none.
    pub fn remove(&mut self) -> Result<bool, HostError> {
        let what = format!("remove the {self}");
        self.put = None;
        self.try_remove().map_err(HostError::new(what))
    }

    fn try_remove(&mut self) -> io::Result<bool> {
        if self.present()?.is_none() {
            return Ok(false);
        }
        let request = encode::delete(self.family, &self.name);
        match self.netlink.exchange(&request) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(self.held_by_another().unwrap_or(error)),
        }
    }

    /// The words for a table that another process owns, if that is so.
    fn held_by_another(&mut self) -> Option<io::Error> {
        let owner = self.present().ok()??.owner?;
        Some(io::Error::new(
            io::ErrorKind::PermissionDenied,
            HeldByAnother(owner),
        ))
    }

    fn present(&mut self) -> io::Result<Option<Present>> {
        let Some(replies) = absent(
            self.netlink
                .exchange(&encode::get_table(self.family, &self.name)),
        )?
        else {
            return Ok(None);
        };
        Ok(replies.first().map(attributes).map(|attributes| Present {
            flags: number(attributes, TABLE_FLAGS).unwrap_or_default(),
            owner: number(attributes, TABLE_OWNER),
        }))
    }

    /// What the kernel shows of the table, its chains and all its rules. Absent if the table is.
    fn content(&mut self, ruleset: &Ruleset) -> io::Result<Option<Content>> {
        let table = encode::get_table(self.family, &self.name);
        let Some(table) = absent(self.netlink.exchange(&table))? else {
            return Ok(None);
        };
        let mut content = Vec::new();
        for reply in &table {
            let attributes = attributes(reply);
            for kind in [TABLE_FLAGS, TABLE_USE, TABLE_OWNER, TABLE_COMMENT] {
                content.push(find(attributes, kind).unwrap_or_default().to_vec());
            }
        }
        for chain in &ruleset.chains {
            let request = encode::get_chain(self.family, &self.name, &chain.name);
            let chain = absent(self.netlink.exchange(&request))?.unwrap_or_default();
            content.extend(chain.iter().map(|reply| attributes(reply).to_vec()));
        }
        let rules = self
            .netlink
            .exchange(&encode::get_rules(self.family, &self.name));
        let rules = absent(rules)?.unwrap_or_default();
        content.extend(rules.iter().filter_map(|reply| self.own(reply)));
        Ok(Some(Content(content)))
    }

    /// A rule's bytes, if it is one of this table: old kernels list all.
    fn own(&self, reply: &Reply) -> Option<Vec<u8>> {
        let attributes = attributes(reply);
        let is_own = find(attributes, RULE_TABLE)?.strip_suffix(&[0]) == Some(self.name.as_bytes());
        is_own.then(|| attributes.to_vec())
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "table {} {}", family_name(self.family), self.name)
    }
}

/// Without the header: it counts the changes of all tables.
fn attributes(reply: &Reply) -> &[u8] {
    reply.payload().get(HEADER..).unwrap_or_default()
}

fn absent(replies: io::Result<Vec<Reply>>) -> io::Result<Option<Vec<Reply>>> {
    match replies {
        Ok(replies) => Ok(Some(replies)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether the kernel does not know a flag, rather than refuse the change.
fn is_unknown(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidInput, Unsupported};
    matches!(error.kind(), InvalidInput | Unsupported)
}
