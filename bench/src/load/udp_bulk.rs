//! Datagrams of one socket that nobody answers, as fast as it takes them or by a schedule. How many arrived, the Pod knows.

use std::io::{self, IoSlice};
use std::thread;
use std::time::{Duration, Instant};

use podline_lab::pattern;
use rustix::io::Errno;
use rustix::net::{MMsgHdr, SendAncillaryBuffer, SendFlags, sendmmsg};
use socket2::Socket;

use super::pace::{Schedule, nanoseconds};
use super::socket::{Transport, classify, connect};
use super::stop::Stop;
use super::tally::Tally;
use super::udp_flows::padding;
use super::{Failure, Outcome, Pace, Plan};
use crate::wire::{HEAD, NO_ANSWER, Request};

/// Datagrams of one system call.
const BATCH: usize = 64;
/// The longest wait for room in the socket, and the longest sleep: a stop is seen within it.
const TICK: Duration = Duration::from_millis(20);
/// Failures in a row, after which the next attempt waits.
const PATIENCE: u32 = 16;

pub(crate) fn run(plan: &Plan, bytes: u32, stop: &Stop) -> io::Result<Outcome> {
    let mut tally = Tally::default();
    let socket = match connect(plan.target, Transport::Udp) {
        Ok(socket) => socket,
        Err(error) => {
            tally.begin();
            tally.failed(0, classify(&error, true));
            return Ok(tally.finish(0));
        }
    };
    socket.set_nonblocking(false)?;
    socket.set_write_timeout(Some(TICK))?;
    let mut schedule = match plan.pace {
        Pace::Open(rate) => Some(Schedule::new(rate, plan.duration)),
        Pace::Closed => None,
    };
    let behind = pattern::at(0, usize::try_from(padding(bytes)).unwrap_or(0));
    let datagram = (HEAD + behind.len()) as u64;
    let start = Instant::now();
    let end = nanoseconds(plan.duration);
    let patience = nanoseconds(plan.patience);
    let mut sequence = 0;
    let mut failed = 0;
    let mut owed = 0; // due and not sent yet
    loop {
        let now = nanoseconds(start.elapsed());
        owed += due(schedule.as_mut(), now, BATCH - owed);
        if stop.is_stopped() || is_over(schedule.as_ref(), owed, now, end) {
            return Ok(tally.finish(now));
        }
        if let Some(schedule) = &mut schedule
            && now >= end + patience
        {
            tally.given_up(now, owed as u64 + schedule.give_up_all());
            return Ok(tally.finish(now));
        }
        if owed == 0 {
            rest(schedule.as_ref().and_then(Schedule::next_at), now);
            continue;
        }
        match send(&socket, sequence, owed, behind) {
            Ok(count) => {
                failed = 0;
                owed -= count;
                sequence += count as u64;
                tally.sent(now, count as u64, count as u64 * datagram);
            }
            Err(Errno::AGAIN | Errno::INTR) => (),
            Err(error) => {
                owed -= 1;
                tally.begin();
                tally.failed(now, failure(error));
                failed += 1;
                if failed > PATIENCE {
                    thread::park_timeout(TICK);
                }
            }
        }
    }
}

/// Whether all was sent: what a schedule has, or as much as went until the end.
fn is_over(schedule: Option<&Schedule>, owed: usize, now: u64, end: u64) -> bool {
    match schedule {
        Some(schedule) => owed == 0 && schedule.next_at().is_none(),
        None => now >= end,
    }
}

fn failure(error: Errno) -> Failure {
    let is_refused = error == Errno::CONNREFUSED;
    classify(&error.into(), is_refused)
}

/// How many more datagrams are to be sent now, at most so many.
fn due(schedule: Option<&mut Schedule>, now: u64, most: usize) -> usize {
    let Some(schedule) = schedule else {
        return most;
    };
    let is_due = |_: &usize| schedule.take(now).is_some();
    (0..most).take_while(is_due).count()
}

/// Sleeps until the next one is due.
fn rest(next: Option<u64>, now: u64) {
    let left = next.map_or(TICK, |next| Duration::from_nanos(next.saturating_sub(now)));
    thread::park_timeout(left.min(TICK));
}

fn send(socket: &Socket, first: u64, count: usize, behind: &[u8]) -> Result<usize, Errno> {
    let heads: Vec<_> = (first..)
        .take(count)
        .map(|sequence| {
            Request {
                sequence,
                wanted: NO_ANSWER,
                sent: u32::try_from(behind.len()).unwrap_or(0),
            }
            .encode()
        })
        .collect();
    let parts: Vec<_> = heads
        .iter()
        .map(|head| [IoSlice::new(head), IoSlice::new(behind)])
        .collect();
    let mut control: Vec<_> = parts
        .iter()
        .map(|_| SendAncillaryBuffer::default())
        .collect();
    let mut messages: Vec<_> = parts
        .iter()
        .zip(&mut control)
        .map(|(parts, control)| MMsgHdr::new(parts, control))
        .collect();
    sendmmsg(socket, &mut messages, SendFlags::empty())
}
