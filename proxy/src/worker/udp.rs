//! A worker's UDP listeners: how they come, are replaced and go, and when their sockets get a turn.

use super::Worker;
use super::connection::Source;
use super::mailbox::NewUdpListener;
use crate::l4::udp::{Around, Closing, Post, Udp};
use crate::lb::ListenerId;
use crate::lb::flow::sockets::SocketNumber;
use crate::lb::flow::{self, Door, Ended};
use crate::net::epoll::Readiness;
use crate::state::ports::ForceClose;
use rustix::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// A listener that is being removed begins flows for so long: what is queued is served, and so are those who come
/// while another listener takes the address over.
const GRACE_MS: u64 = 50;

impl Worker {
    /// Runs `work` with what the worker has of UDP, if it has any.
    fn with_udp<T>(&mut self, work: impl FnOnce(&mut Udp, &mut Around<'_>) -> T) -> Option<T> {
        let udp = self.udp.as_deref_mut()?;
        let mut around = Around {
            number: self.number,
            shared: &self.shared,
            table: &self.table,
            cursors: &mut self.cursors,
            epoll: &self.epoll,
            now_ms: self.now_ms,
        };
        Some(work(udp, &mut around))
    }

    pub(super) fn on_udp_listener(&mut self, place: u32) {
        let number = self.number;
        self.with_udp(|udp, around| udp.on_listener(number, place, around));
    }

    pub(super) fn on_flows(&mut self, socket: SocketNumber, readiness: Readiness) {
        self.with_udp(|udp, around| udp.on_flows(socket, readiness, around));
    }

    /// Sends what this turn of the loop has gathered.
    pub(super) fn finish_datagrams(&mut self) {
        self.with_udp(|udp, around| udp.flush(around));
    }

    /// Starts to forward a listener's datagrams; flows that are at its address become its.
    pub(super) fn listen_udp(&mut self, listener: NewUdpListener) {
        let NewUdpListener {
            counters,
            route,
            held,
        } = listener;
        let door = Door { route, counters };
        let keeps_ended = self.shared.access_log;
        let udp = self
            .udp
            .get_or_insert_with(|| Box::new(Udp::new(keeps_ended)));
        let at = |post: &Option<Post>| {
            post.as_ref()
                .is_some_and(|post| Arc::ptr_eq(&post.held, &held))
        };
        if let Some(place) = udp.posts.iter().position(at) {
            udp.flows.hand_over(number(place), &door);
            if let Some(post) = &mut udp.posts[place] {
                (post.door, post.closing) = (door, None);
            }
            return;
        }
        let place = udp.posts.iter().position(Option::is_none);
        let place = place.unwrap_or_else(|| {
            udp.posts.push(None);
            udp.posts.len() - 1
        });
        let token = Source::UdpListener(number(place)).token();
        if let Err(error) = self.epoll.add_source(&held.sockets[self.number], token) {
            tracing::error!(listener = %door.route.name, %error, "cannot watch the listener");
        }
        udp.posts[place] = Some(Post {
            held,
            door,
            closing: None,
        });
    }

    /// This worker's sockets of a UDP listener.
    pub(super) fn udp_sockets_of(&self, id: ListenerId) -> impl Iterator<Item = &OwnedFd> {
        let posts = self.udp.as_deref().into_iter();
        let posts = posts.flat_map(|udp| udp.posts.iter().flatten());
        let own = posts.filter(move |post| post.door.route.id == id);
        own.filter_map(|post| post.held.sockets.get(self.number))
    }

    /// Starts to remove a listener. Its flows live on.
    pub(super) fn unlisten_udp(&mut self, id: ListenerId) {
        let now_ms = self.now_ms;
        let Some(udp) = self.udp.as_deref_mut() else {
            return;
        };
        let begun = udp.flows.begun();
        for post in udp.posts.iter_mut().flatten() {
            if post.door.route.id == id && post.closing.is_none() {
                post.closing = Some(Closing {
                    since_ms: now_ms,
                    begun,
                    is_settled: false,
                });
            }
        }
        self.count_flows();
    }

    /// A removed listener may still begin flows.
    pub(super) fn is_udp_closing(&self) -> bool {
        let udp = self.udp.as_deref();
        udp.is_some_and(|udp| udp.closing().any(|closing| !closing.is_settled))
    }

    /// Whether time means something to flows, or there is something to tidy up after them.
    pub(super) fn has_flows(&self) -> bool {
        let told = self.shared.mailboxes[self.number].flows.load(Relaxed);
        let is_live = |udp: &Udp| {
            told > 0 || !udp.flows.is_empty() || udp.flows.has_emptied() || udp.is_closing()
        };
        self.udp.as_deref().is_some_and(is_live)
    }

    /// Settles removed listeners whose address nobody took over.
    pub(super) fn check_closing_udp(&mut self) {
        if !self.is_udp_closing() {
            return;
        }
        let now_ms = self.now_ms;
        self.with_udp(|udp, _| {
            for (place, post) in udp.posts.iter_mut().enumerate() {
                let closing = post.as_mut().and_then(|post| post.closing.as_mut());
                let Some(closing) = closing.filter(|c| !c.is_settled) else {
                    continue;
                };
                if now_ms >= closing.since_ms + GRACE_MS {
                    closing.is_settled = true;
                    udp.flows.end_since(number(place), closing.begun);
                }
            }
        });
    }

    /// Lets go of removed listeners' sockets that have no flows any more.
    fn close_posts(&mut self) {
        self.with_udp(|udp, around| {
            for place in 0..udp.posts.len() {
                let Some(post) = &udp.posts[place] else {
                    continue;
                };
                let is_settled = post.closing.is_some_and(|closing| closing.is_settled);
                if is_settled && udp.flows.at_place(number(place)) == 0 {
                    let _ = around.epoll.remove(&post.held.sockets[around.number]);
                    udp.posts[place] = None;
                }
            }
        });
    }

    /// Ends flows that have been silent, closes sockets that have none, and brings the counters up to date.
    pub(super) fn sweep_flows(&mut self) {
        self.with_udp(|udp, around| {
            udp.flush(around);
            udp.flows.on_tick(around.now_ms);
            udp.flows.report_all();
            udp.close_empty_sockets(around.shared);
        });
        self.close_posts();
        self.count_flows();
    }

    /// Ends the flows that `what` names.
    pub(super) fn end_flows(&mut self, what: &ForceClose) {
        self.with_udp(|udp, around| {
            udp.flush(around);
            udp.flows.force(|flow, backend| match what {
                ForceClose::Backend(named) => Arc::ptr_eq(backend, named),
                ForceClose::Listener(id) => flow::is_of(flow, *id),
                ForceClose::Everything => true,
            });
            udp.close_empty_sockets(around.shared);
        });
        self.count_flows();
    }

    /// Tells the others how many flows this worker has, and the log of those that ended.
    fn count_flows(&mut self) {
        let now_ms = self.now_ms;
        let Some(udp) = self.udp.as_deref_mut() else {
            return;
        };
        let is_closing = udp.is_closing();
        let flows = number(udp.flows.len());
        let live = if is_closing {
            number(udp.flows.live(now_ms))
        } else {
            flows
        };
        let mailbox = &self.shared.mailboxes[self.number];
        mailbox.flows.store(flows, Relaxed);
        mailbox.live_flows.store(live, Relaxed);
        for ended in udp.flows.take_ended() {
            log_access(&ended, now_ms);
        }
    }
}

fn log_access(Ended { flow, backend, why }: &Ended, now_ms: u64) {
    tracing::info!(
        target: "podline::access",
        listener = %flow.door.route.name,
        client = %flow.key.client,
        %backend,
        received = flow.received,
        sent = flow.sent,
        source = super::connection::source_name(flow.source),
        milliseconds = now_ms - flow.opened_ms,
        end = why,
    );
}

fn number(of: usize) -> u32 {
    u32::try_from(of).unwrap_or(u32::MAX)
}
