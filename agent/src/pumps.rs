//! The simulated pump of the demo: five sensors and the wear of a bearing, after the law in `tests/models/pumps.md`.
//!
//! Only the random numbers are simulated; the readings then take the way of every real one.

pub use driftline_shared::random::Random;

/// Columns of a reading.
pub const COLUMNS: [&str; 5] = ["temp_c", "vibration_rms", "current_a", "rpm", "humidity"];
/// Classes of wear, as the label says them.
pub const CLASSES: [&str; 3] = ["healthy", "worn", "faulty"];
/// Name of the label's column.
pub const LABEL: &str = "wear";

/// Correlation of successive samples.
const RHO: f64 = 0.3;
/// The wear stays for so many samples.
const WEAR_SAMPLES: u32 = 10;
/// A faulty temperature sensor reads so much too high.
const FAULT_C: f64 = 6.0;

/// One reading.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reading {
    /// In the order of [`COLUMNS`].
    pub values: [f32; COLUMNS.len()],
    /// Index into [`CLASSES`].
    pub class: usize,
}

/// One pump.
#[derive(Debug, Clone)]
pub struct Pump {
    random: Random,
    /// How this pump differs from the others, in standard deviations.
    offset: f64,
    load: f64,
    /// One AR(1) series per column.
    noise: [f64; COLUMNS.len()],
    wear: usize,
    wear_left: u32,
}

impl Pump {
    /// Same seed, same readings.
    pub fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let offset = random.normal();
        let load = random.normal();
        let noise = std::array::from_fn(|_| random.normal());
        Self { random, offset, load, noise, wear: 0, wear_left: 0 }
    }

    /// The next reading; `fault` is one of the temperature sensor, not of the pump.
    pub fn next(&mut self, fault: bool) -> Reading {
        let random = &mut self.random;
        if self.wear_left == 0 {
            self.wear_left = WEAR_SAMPLES;
            self.wear = match random.unit() {
                u if u < 0.7 => 0,
                u if u < 0.9 => 1,
                _ => 2,
            };
        }
        self.wear_left -= 1;
        let innovation = (1.0 - RHO * RHO).sqrt();
        for series in self.noise.iter_mut().chain([&mut self.load]) {
            *series = RHO * *series + innovation * random.normal();
        }
        let (load, [temp, vibration, current, rpm, humidity]) = (self.load, self.noise);
        let values = [
            61.0 + 1.6 * load
                + [0.0, 2.0, 5.0][self.wear]
                + 1.8 * temp
                + 0.1 * self.offset
                + if fault { FAULT_C } else { 0.0 },
            1.8 + 0.15 * load + [0.0, 0.5, 1.1][self.wear] + 0.4 * vibration,
            12.0 + 1.2 * load + 0.4 * current + 0.1 * self.offset,
            1480.0 - 6.0 * load + 4.0 * rpm,
            45.0 + 6.0 * humidity,
        ];
        Reading { values: values.map(|v| v as f32), class: self.wear }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Means and standard deviations of the law, worked out by hand: a mixture over wear plus independent normals.
    #[test]
    fn readings_follow_the_law() {
        let wear = |shift: [f64; 3]| {
            let p = [0.7, 0.2, 0.1];
            let mean: f64 = p.iter().zip(shift).map(|(p, s)| p * s).sum();
            (mean, p.iter().zip(shift).map(|(p, s)| p * (s - mean).powi(2)).sum::<f64>())
        };
        let (hot, hot_variance) = wear([0.0, 2.0, 5.0]);
        let (loud, loud_variance) = wear([0.0, 0.5, 1.1]);
        let want = [
            (61.0 + hot, 1.6f64.powi(2) + 1.8f64.powi(2) + 0.01 + hot_variance),
            (1.8 + loud, 0.15f64.powi(2) + 0.4f64.powi(2) + loud_variance),
            (12.0, 1.2f64.powi(2) + 0.4f64.powi(2) + 0.01),
            (1480.0, 36.0 + 16.0),
            (45.0, 36.0),
        ];
        let readings: Vec<Reading> = (0..200)
            .flat_map(|seed| {
                let mut p = Pump::new(seed);
                (0..1000).map(move |_| p.next(false))
            })
            .collect();
        for (column, (mean, variance)) in want.into_iter().enumerate() {
            let n = readings.len() as f64;
            let found = readings.iter().map(|r| f64::from(r.values[column])).sum::<f64>() / n;
            let spread = readings.iter().map(|r| (f64::from(r.values[column]) - found).powi(2)).sum::<f64>() / n;
            // Series of a correlation of 0.3 have (1 + 0.3) / (1 - 0.3) times the variance of a mean; wear lasts 10 samples.
            assert!(
                (found - mean).abs() < 5.0 * (variance * 10.0 / n).sqrt(),
                "{}: {found} for {mean}",
                COLUMNS[column]
            );
            assert!((spread / variance - 1.0).abs() < 0.05, "{}: {spread} for {variance}", COLUMNS[column]);
        }
    }

    #[test]
    fn the_fault_moves_the_temperature_alone() {
        let (mut sound, mut faulty) = (Pump::new(7), Pump::new(7));
        for _ in 0..100 {
            let (a, b) = (sound.next(false), faulty.next(true));
            assert!((b.values[0] - a.values[0] - 6.0).abs() < 1e-4);
            assert_eq!((&a.values[1..], a.class), (&b.values[1..], b.class));
        }
    }
}
