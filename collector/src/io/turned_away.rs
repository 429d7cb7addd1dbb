//! Clients that the broker does not let in: counted, and the first of a minute named in the log, so that one that comes again and again
//! fills no disk.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Clients named in the log per [`SPAN`].
const NAMED_MAX: u32 = 10;
const SPAN: Duration = Duration::from_secs(60);

/// The count, shared by all who turn clients away.
#[derive(Debug, Clone, Default)]
pub struct TurnedAway(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    count: AtomicU64,
    /// Since when clients are named, and how many were.
    named: Mutex<Option<(Instant, u32)>>,
}

impl TurnedAway {
    /// How many there were since the start.
    pub fn count(&self) -> u64 {
        self.0.count.load(Ordering::Relaxed)
    }

    /// One more; whether it is said.
    pub(super) fn add(&self, client: &dyn std::fmt::Display, why: &dyn std::fmt::Display) -> bool {
        self.0.count.fetch_add(1, Ordering::Relaxed);
        let said = self.named_before();
        match said {
            ..NAMED_MAX => tracing::warn!("{client} is turned away: {why}"),
            NAMED_MAX => tracing::warn!("more clients are turned away; for a minute they are counted, not named"),
            _ => {}
        }
        said < NAMED_MAX
    }

    /// How many were named in this span already.
    #[expect(clippy::disallowed_methods, reason = "a limit for the log, which nothing else depends on")]
    fn named_before(&self) -> u32 {
        let mut named = self.0.named.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let (_, many) = match &mut *named {
            Some(span) if now.duration_since(span.0) < SPAN => span,
            old => old.insert((now, 0)),
        };
        *many = many.saturating_add(1);
        *many - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_counted_and_the_first_are_named() {
        let turned_away = TurnedAway::default();
        let named = (0..1_000).filter(|_| turned_away.add(&"a client", &"it is unknown")).count();
        assert_eq!((named, turned_away.count()), (NAMED_MAX as usize, 1_000));
    }
}
