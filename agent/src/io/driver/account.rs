//! What the inference thread says of itself: counters for the status and the watchdog, log lines, and the report at the end.

use super::Worker;
use crate::io::report::Report;
use crate::io::status::Evidence;
use std::sync::atomic::Ordering;

impl Worker {
    pub(super) fn count(&self) {
        let (ledger, counters) = (self.agent.ledger(), &self.hooks.counters);
        counters.samples.store(ledger.samples_taken, Ordering::Relaxed);
        counters.windows_closed.store(ledger.windows_closed, Ordering::Relaxed);
        counters.windows_acknowledged.store(ledger.windows_acknowledged, Ordering::Relaxed);
        counters.release.store(self.agent.active().map_or(0, |p| p.release.0), Ordering::Relaxed);
        counters.up.store(self.agent.is_up(), Ordering::Relaxed);
        counters.heartbeat.fetch_add(1, Ordering::Relaxed);
        counters.change(|snapshot| {
            if snapshot.ledger.samples_taken != ledger.samples_taken {
                snapshot.last_sample = Some(std::time::Instant::now());
            }
            snapshot.ledger = ledger;
            snapshot.messages_refused = self.agent.messages_refused();
            snapshot.clock_behind_ms = self.agent.clock_behind_ms();
            snapshot.windows_undated = self.agent.windows_undated();
            let [kept, given] = self.agent.evidence();
            if let leave @ 1.. = given - snapshot.evidence.given {
                tracing::info!("{leave} raw samples leave the device: the collector has asked for them");
            }
            snapshot.evidence = Evidence { kept, given };
        });
    }

    pub(super) fn log_release(&self, what: &str) {
        match self.agent.active() {
            Some(p) => tracing::info!("model {} release {} ({}) {what}", p.model, p.name, p.release),
            None => {
                tracing::warn!("no model answers: samples are counted as refused until the collector sends a release")
            }
        }
    }

    pub(super) fn report(&self) -> Report {
        let release = self.agent.active().map(|p| (p.model.clone(), p.name.clone(), p.release));
        Report { ledger: self.agent.ledger(), messages_refused: self.agent.messages_refused(), release }
    }

    /// Says that the end is no accident.
    pub(super) fn goodbye(&mut self) {
        if let Some(connection) = self.connection {
            let death = crate::agent::death(&self.config.fleet, &self.config.device, connection);
            let _ = self.publish.try_send(super::link_publish(death));
        }
    }
}
