//! What the collector tells the whole fleet of itself: that it is there, and how much time devices are to leave between frames.

use super::Collector;
use driftline_shared::units::MonoMs;
use driftline_shared::wire::Kind;
use driftline_shared::wire::messages::Host;
use driftline_shared::wire::topic::HostTopic;

/// Longest time between two frames of a device that is asked for, in seconds.
const SLOW_DOWN_S_MAX: u32 = 60;
/// Once the queue in front of the store has been more than half full for so long, devices are asked to slow down; after as long again, more.
const FULL_MS: u64 = 10_000;
/// Once it has been less than a tenth full for so long, they may go twice as fast.
const EMPTY_MS: u64 = 60_000;

/// How full the queue is, and since when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Load {
    Full,
    Between,
    Empty,
}

/// How much time devices are to leave between frames.
#[derive(Debug, Clone)]
pub(super) struct Pace {
    slow_down_s: u32,
    load: Load,
    since: MonoMs,
}

impl Default for Pace {
    fn default() -> Self {
        Self { slow_down_s: 0, load: Load::Empty, since: MonoMs(0) }
    }
}

impl Pace {
    /// The queue holds `waiting` of `most`; true when devices are to be told something else.
    fn seen(&mut self, now: MonoMs, waiting: usize, most: usize) -> bool {
        let load = match waiting {
            _ if waiting * 2 > most => Load::Full,
            _ if waiting * 10 < most => Load::Empty,
            _ => Load::Between,
        };
        if load != self.load {
            (self.load, self.since) = (load, now);
        }
        let lasted = now.0.saturating_sub(self.since.0);
        let next = match load {
            Load::Full if lasted >= FULL_MS => (self.slow_down_s * 2).clamp(1, SLOW_DOWN_S_MAX),
            Load::Empty if lasted >= EMPTY_MS => self.slow_down_s / 2,
            _ => return false,
        };
        self.since = now;
        std::mem::replace(&mut self.slow_down_s, next) != next
    }
}

impl Collector {
    /// The state in which the collector leaves: devices keep their windows until it is back.
    pub fn farewell(&mut self) {
        self.host(false);
    }

    pub(super) fn announce(&mut self) {
        self.host(true);
    }

    /// How many messages wait to be handled, of how many that can.
    pub fn backlog(&mut self, now: MonoMs, waiting: usize, most: usize) {
        if self.pace.seen(now, waiting, most) {
            self.announce();
        }
    }

    /// Seconds that devices are asked to leave between frames.
    pub fn slow_down_s(&self) -> u32 {
        self.pace.slow_down_s
    }

    fn host(&mut self, online: bool) {
        let host = Host { epoch: self.epoch, online, slow_down_s: self.pace.slow_down_s };
        let topic = HostTopic(&self.settings.fleet).to_string();
        self.publish(topic, Kind::Host, &host, 1, true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_that_stays_full_slows_the_fleet_down_and_an_empty_one_lets_it_go() {
        let mut pace = Pace::default();
        let mut told = Vec::new();
        for s in 0..400u64 {
            let waiting = if s < 100 { 900 } else { 10 };
            if pace.seen(MonoMs(s * 1_000), waiting, 1_000) {
                told.push((s, pace.slow_down_s));
            }
        }
        let wanted = [(10, 1), (20, 2), (30, 4), (40, 8), (50, 16), (60, 32), (70, 60)];
        let freed = [(160, 30), (220, 15), (280, 7), (340, 3)];
        assert_eq!(told, [&wanted[..], &freed[..]].concat());
    }

    #[test]
    fn a_burst_slows_nobody_down() {
        let mut pace = Pace::default();
        assert!((0..1_000).all(|s| !pace.seen(MonoMs(s * 1_000), if s % 10 < 5 { 1_000 } else { 0 }, 1_000)));
    }
}
