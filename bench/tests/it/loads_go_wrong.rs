//! Loads against servers that lie, break off, refuse or say nothing: every one of these is told from the others, and nothing
//! hangs.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use podline_bench::load::{Failure, Outcome, Pace, Plan, Work};
use podline_bench::pod::{Options, Process};
use podline_bench::wire::{Answer, HEAD, Request};
use podline_lab::wait::until;
use podline_lab::{own_loopback, pattern};
use rustix::process::Signal;

use crate::support::{LOCAL, binary, check, local, plan, pod, run, target};

const FRAMES: Work = Work::RequestResponse {
    connections: 2,
    bytes: 10,
};
const HTTP: Work = Work::Http1 {
    connections: 2,
    bytes: 10,
    close: false,
};
const HTTP2: Work = Work::Http2 {
    connections: 1,
    streams: 2,
    bytes: 10,
};
const GRPC: Work = Work::Grpc {
    connections: 1,
    streams: 2,
};

/// A server of one thread for each connection; it lives as long as the test's process.
pub(crate) fn server(serve: impl Fn(TcpStream) + Clone + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind((LOCAL, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let serve = serve.clone();
            thread::spawn(move || serve(stream));
        }
    });
    address
}

fn short(work: Work, target: SocketAddr) -> Plan {
    Plan {
        duration: Duration::from_millis(150),
        ..plan(work, Pace::Open(100.0), target)
    }
}

fn impatient(work: Work, target: SocketAddr) -> Plan {
    Plan {
        patience: Duration::from_millis(500),
        ..short(work, target)
    }
}

/// Answers frames as `answer` says.
fn frames(answer: impl Fn(Request) -> Vec<u8> + Clone + Send + 'static) -> SocketAddr {
    server(move |mut stream| {
        let mut head = [0; HEAD];
        while stream.read_exact(&mut head).is_ok() {
            let request = Request::decode(&head).unwrap();
            if stream.write_all(&answer(request)).is_err() {
                return;
            }
        }
    })
}

fn right(request: Request) -> Vec<u8> {
    let answer = Answer {
        sequence: request.sequence,
        pod: 1,
        bytes: request.wanted,
        is_last: false,
    };
    [
        &answer.encode()[..],
        pattern::at(0, request.wanted as usize),
    ]
    .concat()
}

pub(crate) fn only(outcome: &Outcome, failure: Failure) {
    check(outcome);
    assert!(outcome.failures.contains_key(&failure), "{outcome:?}");
    assert_eq!(outcome.failures.len(), 1, "{:?}", outcome.failures);
    assert_eq!(outcome.answered, 0);
}

#[test]
fn wrong_frames_are_found() {
    let well = run(&short(FRAMES, frames(right)));
    check(&well);
    assert_eq!((well.begun, well.answered), (15, 15));
    let lies: [fn(Request) -> Vec<u8>; 4] = [
        |mut request| {
            request.sequence += 1;
            right(request)
        },
        |mut request| {
            request.wanted += 1;
            right(request)
        },
        |request| {
            let mut answer = right(request);
            answer[HEAD + 3] ^= 1;
            answer
        },
        |request| [right(request), vec![0]].concat(),
    ];
    for lie in lies {
        let outcome = run(&short(FRAMES, frames(lie)));
        only(&outcome, Failure::Wrong);
        assert_eq!(outcome.begun, 15);
    }
}

#[test]
fn wrong_http_answers_are_found() {
    let lies = [
        ("503 Service Unavailable", "x-sequence: {}", "0123456789"),
        ("200 OK", "x-sequence: 99999", "{}"),
        ("200 OK", "x-sequence: {}", "0123456789"),
    ];
    for (status, header, body) in lies {
        let address = server(move |mut stream| {
            let mut buffer = [0; 1000];
            while let Ok(count @ 1..) = stream.read(&mut buffer) {
                let head = String::from_utf8_lossy(&buffer[..count]).into_owned();
                let sequence = head.split(['?', ' ']).nth(2).unwrap_or("").to_owned();
                let header = header.replace("{}", &sequence);
                let head = format!(
                    "HTTP/1.1 {status}\r\nx-pod: 1\r\n{header}\r\ncontent-length: 10\r\n\r\n"
                );
                let body = if body == "{}" {
                    pattern::at(0, 10)
                } else {
                    body.as_bytes()
                };
                if stream.write_all(&[head.as_bytes(), body].concat()).is_err() {
                    return;
                }
            }
        });
        only(&run(&short(HTTP, address)), Failure::Wrong);
    }
}

#[test]
fn a_wrong_datagram_is_found_and_a_lost_one_is_late() {
    let socket = UdpSocket::bind((LOCAL, 0)).unwrap();
    let address = socket.local_addr().unwrap();
    thread::spawn(move || {
        let mut buffer = [0; 1000];
        while let Ok((count, from)) = socket.recv_from(&mut buffer) {
            let request = Request::decode(&buffer[..count]).unwrap();
            let mut answer = right(request);
            match request.sequence % 3 {
                0 => (),
                1 => answer[HEAD] ^= 1,
                _ => continue,
            }
            socket.send_to(&answer, from).ok();
        }
    });
    let work = Work::UdpFlows {
        flows: 100,
        bytes: 40,
    };
    let outcome = run(&impatient(work, address));
    check(&outcome);
    assert_eq!((outcome.begun, outcome.answered), (15, 5));
    let failures = [(Failure::Wrong, 5), (Failure::Late, 5)];
    assert_eq!(outcome.failures, failures.into_iter().rev().collect());
}

/// Each kind of work that waits for answers over TCP.
const STREAMS: [Work; 6] = [
    FRAMES,
    HTTP,
    HTTP2,
    GRPC,
    Work::Connections { concurrency: 2 },
    Work::Bulk {
        streams: 1,
        upload: false,
    },
];

#[test]
fn nobody_there_is_a_failed_connection() {
    let address = own_loopback();
    for work in STREAMS {
        only(&run(&short(work, address)), Failure::Connect);
    }
    let udp = Work::UdpFlows {
        flows: 2,
        bytes: 30,
    };
    only(&run(&short(udp, address)), Failure::Connect);
    let closed = Plan {
        pace: Pace::Closed,
        ..short(FRAMES, address)
    };
    let outcome = run(&closed);
    only(&outcome, Failure::Connect);
    assert!(outcome.begun < 200, "it rests between: {}", outcome.begun);
}

#[test]
fn no_answer_is_late_and_nothing_hangs() {
    let address = server(|mut stream| {
        let mut buffer = [0; 1000];
        while let Ok(1..) = stream.read(&mut buffer) {}
    });
    for work in STREAMS {
        let begun = Instant::now();
        let plan = impatient(work, address);
        only(&run(&plan), Failure::Late);
        let limit = plan.duration + plan.patience + Duration::from_secs(1);
        assert!(begun.elapsed() < limit + Duration::from_secs(5), "{work:?}");
    }
}

#[test]
fn an_early_end_is_told_from_a_reset() {
    for (is_reset, failure) in [(false, Failure::Ended), (true, Failure::Reset)] {
        let address = server(move |mut stream| {
            let mut buffer = [0; 10];
            if is_reset {
                stream.read_exact(&mut buffer).ok(); // the rest of the request is unread: closing resets
            } else {
                let mut buffer = [0; 1000];
                assert!(stream.read(&mut buffer).is_ok_and(|count| count > 0));
            }
        });
        for work in [FRAMES, HTTP, Work::Connections { concurrency: 2 }] {
            only(&run(&short(work, address)), failure);
        }
    }
}

#[test]
fn an_answer_that_breaks_off_is_none() {
    let address = server(|mut stream| {
        let mut head = [0; HEAD];
        if stream.read_exact(&mut head).is_ok() {
            let answer = right(Request::decode(&head).unwrap());
            stream.write_all(&answer[..answer.len() - 1]).ok();
        }
    });
    only(&run(&short(FRAMES, address)), Failure::Ended);
}

#[test]
fn an_idle_connection_that_is_lost_is_counted_once() {
    let address = server(|mut stream| {
        let mut head = [0; HEAD];
        let is_asked = stream.read_exact(&mut head).is_ok();
        let answer = right(Request::decode(&head).unwrap());
        assert!(is_asked && stream.write_all(&answer).is_ok());
    });
    let outcome = run(&short(Work::Idle { connections: 5 }, address));
    check(&outcome);
    assert_eq!((outcome.begun, outcome.answered), (10, 5));
    assert_eq!(outcome.failures, [(Failure::Ended, 5)].into());
}

#[test]
fn a_stall_shows_in_every_request_that_was_due_meanwhile() {
    const STALL: Duration = Duration::from_millis(300);
    let address = frames(|request| {
        if request.sequence == 20 {
            thread::park_timeout(STALL);
        }
        right(request)
    });
    // One connection, so that a stall holds up all that follow.
    let work = Work::RequestResponse {
        connections: 1,
        bytes: 0,
    };
    let plan = Plan {
        duration: Duration::from_millis(800),
        patience: Duration::from_secs(10),
        ..plan(work, Pace::Open(500.0), address)
    };
    let outcome = run(&plan);
    check(&outcome);
    assert_eq!((outcome.begun, outcome.failed()), (400, 0));
    let slow = outcome.latency.count_between(20_000_000, u64::MAX);
    assert!(slow > 100, "only {slow} of 400 saw the stall of 300 ms");
}

#[test]
fn what_waits_too_long_in_line_is_late() {
    let address = frames(|request| {
        thread::park_timeout(Duration::from_millis(50));
        right(request)
    });
    let work = Work::RequestResponse {
        connections: 1,
        bytes: 0,
    };
    let plan = Plan {
        patience: Duration::from_millis(200),
        ..plan(work, Pace::Open(1000.0), address)
    };
    let outcome = run(&plan);
    check(&outcome);
    assert_eq!(outcome.begun, 300);
    assert!(outcome.failures[&Failure::Late] > 250, "{outcome:?}");
}

#[test]
fn a_lost_connection_is_made_again() {
    for work in [
        Work::Http1 {
            connections: 2,
            bytes: 0,
            close: false,
        },
        Work::Http2 {
            connections: 2,
            streams: 2,
            bytes: 0,
        },
    ] {
        let mut first = pod(1);
        let mut options = first.options().clone();
        let plan = Plan {
            duration: Duration::from_secs(30),
            patience: Duration::from_secs(5),
            ..plan(work, Pace::Open(100.0), target(&first, work))
        };
        let load = podline_bench::load::spawn_here(&plan);
        until(Duration::from_secs(10), "the first Pod answers", || {
            first.stats().unwrap().requests > 10
        });
        drop(first);
        options.index = 2;
        let mut second = Process::start_here(binary(), &options).unwrap();
        // What is under way when a load stops does not count.
        until(Duration::from_secs(10), "the load comes back", || {
            second.stats().unwrap().requests > 20
        });
        load.stop();
        let outcome = load.finish().unwrap();
        check(&outcome);
        assert!(
            outcome.pods[&1] > 0 && outcome.pods[&2] >= 10,
            "{outcome:?}"
        );
    }
}

#[test]
fn a_pod_that_ends_in_order_breaks_no_request() {
    for work in [FRAMES, HTTP, HTTP2, GRPC] {
        let options = Options {
            end_after: 20_000,
            ..local(1)
        };
        let mut pod = Process::start_here(binary(), &options).unwrap();
        let plan = Plan {
            duration: Duration::from_secs(30),
            ..plan(work, Pace::Closed, target(&pod, work))
        };
        let load = podline_bench::load::spawn_here(&plan);
        until(Duration::from_secs(10), "it is asked", || {
            pod.stats().unwrap().requests > 50
        });
        pod.signal(Signal::TERM).unwrap();
        let ended = pod.ended(Duration::from_secs(10)).unwrap();
        assert!(ended.is_some_and(|status| status.success()), "{work:?}");
        load.stop();
        let outcome = load.finish().unwrap();
        check(&outcome);
        assert!(outcome.answered > 50);
        let broken = outcome.failed() - outcome.failures.get(&Failure::Connect).unwrap_or(&0);
        assert_eq!(broken, 0, "{work:?}: {:?}", outcome.failures);
    }
}
