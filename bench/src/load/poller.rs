//! Which sockets are ready, and the next due time: an epoll set with a timer finer than epoll's own milliseconds.
//! It must not know what the sockets are for.

use std::io;

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};

/// Events that are taken at once.
const BATCH: usize = 128;
/// The timer's token; sockets have smaller ones.
const TIMER: u64 = u64::MAX;
/// The longest wait: a stop is seen within it.
pub(crate) const TICK: u64 = 20_000_000;

/// Something happened to the socket with this token.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Event {
    /// As it was given.
    pub(crate) token: u64,
    flags: epoll::EventFlags,
}

impl Event {
    /// Bytes can be written, or a connection is made.
    pub(crate) fn is_writable(self) -> bool {
        self.flags.contains(epoll::EventFlags::OUT)
    }

    /// Bytes, an end or an error can be read.
    pub(crate) fn is_readable(self) -> bool {
        use epoll::EventFlags as F;
        self.flags.intersects(F::IN | F::RDHUP | F::HUP | F::ERR)
    }

    /// The other side has ended, or failed: a short read does not show that there is nothing more to read.
    pub(crate) fn is_ending(self) -> bool {
        use epoll::EventFlags as F;
        self.flags.intersects(F::RDHUP | F::HUP | F::ERR)
    }

    /// No connection is left, or none was made.
    pub(crate) fn is_error(self) -> bool {
        use epoll::EventFlags as F;
        self.flags.intersects(F::HUP | F::ERR)
    }
}

/// An epoll set.
pub(crate) struct Poller {
    epoll: OwnedFd,
    timer: OwnedFd,
    /// When the timer goes off, in the load's time.
    armed: Option<u64>,
    raw: Vec<epoll::Event>,
    events: Vec<Event>,
}

impl Poller {
    pub(crate) fn new() -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        let data = epoll::EventData::new_u64(TIMER);
        epoll::add(
            &epoll,
            &timer,
            data,
            epoll::EventFlags::IN | epoll::EventFlags::ET,
        )?;
        Ok(Self {
            epoll,
            timer,
            armed: None,
            raw: Vec::with_capacity(BATCH),
            events: Vec::with_capacity(BATCH),
        })
    }

    /// The load's time begins anew.
    pub(crate) fn forget_due(&mut self) {
        self.armed = None;
    }

    /// Tells as long as a socket can be read (and written, if `is_write_asked`).
    pub(crate) fn add_level(
        &self,
        socket: impl AsFd,
        token: u64,
        is_write_asked: bool,
    ) -> io::Result<()> {
        use epoll::EventFlags as F;
        let flags = if is_write_asked {
            F::IN | F::OUT
        } else {
            F::IN
        };
        let data = epoll::EventData::new_u64(token);
        Ok(epoll::add(&self.epoll, socket, data, flags)?)
    }

    /// Tells each change of a socket once. Closing the socket is all the removal it needs.
    pub(crate) fn add(&self, socket: impl AsFd, token: u64) -> io::Result<()> {
        use epoll::EventFlags as F;
        let flags = F::IN | F::OUT | F::RDHUP | F::ET;
        let data = epoll::EventData::new_u64(token);
        Ok(epoll::add(&self.epoll, socket, data, flags)?)
    }

    /// Waits for events, until `due` at the latest, and at most [`TICK`].
    pub(crate) fn wait(&mut self, now: u64, due: Option<u64>) -> io::Result<()> {
        self.events.clear();
        let left = due.map_or(TICK, |due| due.saturating_sub(now));
        if left < TICK && due != self.armed {
            self.arm(left.max(1))?;
            self.armed = due;
        }
        let timeout = Timespec {
            tv_sec: 0,
            tv_nsec: i64::try_from(TICK).unwrap_or(0),
        };
        let waited = epoll::wait(&self.epoll, spare_capacity(&mut self.raw), Some(&timeout));
        match waited {
            Ok(_) | Err(Errno::INTR) => (),
            Err(error) => return Err(error.into()),
        }
        let events = self.raw.drain(..).map(|event| Event {
            token: event.data.u64(),
            flags: event.flags,
        });
        self.events
            .extend(events.filter(|event| event.token != TIMER));
        Ok(())
    }

    /// The event with this index of those that came last.
    pub(crate) fn event(&self, index: usize) -> Option<Event> {
        self.events.get(index).copied()
    }

    fn arm(&self, nanoseconds: u64) -> io::Result<()> {
        let none = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let value = Timespec {
            tv_sec: 0,
            tv_nsec: i64::try_from(nanoseconds).unwrap_or(i64::MAX), // less than a tick
        };
        let spec = Itimerspec {
            it_interval: none,
            it_value: value,
        };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &spec)?;
        Ok(())
    }
}
