//! A connection that becomes another protocol's: from here on it is forwarded byte by byte, as TCP is.

use super::conversation::{Conversation, Stage};
use crate::l4::connection::Forwarding;
use crate::worker::Worker;
use crate::worker::connection::{ATTEMPTS, Phase, Source};
use crate::worker::slab::Key;

impl Worker {
    /// Both sides have agreed to switch.
    pub(super) fn switch_protocol(&mut self, key: Key, mut talk: Conversation) {
        let upstream = match &mut talk.stage {
            Stage::Exchange(exchange) => exchange.upstream.take(),
            _ => None,
        };
        let upstream = upstream.and_then(|upstream| self.http.pool.remove(upstream));
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let Some(upstream) = upstream else {
            talk.client.reset_on_close();
            return self.close(key, "backend left");
        };
        super::tally::count(
            connection,
            talk.exchange().map(|it| &*it),
            None,
            self.now_ms,
        );
        if self.shared.access_log {
            super::tally::log(
                connection,
                talk.exchange().map(|it| &*it),
                None,
                self.now_ms,
            );
        }
        connection.report_moved(talk.moved);
        connection.count_anew();
        connection.attempt = (connection.attempt + 1) % ATTEMPTS;
        let token = Source::Backend(key, connection.attempt).token();
        let is_watched = self.epoll.rename(&upstream.socket, token).is_ok();
        let mut to_backend = match talk.stage {
            Stage::Exchange(exchange) => exchange.request[exchange.sent..].to_vec(),
            _ => Vec::new(),
        };
        to_backend.extend_from_slice(&talk.ahead);
        let to_client = talk.owed.into_rest();
        connection.phase = Phase::Forwarding(Forwarding::resumed(
            talk.client,
            upstream.socket,
            to_backend,
            to_client,
        ));
        if is_watched {
            self.advance(key);
        } else {
            self.cut(key, "epoll is full");
        }
    }
}
