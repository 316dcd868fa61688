//! The report in a browser that people use: it opens, and has nothing to complain of.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use podline_bench::report::html;
use podline_bench::result;
use podline_lab::Child;

#[path = "../../src/synthetic.rs"]
#[allow(dead_code, reason = "the crate's own tests use the rest")]
mod synthetic;

/// Names under which it is installed.
const BROWSERS: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "chrome"];

/// The page as the browser understood it, and all that it said. `None` where there is no browser.
fn open(folder: &Path, page: &str) -> Option<(String, String)> {
    let file = folder.join("report.html");
    fs::write(&file, page).unwrap();
    let (out, err) = (folder.join("out"), folder.join("err"));
    let start = |name: &&str| {
        let mut command = Command::new(name);
        command
            .args(["--headless", "--no-sandbox", "--disable-gpu"])
            .args(["--disable-dev-shm-usage", "--enable-logging=stderr"])
            .args(["--no-first-run", "--disable-background-networking"])
            .arg(format!(
                "--user-data-dir={}",
                folder.join("profile").display()
            ))
            .arg("--dump-dom")
            .arg(format!("file://{}", file.display()))
            .stdin(Stdio::null())
            .stdout(fs::File::create(&out).unwrap())
            .stderr(fs::File::create(&err).unwrap());
        Child::spawn(&mut command).ok()
    };
    let mut browser = BROWSERS.iter().find_map(start)?;
    let status = browser.wait(Duration::from_mins(1)).unwrap();
    assert!(status.is_some_and(|status| status.success()), "{status:?}");
    let read = |path| String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned();
    Some((read(&out), read(&err)))
}

#[test]
fn a_browser_has_nothing_to_complain_of() {
    let folder = tempfile::tempdir().unwrap();
    let world = synthetic::World {
        subjects: synthetic::ALL,
        tests: &["bulk", "rr", "rollout"],
        ..synthetic::World::headline(1)
    };
    let page = html(&world.run());
    let Some((shown, said)) = open(folder.path(), &page) else {
        println!("skipped: no browser of {BROWSERS:?} is installed");
        return;
    };
    assert!(
        shown.contains("How to read this"),
        "not whole: {shown:.500}"
    );
    assert_eq!(complaints(&said), Vec::<&str>::new());
    // And a complaint would have been seen.
    let bad = "<script>console.error('as it should')</script>";
    let (_, said) = open(folder.path(), bad).unwrap();
    assert_eq!(complaints(&said).len(), 1, "{said}");
}

/// What a page said on the console, policies that it broke included.
fn complaints(said: &str) -> Vec<&str> {
    said.lines()
        .filter(|line| line.contains("CONSOLE"))
        .collect()
}
