//! Both clocks, read at the edge.
//!
//! The wall clock given to the state machines never goes back while the agent runs: it is the system's time at the start plus
//! monotonic time, moved forward when the system's clock was set forward. Correcting event times of devices without a clock,
//! and steps back, belong to a later issue.

use driftline_shared::units::{MonoMs, Now, WallMs};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// A system clock this far ahead of ours was set.
const STEP_MS: u64 = 1_000;

/// The clocks of one agent.
#[derive(Debug)]
pub struct Clock {
    start: Instant,
    wall_at_start: u64,
}

impl Clock {
    /// Monotonic time begins now.
    pub fn start() -> Self {
        Self { start: Instant::now(), wall_at_start: system_ms() }
    }

    /// Both times.
    pub fn now(&mut self) -> Now {
        let mono = self.mono();
        let ours = self.wall_at_start.saturating_add(mono.0);
        let ahead = system_ms().saturating_sub(ours);
        if ahead > STEP_MS {
            self.wall_at_start = self.wall_at_start.saturating_add(ahead);
        }
        Now { mono, wall: WallMs(self.wall_at_start.saturating_add(mono.0)) }
    }

    /// When it is `at`, for timers.
    pub fn instant(&self, at: MonoMs) -> Instant {
        self.start + std::time::Duration::from_millis(at.0)
    }

    fn mono(&self) -> MonoMs {
        MonoMs(u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX))
    }
}

fn system_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
