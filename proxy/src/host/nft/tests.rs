//! A table's two forms: the kernel's, byte for byte as `nft` sends it, and the one that `nft list` shows.

use super::encode::{self, OWNER, Old, PERSIST};
use super::ruleset::{Action, Chain, Hook, Match, Rule, Ruleset};
use crate::host::{Bits, Mac};

fn ruleset() -> Ruleset {
    let bits = Bits::new(0x701, 0xfff).unwrap();
    let matches = [
        Match::From("eth0".to_owned()),
        Match::EtherSource(Mac([2, 0, 0, 0, 0, 1])),
        Match::Original,
        Match::NotConnectionMark(bits),
    ];
    let rule = Rule::new(matches, [Action::SetConnectionMark(bits)]).comment("mark");
    let chain = Chain {
        name: "pre".to_owned(),
        hook: Hook::Prerouting,
        priority: Chain::MANGLE,
        rules: vec![rule],
    };
    Ruleset {
        family: None,
        table: "podline".to_owned(),
        comment: "ours".to_owned(),
        chains: vec![chain],
    }
}

#[test]
fn a_table_reads_as_nft_lists_it() {
    let expected = "table inet podline {
\tcomment \"ours\"

\tchain pre {
\t\ttype filter hook prerouting priority mangle; policy accept;
\t\tiifname \"eth0\" ether saddr 02:00:00:00:00:01 ct direction original ct mark & 0x00000fff != 0x00000701 ct mark set ct mark & 0xfffff701 | 0x00000701 comment \"mark\"
\t}
}
";
    assert_eq!(ruleset().to_string(), expected);
}

/// Messages of a transaction as their types, flags and attributes in hexadecimal.
fn messages(mut bytes: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let len = usize::try_from(u32::from_ne_bytes(bytes[..4].try_into().unwrap())).unwrap();
        let [kind, flags] = [4, 6].map(|at| u16::from_ne_bytes([bytes[at], bytes[at + 1]]));
        let digits = bytes[20..len].iter().map(|byte| format!("{byte:02x}"));
        let hex = digits.collect::<Vec<_>>().concat();
        found.push(format!("{kind:x} {flags:x} {hex}"));
        bytes = &bytes[len..];
    }
    found
}

#[cfg(target_endian = "little")]
#[test]
fn a_table_becomes_one_transaction() {
    let bytes = encode::replace(&ruleset(), Old::Replace, OWNER | PERSIST);
    let found = messages(&bytes);
    assert_eq!(found, GOLDEN);
    let deleted = messages(&encode::delete(None, "podline"));
    assert_eq!(deleted, [GOLDEN[0], GOLDEN[1], GOLDEN[5]]);
}

/// Seen to be read back by nft 1.0.6 as the text above.
#[rustfmt::skip]
const GOLDEN: [&str; 6] = [
    "10 1 ",
    "a02 5 0c000100706f646c696e6500",
    "a00 405 0c000100706f646c696e650008000200000000060b00060000056f7572730000",
    concat!("a03 405 ",
        "0c000100706f646c696e6500080003007072650014000480080001000000000008000200ffffff6a0800050000000001",
        "0b00070066696c7465720000",
    ),
    concat!("a06 c05 ",
        "0c000100706f646c696e6500",
        "0800020070726500",
        "74020480",
        "24000180090001006d657461000000001400028008000200000000060800010000000001", // meta
        "3800018008000100636d70002c00028008000100000000010800020000000000180003801400010065746830000000000000000000000000", // cmp
        "24000180090001006d657461000000001400028008000200000000080800010000000001", // meta
        "2c00018008000100636d700020000280080001000000000108000200000000000c0003800600010001000000", // cmp
        "340001800c0001007061796c6f616400240002800800010000000001080002000000000008000300000000060800040000000006", // payload
        "3000018008000100636d70002400028008000100000000010800020000000000100003800a0001000200000000010000", // cmp
        "2000018007000100637400001400028008000200000000010800010000000001", // ct
        "2c00018008000100636d700020000280080001000000000108000200000000000c0003800500010000000000", // cmp
        "2000018007000100637400001400028008000200000000030800010000000001", // ct
        "440001800c0001006269747769736500340002800800010000000001080002000000000108000300000000040c00048008000100ff0f00000c0005800800010000000000", // bitwise
        "2c00018008000100636d700020000280080001000000000108000200000000010c0003800800010001070000", // cmp
        "2000018007000100637400001400028008000200000000030800010000000001", // ct
        "440001800c0001006269747769736500340002800800010000000001080002000000000108000300000000040c0004800800010000f0ffff0c0005800800010001070000", // bitwise
        "2000018007000100637400001400028008000200000000030800040000000001", // ct
        "0b00070000056d61726b0000",
    ),
    "11 1 ",
];

#[test]
fn long_comments_are_cut_where_a_letter_ends() {
    let mut ruleset = ruleset();
    for text in [
        "ä".repeat(300),
        "a".repeat(300),
        format!("a{}", "ä".repeat(300)),
    ] {
        ruleset.comment = text.clone();
        ruleset.chains[0].rules[0].comment = text;
        encode::replace(&ruleset, Old::None, 0);
    }
}
