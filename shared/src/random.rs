//! Seeded random numbers, for simulated readings, shuffling and evaluations. Not for secrets.
//!
//! SplitMix64 (Steele, Lea, Flood 2014): small, the same everywhere, good enough for all of these.

use libm::{cos, exp, log, sqrt};

/// A generator: same seed, same numbers.
#[derive(Debug, Clone)]
pub struct Random {
    state: u64,
}

impl Random {
    /// Same seed, same numbers.
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// A generator of its own for every (seed, part) pair.
    pub fn of(seed: u64, part: u64) -> Self {
        let mut mixed = Self::new(seed ^ Self::new(part).bits());
        Self::new(mixed.bits())
    }

    /// 64 random bits.
    #[inline]
    pub fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in [0, 1).
    #[inline]
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Standard normal (Box and Muller 1958).
    pub fn normal(&mut self) -> f64 {
        let radius = sqrt(-2.0 * log(1.0 - self.unit()));
        radius * cos(2.0 * core::f64::consts::PI * self.unit())
    }

    /// Exponential with mean 1.
    pub fn exponential(&mut self) -> f64 {
        -log(1.0 - self.unit())
    }

    /// Poisson with a small mean (Knuth 1969: products of uniforms).
    pub fn poisson(&mut self, mean: f64) -> u32 {
        let (limit, mut product, mut count) = (exp(-mean), self.unit(), 0);
        while product > limit && count < 10_000 {
            product *= self.unit();
            count += 1;
        }
        count
    }

    /// Puts items in random order (Fisher-Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, (self.unit() * (i + 1) as f64) as usize);
        }
    }
}
