//! What flows have moved, on its way to the counters of listeners and backends: not with each datagram, but in turns.

use super::Flows;
use std::sync::atomic::Ordering::Relaxed;

impl Flows {
    /// A flow has something to report.
    pub(super) fn list(&mut self, id: u32) {
        if let Some(flow) = self.flow_mut(id)
            && !std::mem::replace(&mut flow.listed, true)
        {
            self.listed.push(id);
        }
    }

    /// Adds what moved since the last report to the listener's and the backend's counters.
    pub(super) fn report(&mut self, id: u32) {
        let Some((flow, seat)) = self.seated(id) else {
            return;
        };
        let up = flow.received - flow.reported.0;
        let down = flow.sent - flow.reported.1;
        flow.reported = (flow.received, flow.sent);
        let (datagrams_up, datagrams_down) = std::mem::take(&mut flow.unreported);
        let counters = &flow.door.counters;
        counters.received_bytes.fetch_add(up, Relaxed);
        counters.sent_bytes.fetch_add(down, Relaxed);
        counters
            .received_datagrams
            .fetch_add(u64::from(datagrams_up), Relaxed);
        counters
            .sent_datagrams
            .fetch_add(u64::from(datagrams_down), Relaxed);
        seat.runtime.sent_bytes.fetch_add(up, Relaxed);
        seat.runtime.received_bytes.fetch_add(down, Relaxed);
    }

    /// Brings all counters up to date.
    pub fn report_all(&mut self) {
        for id in std::mem::take(&mut self.listed) {
            if let Some(flow) = self.flow_mut(id) {
                flow.listed = false;
                self.report(id);
            }
        }
    }
}
