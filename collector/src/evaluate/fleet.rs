//! A month of a whole fleet in which nothing changes, at the budget that users set: every device, every site, the fleet.
//!
//! Windows are drawn as counts (multinomial, as independent readings give them) so that a month of 1,000 devices takes minutes.

use super::series::{Scenario, TOLERANCE};
use super::{FEATURES, Size, Table, WINDOW, in_parallel};
use crate::detect::budget::{Budget, simultaneous};
use crate::detect::designs::{Designs, Place};
use crate::detect::reference::{Layout, Views};
use crate::device::{Device, Devices};
use driftline_shared::drift::detector::{Detector, Taken, View};
use driftline_shared::drift::scores::{Family, Sums, Tally};
use driftline_shared::random::Random;
use driftline_shared::sketch::CELLS_MAX;
use driftline_shared::units::{Name, WallMs};
use statrs::distribution::{ContinuousCDF, Normal};

/// Windows of a minute in thirty days.
const MONTH: usize = 30 * 24 * 60;
const WINDOW_MS: u32 = 60_000;
/// Devices of a site.
const PER_SITE: usize = 50;

/// What a month brought.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Month {
    /// Windows judged, at every level.
    pub windows: u64,
    /// False alarms of devices.
    pub devices: u64,
    /// Of sites.
    pub sites: u64,
    /// Of the fleet.
    pub fleet: u64,
}

/// The fleet's devices, known by their site.
fn layout(fleet: usize) -> Layout {
    let name = |d: usize| Name::new(&format!("d-{d:05}")).expect("a name");
    let devices: Devices = (0..fleet)
        .map(|d| {
            let mut device = Device::new(WallMs(0));
            device.labels.insert("site".into(), format!("site-{:03}", d / PER_SITE));
            (name(d), device)
        })
        .collect();
    Layout::new((0..fleet).map(name), &devices, "site")
}

/// One feature of all devices, compared with each other as a panel compares them. Features are independent, so each is simulated by
/// itself at its share of the budget.
fn feature(size: Size, windows: usize, part: u64) -> Month {
    let mut random = Random::of(size.seed ^ 0xf1ee7, part);
    let scenario = Scenario::NULL[0];
    let (baseline, _) = scenario.baseline(&mut random, TOLERANCE);
    let cells = Cells::new(true_shares(&baseline.features[0].cells));
    let mut designs = Designs::default();
    let scores = designs.scores(&baseline, 0, WallMs(0));
    let families: Vec<Family> = scores.families().collect();
    let layout = layout(size.fleet);
    let budget = Budget::default();
    let threshold = |streams: usize| budget.threshold(streams * FEATURES, WINDOW_MS);
    let thresholds = (threshold(size.fleet), threshold(layout.cohorts.len()), threshold(1));
    let mut devices = vec![Detector::default(); size.fleet];
    let mut sites = vec![Detector::default(); layout.cohorts.len()];
    let mut fleet = Detector::default();
    let mut found = Month::default();
    for slot in 0..windows {
        let rows: Vec<Sums> = (0..size.fleet)
            .map(|_| {
                let counts = cells.draw(&mut random);
                scores.sums(Tally { counts: &counts[..cells.upto.len()], missing: 0, repeats: 0 })
            })
            .collect();
        let views = Views::new(&families, &layout, &rows);
        let place = |detector: &Detector, view: &View, devices: f64| {
            let n = view.iter().map(|compared| compared.n).fold(1.0, f64::max);
            Place { feature: 0, start: WallMs(0), n, devices, own: detector.own_readings() }
        };
        // Devices of one slot are judged together, as the panel does it.
        let taken: Vec<Taken> = devices
            .iter_mut()
            .zip(&views.devices)
            .map(|(detector, view)| {
                let place = place(detector, view, 1.0);
                detector.take(designs.design(&baseline, place), view, slot as u64)
            })
            .collect();
        let quiet = devices.iter().zip(&taken).filter(|(detector, _)| detector.latch().is_none());
        let limit = simultaneous(quiet.map(|(_, taken)| taken.evidence).collect(), thresholds.0);
        for ((detector, view), taken) in devices.iter_mut().zip(&views.devices).zip(&taken) {
            let place = place(detector, view, 1.0);
            let step = detector.judge(designs.design(&baseline, place), view, taken, limit);
            found.devices += u64::from(step.evidence >= limit);
        }
        let mut step = |detector: &mut Detector, view: &View, devices: f64, threshold: f64| {
            let place = place(detector, view, devices);
            let step = detector.step(designs.design(&baseline, place), view, slot as u64, threshold);
            u64::from(step.evidence >= threshold)
        };
        for ((detector, view), members) in sites.iter_mut().zip(&views.cohorts).zip(&layout.cohorts) {
            found.sites += step(detector, view, members.devices.len() as f64, thresholds.1);
        }
        found.fleet += step(&mut fleet, &views.fleet, size.fleet as f64, thresholds.2);
        found.windows += (size.fleet + layout.cohorts.len() + 1) as u64;
    }
    found
}

/// What standard normal readings really put in each cell.
fn true_shares(cells: &driftline_shared::sketch::Cells) -> Vec<f64> {
    use driftline_shared::sketch::Cells;
    let Cells::Edges(edges) = cells else { return vec![1.0] };
    let normal = Normal::standard();
    let below = |x: f64| normal.cdf(x);
    let mut last = 0.0;
    let mut shares = Vec::new();
    for edge in edges.iter().map(|&e| below(f64::from(e))).chain([1.0]) {
        shares.push(edge - last);
        last = edge;
    }
    shares
}

/// Cells with their shares, ready to be drawn from.
struct Cells {
    /// The share of a cell and all before it.
    upto: Vec<f64>,
    /// The first cell that a number in each 256th can fall in.
    guide: [u8; 256],
}

impl Cells {
    fn new(shares: Vec<f64>) -> Self {
        let mut sum = 0.0;
        let mut upto: Vec<f64> = shares
            .iter()
            .map(|share| {
                sum += share;
                sum
            })
            .collect();
        *upto.last_mut().expect("at least one cell") = 1.0;
        let guide = std::array::from_fn(|i| upto.partition_point(|&upto| upto <= i as f64 / 256.0) as u8);
        Self { upto, guide }
    }

    /// Counts of a window.
    fn draw(&self, random: &mut Random) -> [u32; CELLS_MAX] {
        let mut counts = [0u32; CELLS_MAX];
        let mut bits = 0u64;
        for i in 0..WINDOW {
            // Two readings from 64 bits.
            bits = if i % 2 == 0 { random.bits() } else { bits >> 32 };
            let low = bits as u32;
            let at = f64::from(low) / 4_294_967_296.0;
            let mut cell = usize::from(self.guide[(low >> 24) as usize]);
            while at >= self.upto[cell] {
                cell += 1;
            }
            counts[cell] += 1;
        }
        counts
    }
}

/// The table.
pub fn table(size: Size, done: &(dyn Fn() + Sync)) -> Table {
    // A small run is a day.
    let windows = if size.fleet >= 100 { MONTH } else { MONTH / 30 };
    let parts = in_parallel(FEATURES, |part| {
        let month = feature(size, windows, part as u64);
        done();
        month
    });
    let sum = parts.iter().fold(Month::default(), |sum, part| Month {
        windows: sum.windows + part.windows,
        devices: sum.devices + part.devices,
        sites: sum.sites + part.sites,
        fleet: sum.fleet + part.fleet,
    });
    // One is expected in a month; chance makes four of it in two of a hundred months.
    let alarms = sum.devices + sum.sites + sum.fleet;
    let missed = (alarms > 3).then(|| format!("the fleet: {alarms} false alarms, where one a month is asked for"));
    Table {
        title: "A month of a fleet in which nothing changes".into(),
        about: format!(
            "{} devices at {} sites, {FEATURES} readings, windows of a minute, {windows} windows each, a budget of one false alarm a month.",
            size.fleet,
            size.fleet.div_ceil(PER_SITE)
        ),
        columns: ["level", "windows judged", "false alarms"].map(str::to_owned).to_vec(),
        rows: vec![
            vec!["devices".into(), (size.fleet * FEATURES * windows).to_string(), sum.devices.to_string()],
            vec![
                "sites".into(),
                (size.fleet.div_ceil(PER_SITE) * FEATURES * windows).to_string(),
                sum.sites.to_string(),
            ],
            vec!["fleet".into(), (FEATURES * windows).to_string(), sum.fleet.to_string()],
            vec!["together".into(), sum.windows.to_string(), alarms.to_string()],
        ],
        missed: missed.into_iter().collect(),
    }
}
