//! Both clocks, read at the edge.
//!
//! Monotonic time is the time since boot, which goes on while the device sleeps. The wall clock given to the state machines runs evenly: it
//! is the system's time at the start plus monotonic time, and follows the system's clock forward in small steps, as NTP makes them. A larger step means that the clock was
//! set; it is not followed, and never back: the collector knows how far this start's clock is from its own (decision 15).

use driftline_shared::units::{MonoMs, Now, WallMs};
use rustix::time::{ClockId, clock_gettime};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Ahead by more than this, the system's clock is followed.
const STEP_MS: u64 = 1_000;
/// Ahead by more than this, it was set.
const FOLLOW_MS_MAX: u64 = 120_000;

/// The clocks of one agent.
#[derive(Debug)]
pub struct Clock {
    start_ms: u64,
    wall_at_start: u64,
}

impl Clock {
    /// Monotonic time begins now.
    pub fn start() -> Self {
        Self { start_ms: boot_ms(), wall_at_start: system_ms() }
    }

    /// Both times.
    pub fn now(&mut self) -> Now {
        let mono = self.mono();
        self.wall_at_start = followed(self.wall_at_start, mono, system_ms());
        Now { mono, wall: WallMs(self.wall_at_start.saturating_add(mono.0)) }
    }

    /// When it is `at`, for timers.
    pub fn instant(&self, at: MonoMs) -> Instant {
        Instant::now() + Duration::from_millis(at.0.saturating_sub(self.mono().0))
    }

    fn mono(&self) -> MonoMs {
        MonoMs(boot_ms().saturating_sub(self.start_ms))
    }
}

/// Our time at the start, moved where the system's clock is a little ahead.
pub fn followed(wall_at_start: u64, mono: MonoMs, system: u64) -> u64 {
    let ahead = system.saturating_sub(wall_at_start.saturating_add(mono.0));
    if (STEP_MS..=FOLLOW_MS_MAX).contains(&ahead) { wall_at_start.saturating_add(ahead) } else { wall_at_start }
}

fn boot_ms() -> u64 {
    let time = clock_gettime(ClockId::Boottime);
    (time.tv_sec as u64).saturating_mul(1000).saturating_add(time.tv_nsec as u64 / 1_000_000)
}

fn system_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_steps_are_followed_and_a_clock_that_is_set_is_not() {
        let at = |system| followed(1_000_000, MonoMs(50_000), system);
        assert_eq!(at(1_050_000), 1_000_000);
        assert_eq!(at(1_052_000), 1_002_000, "NTP caught up");
        assert_eq!(at(1_000_000), 1_000_000, "never back");
        assert_eq!(at(1_795_000_000_000), 1_000_000, "from 1970 to now in one step");
        assert_eq!(followed(u64::MAX, MonoMs(5), 0), u64::MAX);
    }

    #[test]
    fn time_passes_evenly() {
        let mut clock = Clock::start();
        let first = clock.now();
        let later = clock.now();
        assert!(later.mono >= first.mono && later.wall >= first.wall);
        assert!(clock.instant(MonoMs(later.mono.0 + 60_000)) > Instant::now() + Duration::from_secs(50));
    }
}
