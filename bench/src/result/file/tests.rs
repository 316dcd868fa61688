//! Results on a disk: whole or not at all, and said clearly.

use std::error::Error;

use super::*;
use crate::synthetic::World;

fn refusal(text: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("r.json");
    fs::write(&path, text).unwrap();
    let message = read(&path).unwrap_err().to_string();
    message.replace(&path.display().to_string(), "FILE")
}

/// JSON's numbers may lose their last bit.
fn rounded(result: &RunResult) -> String {
    let short = |word: &str| {
        word.parse::<f64>()
            .map_or(word.to_owned(), |n| format!("{n:.9e}"))
    };
    let text = format!("{result:?}");
    let words: Vec<String> = text
        .split([' ', ',', '(', ')', '[', ']'])
        .map(short)
        .collect();
    words.join(" ")
}

#[test]
fn what_is_written_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("r.json");
    for seed in [1, 2] {
        let result = World::headline(seed).run();
        write(&result, &path).unwrap();
        assert!(rounded(&read(&path).unwrap()) == rounded(&result));
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    let plain = folder.path().join("plain");
    fs::write(&plain, "").unwrap();
    assert_eq!(mode, fs::metadata(&plain).unwrap().permissions().mode());
}

#[test]
fn a_failed_write_leaves_the_old_file_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("r.json");
    fs::write(&path, "old").unwrap();
    let full = |file: &mut File| {
        file.write_all(b"half")?;
        Err(io::Error::from(io::ErrorKind::StorageFull))
    };
    let error = replace(&path, folder.path(), full).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    assert_eq!(fs::read_to_string(&path).unwrap(), "old");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn a_full_disk_is_named() {
    let error = write(&World::headline(1).run(), Path::new("/dev/full")).unwrap_err();
    assert_eq!(error.to_string(), "cannot write /dev/full");
    let source = error.source().unwrap().to_string();
    assert!(source.contains("No space left"), "{source}");
}

#[test]
fn a_missing_folder_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("none/r.json");
    let error = write(&World::headline(1).run(), &path)
        .unwrap_err()
        .to_string();
    let missing = folder.path().join("none");
    let expected = format!("there is no folder {}", missing.display());
    assert!(error.ends_with(&expected), "{error}");
    let error = read(&path).unwrap_err();
    assert!(error.to_string().starts_with("cannot read "), "{error}");
}

#[test]
fn a_folder_is_not_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let result = World::headline(1).run();
    assert!(matches!(
        write(&result, folder.path()),
        Err(FileError::Write { .. })
    ));
    assert!(matches!(read(folder.path()), Err(FileError::Read { .. })));
    assert!(folder.path().is_dir());
}

#[test]
fn a_newer_format_is_refused_with_both_numbers() {
    let expected = "FILE has format 9, this release reads up to 1: use the release that wrote it";
    // Even where nothing else is as this release knows it.
    assert_eq!(refusal(r#"{"format": 9, "cells": "elsewhere"}"#), expected);
}

#[test]
fn what_is_malformed_is_named_with_its_place() {
    let check = |text: &str, parts: &[&str]| {
        let message = refusal(text);
        for part in parts {
            assert!(message.contains(part), "{message}: {part}");
        }
    };
    check("", &["FILE is no result", "at its top", "EOF"]);
    check("[]", &["at its top"]);
    check("{}", &["missing field `format`"]);
    check(r#"{"format": "one"}"#, &["format: invalid type"]);
    check(
        r#"{"format": 1, "cells": []}"#,
        &["missing field `scenario`"],
    );
    let cells = r#"{"format":1,"scenario":"s","cells":[{"test":"t","subject":"u","rounds":[{"begun":-1}]}]}"#;
    check(cells, &["cells[0].rounds[0].begun", "-1"]);
    check(
        r#"{"format":1,"scenario":"s","cells":[]} more"#,
        &["at its end"],
    );
    check(&"[".repeat(100_000), &["FILE is no result"]);
}

#[test]
fn fields_may_come_and_go() {
    let text = br#"{"format": 1, "later": {"a": [1]}, "scenario": "s",
        "cells": [{"test": "t", "subject": "pod", "rounds": [{"units": 2, "seconds": null, "new": 7}]}]}"#;
    let result = parse(text, Path::new("r.json")).unwrap();
    let round = &result.cells[0].rounds[0];
    assert_eq!(Some((round.units, round.seconds)), Some((2.0, 0.0)));
    assert_eq!(result.machine.cores, 0);
}

#[test]
fn what_is_not_a_number_does_not_lose_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("r.json");
    let mut result = World::headline(1).run();
    result.cells[0].rounds[0].units = f64::NAN;
    result.seconds = f64::INFINITY;
    write(&result, &path).unwrap();
    let read = read(&path).unwrap();
    let units = read.cells[0].rounds[0].units;
    assert_eq!(Some((units, read.seconds)), Some((0.0, 0.0)));
}
