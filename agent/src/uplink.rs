//! What is said to the collector, and when: births, events, requests, then frames in order.
//!
//! The link may lose whatever it was given when it breaks, so everything said is said again after a reconnect: the birth, the last
//! slot event, the wish for the desired state and every frame without an acknowledgement; frames also when nothing was
//! acknowledged for a while. The connection itself, its backoff and its will belong to `io::mqtt`.

use crate::spool::{Acknowledged, Spool};
use bytes::Bytes;
use driftline_shared::units::{MonoMs, Seq, Stream};
use driftline_shared::wire::messages::{Event, Host, Request, Truth};
use std::collections::VecDeque;

/// Frames are sent again when nothing was acknowledged for so long.
pub const RESEND_MS: u64 = 10_000;
/// The disk gets so long to note that frames leave; delivery does not depend on it.
const DISK_MS: u64 = 10_000;
/// The desired state is asked for again after so long: an answer may have been lost.
pub const DESIRED_REFRESH_MS: u64 = 300_000;
/// Longest pause between frames that the collector can ask for.
pub const SLOW_DOWN_S_MAX: u32 = 600;
/// Events waiting to be sent; beyond that the oldest goes, the newest says where things stand.
pub const EVENTS_MAX: usize = 16;
/// Answers to truths waiting to be sent; beyond that the oldest goes, and the collector tells that batch again.
pub const ANSWERS_MAX: usize = 64;

/// State of the conversation.
#[derive(Debug)]
pub struct Uplink {
    up: bool,
    birth_due: bool,
    desired_at: MonoMs,
    clock_due: bool,
    host: Option<Host>,
    next_frame_at: MonoMs,
    /// When frames are sent again unless the collector acknowledges something.
    resend_at: Option<MonoMs>,
    /// When frames leave though the disk has not said that it knows.
    leave_at: Option<MonoMs>,
    events: VecDeque<Event>,
    last_event: Option<Event>,
    answers: VecDeque<Truth>,
}

/// The next thing to say.
#[derive(Debug, Clone, PartialEq)]
pub enum Say {
    /// Who this device is.
    Birth,
    /// What happened.
    Event(Event),
    /// What is wanted.
    Request(Request),
    /// What time it is here.
    Clock,
    /// A frame or gap.
    Frame(Bytes),
}

impl Default for Uplink {
    fn default() -> Self {
        Self {
            up: false,
            birth_due: false,
            desired_at: MonoMs(0),
            clock_due: false,
            host: None,
            next_frame_at: MonoMs(0),
            resend_at: None,
            leave_at: None,
            events: VecDeque::new(),
            last_event: None,
            answers: VecDeque::new(),
        }
    }
}

impl Uplink {
    /// Whether there is a connection.
    pub fn is_up(&self) -> bool {
        self.up
    }

    /// A connection is there.
    pub fn up(&mut self, now: MonoMs, spool: &mut Spool) {
        self.up = true;
        self.birth_due = true;
        self.desired_at = now;
        self.next_frame_at = now;
        self.resend_at = None;
        spool.rewind();
        if self.events.is_empty() {
            self.events.extend(self.last_event.clone());
        }
    }

    /// The connection is gone.
    pub fn down(&mut self) {
        self.up = false;
        self.resend_at = None;
    }

    /// The birth is to be said again: what it tells has changed.
    pub fn renew_birth(&mut self) {
        self.birth_due = self.up;
    }

    /// Says an event. `lasting` ones are said again after a reconnect until the next one.
    pub fn event(&mut self, event: Event, lasting: bool) {
        if lasting {
            self.last_event = Some(event.clone());
        }
        if self.events.len() >= EVENTS_MAX {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }

    /// Says what became of truths. Those that nobody waits for are summed up until they can be said.
    pub fn answer(&mut self, truth: Truth) {
        if let Some(waiting) = self.answers.iter_mut().find(|a| a.batch == 0 && truth.batch == 0) {
            waiting.counted = waiting.counted.saturating_add(truth.counted);
            waiting.repeated = waiting.repeated.saturating_add(truth.repeated);
            waiting.unknown = waiting.unknown.saturating_add(truth.unknown);
            waiting.refused = waiting.refused.saturating_add(truth.refused);
            return;
        }
        if self.answers.len() >= ANSWERS_MAX {
            self.answers.pop_front();
        }
        self.answers.push_back(truth);
    }

    /// The collector told of itself. A new epoch may have forgotten what was on its way.
    pub fn host(&mut self, now: MonoMs, host: Host, spool: &mut Spool) {
        let restarted = self.host.is_some_and(|before| before.epoch != host.epoch || (host.online && !before.online));
        self.host = Some(host);
        if restarted && host.online {
            spool.rewind();
            self.resend_at = None;
            self.desired_at = now;
        }
    }

    /// The collector acknowledged frames.
    pub fn acknowledge(&mut self, now: MonoMs, stream: Stream, through: Seq, spool: &mut Spool) -> Acknowledged {
        let outcome = spool.acknowledge(stream, through);
        if matches!(outcome, Acknowledged::Progress(_)) {
            self.resend_at = spool.in_flight().then(|| now.after(RESEND_MS));
        }
        outcome
    }

    /// Time has passed.
    pub fn tick(&mut self, now: MonoMs, spool: &mut Spool) {
        if self.resend_at.is_some_and(|at| now >= at) {
            self.resend_at = None;
            spool.rewind();
        }
        if !spool.waits_for_disk() {
            self.leave_at = None;
        } else if now >= *self.leave_at.get_or_insert(now.after(DISK_MS)) {
            self.leave_at = None;
            spool.leave_anyway();
        }
    }

    /// The next thing to say, without block requests: those are the slot's.
    pub fn next(&mut self, now: MonoMs, spool: &mut Spool) -> Option<Say> {
        if !self.up {
            return None;
        }
        if std::mem::take(&mut self.birth_due) {
            return Some(Say::Birth);
        }
        if let Some(event) = self.events.pop_front() {
            return Some(Say::Event(event));
        }
        if let Some(truth) = self.answers.pop_front() {
            return Some(Say::Event(Event::Truth(truth)));
        }
        if now >= self.desired_at {
            self.desired_at = now.after(DESIRED_REFRESH_MS);
            self.clock_due = true;
            return Some(Say::Request(Request::Desired));
        }
        // Before frames, which it dates.
        if std::mem::take(&mut self.clock_due) {
            return Some(Say::Clock);
        }
        if !self.may_send(now) {
            return None;
        }
        let frame = spool.next_to_send()?;
        self.resend_at.get_or_insert(now.after(RESEND_MS));
        self.next_frame_at = now.after(self.pause_ms());
        Some(Say::Frame(frame))
    }

    /// When [`Uplink::tick`] or [`Uplink::next`] has something to do by itself.
    pub fn poll_at(&self, spool: &Spool) -> Option<MonoMs> {
        if !self.up {
            return None;
        }
        let frame = (self.takes_frames() && spool.has_next()).then_some(self.next_frame_at);
        [frame, self.resend_at, self.leave_at, Some(self.desired_at)].into_iter().flatten().min()
    }

    /// Whether frames leave the device now.
    pub fn sends(&self) -> bool {
        self.up && self.takes_frames()
    }

    fn takes_frames(&self) -> bool {
        // A host that never spoke may be there all the same: its message is retained by the broker, not by us.
        self.host.is_none_or(|host| host.online)
    }

    fn may_send(&self, now: MonoMs) -> bool {
        self.takes_frames() && now >= self.next_frame_at
    }

    fn pause_ms(&self) -> u64 {
        self.host.map_or(0, |host| u64::from(host.slow_down_s.min(SLOW_DOWN_S_MAX)) * 1000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use driftline_shared::sketch::Grid;
    use driftline_shared::units::{ReleaseId, WallMs};
    use driftline_shared::window::Window;

    #[test]
    fn a_collector_that_is_behind_gets_fewer_frames() {
        let mut spool = Spool::new(Stream(9), Default::default());
        let mut uplink = Uplink::default();
        uplink.up(MonoMs(0), &mut spool);
        uplink.host(MonoMs(0), Host { epoch: 1, online: true, slow_down_s: 5 }, &mut spool);
        let mut frames = |uplink: &mut Uplink, second: u64| {
            spool.append(&Window::new(ReleaseId(1), WallMs(60_000), 60_000, std::iter::empty::<&Grid>()));
            let said = std::iter::from_fn(|| uplink.next(MonoMs(second * 1_000), &mut spool));
            said.filter(|say| matches!(say, Say::Frame(_))).count()
        };
        let sent: Vec<u64> = (0..20).filter(|second| frames(&mut uplink, *second) > 0).collect();
        assert_eq!(sent, [0, 5, 10, 15]);
        // Whatever a collector says, a device does not fall silent.
        let mut other = Spool::new(Stream(9), Default::default());
        uplink.host(MonoMs(20_000), Host { epoch: 1, online: true, slow_down_s: u32::MAX }, &mut other);
        let most = u64::from(SLOW_DOWN_S_MAX);
        assert_eq!([20, 20 + most - 1, 20 + most].map(|second| frames(&mut uplink, second)), [1, 0, 1]);
    }

    #[test]
    fn a_disk_that_hangs_delays_frames_and_stops_none() {
        let mut spool = Spool::new(Stream(9), Default::default());
        spool.durable(Vec::new(), None);
        spool.append(&Window::new(ReleaseId(1), WallMs(60_000), 60_000, std::iter::empty::<&Grid>()));
        // On its way to the disk before there is a link.
        spool.commit(false);
        let mut uplink = Uplink::default();
        uplink.up(MonoMs(0), &mut spool);
        let mut frames = |at: u64| {
            let said = std::iter::from_fn(|| uplink.next(MonoMs(at), &mut spool));
            let frames = said.filter(|say| matches!(say, Say::Frame(_))).count();
            uplink.tick(MonoMs(at), &mut spool);
            frames
        };
        assert_eq!((frames(0), frames(DISK_MS - 1), frames(DISK_MS)), (0, 0, 0));
        assert_eq!(frames(DISK_MS + 1), 1);
    }
}
