//! What a meter says agrees with the kernel, also of children that have ended.

use std::process::{Command, Stdio};
use std::time::Duration;

use podline_bench::account::Meter;
use podline_lab::{Child, wait};
use rustix::process::Signal;

const LONG: Duration = Duration::from_secs(20);
/// A shell that counts.
const COUNT: &str = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done";
/// The kernel rounds ticks down, in each of two modes.
const ROUNDING: f64 = 0.021;

/// Starts a shell that does this once it is continued. Before and after it stops itself, so that its figures stand still.
fn start(script: &str) -> Child {
    let script = format!("kill -STOP $$; {script}; kill -STOP $$");
    let mut command = Command::new("sh");
    command.args(["-c", &script]).stdin(Stdio::null());
    let child = Child::spawn(&mut command).unwrap();
    wait_stopped(&child);
    child
}

/// The fields of a process's `stat` behind its name.
fn stat(pid: u32) -> Vec<String> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields = text.rsplit_once(')').unwrap().1.split_whitespace();
    fields.map(ToOwned::to_owned).collect()
}

fn wait_stopped(child: &Child) {
    wait::until(LONG, "it has done its work", || stat(child.id())[0] == "T");
}

/// Seconds in some fields, which count ticks.
fn seconds(child: &Child, fields: [usize; 2]) -> f64 {
    let stat = stat(child.id());
    let ticks = fields.map(|field| stat[field].parse::<u32>().unwrap());
    f64::from(ticks[0] + ticks[1]) / 100.0
}

#[test]
fn what_a_process_uses_is_what_the_kernel_counts() {
    let child = start(COUNT);
    let (meter, before) = (Meter::begin(&[child.id()]), seconds(&child, [11, 12]));
    child.signal(Signal::CONT).unwrap();
    wait_stopped(&child);
    let (cost, counted) = (meter.end(), seconds(&child, [11, 12]) - before);
    println!("{cost:?}, and the kernel says {counted}");
    let cpu = cost.proxy_cpu.unwrap();
    assert!((cpu - counted).abs() < 2.0 * ROUNDING, "{cpu} {counted}");
}

#[test]
fn what_ended_children_used_is_counted_once() {
    let child = start(&format!("({COUNT})"));
    let mut meter = Meter::begin(&[child.id()]);
    child.signal(Signal::CONT).unwrap();
    wait::until(LONG, "it has done its work", || {
        meter.look(); // while the child works, and after
        stat(child.id())[0] == "T"
    });
    let cpu = meter.end().proxy_cpu.unwrap();
    let (own, children) = (seconds(&child, [11, 12]), seconds(&child, [13, 14]));
    println!("{cpu}, and the kernel says {own} and {children} of its children");
    assert!(children > 0.0, "the child was to do the work");
    assert!(
        (cpu - own - children).abs() < 2.0 * ROUNDING,
        "{cpu} {own} {children}"
    );
}
