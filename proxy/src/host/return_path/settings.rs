//! What the node agent is told when it starts. Pure.

use std::time::Duration;

use clap::builder::BoolishValueParser;

use crate::host::Bits;
use crate::settings::bits;

/// The most ways back: one for each link that each proxy is seen on.
const MAX_SLOTS: u8 = 255;
/// The kernel's own tables end here.
const FIRST_TABLE: u32 = 256;

/// How the node agent runs.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub struct ReturnPathSettings {
    /// A proxy whose connections' replies go back through it: an address or a name; several times, or with commas
    ///
    /// A name stands for all of its addresses and is looked up again every --interval. A proxy with addresses of both IP
    /// versions needs both here for both to be served, unless its neighbour entries show the other one.
    #[arg(
        long = "proxy",
        env = "PODLINE_RETURN_PATH_PROXY",
        value_name = "ADDRESS|NAME",
        value_delimiter = ',',
        required_unless_present = "remove"
    )]
    pub proxies: Vec<String>,
    /// Mark of the first way back: each proxy, on each link that it is seen on, has its own, counted up from here
    #[arg(long, env = "PODLINE_RETURN_PATH_MARK", value_name = "M", default_value = "0x710", value_parser = bits)]
    pub mark: u32,
    /// Bits of packet and connection marks that are ours; the others are never changed
    #[arg(long, env = "PODLINE_RETURN_PATH_MASK", value_name = "M", default_value = "0xfff", value_parser = bits)]
    pub mask: u32,
    /// Routing table of the first way back; those of the others are counted up from here
    #[arg(
        long,
        env = "PODLINE_RETURN_PATH_TABLE",
        value_name = "BASE",
        default_value_t = 710
    )]
    pub table: u32,
    /// How often names are looked up and neighbours are asked again; what others change is mended within a second
    #[arg(long, env = "PODLINE_RETURN_PATH_INTERVAL", value_name = "TIME", default_value = "5s",
        value_parser = podline_api::duration::parse)]
    pub interval: Duration,
    /// Say what would be installed or removed, and change nothing
    #[arg(long, env = "PODLINE_RETURN_PATH_DRY_RUN", value_parser = BoolishValueParser::new())]
    pub dry_run: bool,
    /// Take away everything that was installed, and what proxies that are gone left here, instead of running
    #[arg(long, env = "PODLINE_RETURN_PATH_REMOVE", value_parser = BoolishValueParser::new())]
    pub remove: bool,
}

/// The marks and tables of the ways back, which are counted from 0: slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numbers {
    mark: u32,
    mask: u32,
    table: u32,
    slots: u8,
}

impl Numbers {
    /// Reads them from the settings.
    ///
    /// # Errors
    /// They leave no room; the words for the operator.
    pub fn of(settings: &ReturnPathSettings) -> Result<Self, String> {
        let mut numbers = Self {
            mark: settings.mark,
            mask: settings.mask,
            table: settings.table,
            slots: MAX_SLOTS,
        };
        if settings.table < FIRST_TABLE || settings.table > u32::MAX - u32::from(MAX_SLOTS) {
            return Err(format!(
                "--table {} is not free: use {FIRST_TABLE} or more",
                settings.table
            ));
        }
        let has_room = |slot: &u8| numbers.bits(*slot).is_some();
        let slots = (0..MAX_SLOTS).take_while(has_room).count();
        numbers.slots = u8::try_from(slots).unwrap_or(MAX_SLOTS);
        if slots == 0 || settings.mark & !settings.mask != 0 {
            return Err(format!(
                "--mark {:#x} leaves no room to count up within --mask {:#x}",
                settings.mark, settings.mask
            ));
        }
        Ok(numbers)
    }

    /// Slots that there are room for.
    pub fn slots(self) -> impl Iterator<Item = u8> {
        0..self.slots
    }

    fn bits(self, slot: u8) -> Option<Bits> {
        let step = self.mask & self.mask.wrapping_neg(); // the lowest bit of the mask
        let value = u32::from(slot).checked_mul(step)?.checked_add(self.mark)?;
        Bits::new(value, self.mask)
    }

    /// The mark of a slot that there is room for.
    pub fn mark(self, slot: u8) -> Bits {
        self.bits(slot).expect("slots() names only those that fit")
    }

    /// The routing table of a slot.
    pub fn table(self, slot: u8) -> u32 {
        self.table + u32::from(slot)
    }

    /// The slot of a routing table; absent if it is none of ours.
    pub fn slot_of_table(self, table: u32) -> Option<u8> {
        let slot = u8::try_from(table.checked_sub(self.table)?).ok()?;
        (0..self.slots).contains(&slot).then_some(slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        settings: ReturnPathSettings,
    }

    fn read(arguments: &[&str]) -> Result<ReturnPathSettings, String> {
        let line = [&["x"], arguments].concat();
        let line = Line::try_parse_from(line).map_err(|error| error.to_string())?;
        Ok(line.settings)
    }

    #[test]
    fn proxies_are_needed_unless_all_is_to_go() {
        assert!(read(&[]).unwrap_err().contains("--proxy"));
        assert!(read(&["--remove"]).unwrap().proxies.is_empty());
        let settings = read(&["--proxy", "a,b", "--proxy", "10.0.0.1"]).unwrap();
        assert_eq!(settings.proxies, ["a", "b", "10.0.0.1"]);
        assert_eq!((settings.mark, settings.mask), (0x710, 0xfff));
    }

    fn numbers(first: &str, mask: &str, table: &str) -> Result<Numbers, String> {
        let arguments = [
            "--remove", "--mark", first, "--mask", mask, "--table", table,
        ];
        Numbers::of(&read(&arguments)?)
    }

    #[test]
    fn slots_are_counted_up_within_the_mask() {
        let usual = numbers("0x710", "0xfff", "710").unwrap();
        assert_eq!(usual.slots().count(), 255);
        assert_eq!(usual.mark(1), Bits::new(0x711, 0xfff).unwrap());
        assert_eq!((usual.table(1), usual.slot_of_table(711)), (711, Some(1)));
        for other in [0, 709, 710 + 255, u32::MAX] {
            assert_eq!(usual.slot_of_table(other), None);
        }
        let high = numbers("0x10000", "0x70000", "1000").unwrap();
        assert_eq!(high.slots().count(), 7);
        assert_eq!(high.mark(6), Bits::new(0x70000, 0x70000).unwrap());
        let low = numbers("1", "0x3", "1000").unwrap();
        assert_eq!(low.slots().collect::<Vec<_>>(), [0, 1, 2]);
    }

    #[test]
    fn numbers_without_room_are_refused() {
        for (first, mask, table) in [
            ("0", "0xfff", "700"),
            ("0x1700", "0xfff", "700"),
            ("0", "0", "700"),
            ("0x700", "0xfff", "255"),
            ("0x700", "0xfff", "0xffffffff"),
            ("0x", "0xfff", "700"),
            ("1", "-1", "700"),
        ] {
            assert!(
                numbers(first, mask, table).is_err(),
                "{first} {mask} {table}"
            );
        }
    }
}
