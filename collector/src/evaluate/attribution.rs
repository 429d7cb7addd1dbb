//! Whether the right device, site or fleet is named: whole collectors, from the frames that devices send to the incident.
//!
//! Five sites of twenty devices; every device has its own level, its own AR(.5) noise and the same daily wave. After
//! [`BEFORE`] windows something happens to one device, to a site, to a firmware version, or to everybody.

use super::series::{Law, OFFSET_SD, Series, release_of};
use super::{Size, Table, WINDOW, in_parallel};
use crate::baseline::{Options, build};
use crate::collector::{Collector, Settings};
use crate::incident::{Incident, Scope};
use crate::record::Stored;
use crate::release::Release;
use driftline_shared::baseline::TOLERANCE_DEFAULT;
use driftline_shared::embedding::{self, Embedding, Frequencies};
use driftline_shared::list::Text;
use driftline_shared::manifest::Task;
use driftline_shared::random::Random;
use driftline_shared::sketch::Grid;
use driftline_shared::units::{Generation, MonoMs, Name, Now, ReleaseId, Seq, Stream, WallMs};
use driftline_shared::window::Window;
use driftline_shared::wire::messages::{Birth, Ledger};
use driftline_shared::wire::topic::{DeviceTopic, Leaf};
use driftline_shared::wire::{self, FRAME_BYTES_MAX, Kind, pack};
use std::collections::{BTreeMap, BTreeSet};

const SITES: usize = 5;
const PER_SITE: usize = 20;
const DEVICES: usize = SITES * PER_SITE;
/// Readings of a device; something happens to the first.
const READINGS: usize = 4;
/// Windows of an hour before the change, and in all.
const BEFORE: usize = 200;
const WINDOWS: usize = 480;
const WINDOW_MS: u64 = 3_600_000;
/// The training table: so many devices for four days.
const TRAINING: (usize, usize) = (10, 4 * 24 * WINDOW);
/// Wrong groups that the table names.
const NAMED_MAX: usize = 3;
/// A Monday, so that hours and days begin together.
const EPOCH_MS: u64 = 1_795_392_000_000;

/// What happens.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Case {
    /// Nothing.
    Nothing,
    /// One device moves by so many sd.
    Device(f64),
    /// So many devices of one site move.
    Some(usize, f64),
    /// A site moves.
    Site(f64),
    /// A firmware version, spread over all sites, moves.
    Firmware(f64),
    /// Everybody moves.
    Fleet(f64),
}

impl Case {
    /// The cases of the table.
    pub const ALL: [Self; 7] = [
        Self::Nothing,
        Self::Device(0.5),
        Self::Device(1.0),
        Self::Some(6, 0.5),
        Self::Site(0.35),
        Self::Firmware(0.35),
        Self::Fleet(0.35),
    ];

    fn name(self) -> String {
        match self {
            Self::Nothing => "nothing".into(),
            Self::Device(by) => format!("1 of 100 devices, {by} sd"),
            Self::Some(n, by) => format!("{n} of 20 devices of a site, {by} sd"),
            Self::Site(by) => format!("1 of 5 sites, {by} sd"),
            Self::Firmware(by) => format!("a firmware on every third device, {by} sd"),
            Self::Fleet(by) => format!("the fleet, {by} sd"),
        }
    }

    fn shift(self, device: usize) -> f64 {
        let (hit, by) = match self {
            Self::Nothing => (false, 0.0),
            Self::Device(by) => (device == 0, by),
            Self::Some(n, by) => (device < n, by),
            Self::Site(by) => (device < PER_SITE, by),
            Self::Firmware(by) => (has_new_firmware(device), by),
            Self::Fleet(by) => (true, by),
        };
        if hit { by } else { 0.0 }
    }

    fn sick(self) -> BTreeSet<Name> {
        (0..DEVICES).filter(|&d| self.shift(d) > 0.0).map(name).collect()
    }

    /// Whether a scope says exactly what happened.
    fn is(self, scope: &Scope) -> bool {
        match (self, scope) {
            // At least half of the sick and nobody else.
            (Self::Device(_) | Self::Some(..), Scope::Devices(named)) => {
                let (named, sick) = (named.iter().cloned().collect::<BTreeSet<_>>(), self.sick());
                named.is_subset(&sick) && 2 * named.len() >= sick.len()
            }
            (Self::Site(_), Scope::Cohorts { label, values }) => label == "site" && *values == ["site-0"],
            (Self::Firmware(_), Scope::Cohorts { label, values }) => label == "firmware" && *values == ["2.0"],
            (Self::Fleet(_), Scope::Fleet) => true,
            _ => false,
        }
    }
}

fn has_new_firmware(device: usize) -> bool {
    device.is_multiple_of(3)
}

fn name(device: usize) -> Name {
    Name::new(&format!("d-{device:03}")).expect("a name")
}

/// What one run ended with.
#[derive(Debug, Clone, Default)]
struct Outcome {
    /// An incident says exactly what happened.
    right: bool,
    /// Sick devices of the incidents that are right, named by themselves or by their group.
    named: usize,
    sick: usize,
    /// Healthy devices named.
    wrong_devices: usize,
    /// Incidents of a group that is not sick, or is more than what is.
    wrong_groups: Vec<String>,
    incidents: usize,
    /// Windows from the change to the first incident.
    delay: Option<u64>,
}

/// The fleet's one release: a baseline of its own training table.
fn release(random: &mut Random) -> Release {
    let (devices, rows) = TRAINING;
    let (mut inputs, mut times, mut ids) = (Vec::new(), Vec::new(), Vec::new());
    for device in 0..devices {
        let mut readings = device_readings(random);
        for minute in 0..rows {
            inputs
                .push(readings.iter_mut().map(|(noise, season)| (noise.reading() + season.reading()) as f32).collect());
            times.push(EPOCH_MS + minute as u64 * 60_000);
            ids.push(device as u32);
        }
    }
    let names: Vec<String> = (0..READINGS).map(|i| format!("r{i}")).collect();
    let task = Task::Regression(0);
    let table = crate::baseline::Table {
        names: &names,
        units: &[],
        inputs: &inputs,
        outputs: &[],
        task: &task,
        times: &times,
        devices: &ids,
        categorical: &[],
    };
    let options = Options { window_samples: WINDOW as u32, independent_rows: false, tolerance: TOLERANCE_DEFAULT };
    let built = build(&table, options).expect("a sound table");
    release_of(built.baseline, WINDOW_MS as u32)
}

/// AR(.5) noise around the device's own level, and the wave that all share.
fn device_readings(random: &mut Random) -> Vec<(Series, Wave)> {
    (0..READINGS)
        .map(|_| (Series::new(Law::Ar(0.5), random.bits(), OFFSET_SD * random.normal()), Wave::default()))
        .collect()
}

/// One wave a day of amplitude 1.
#[derive(Debug, Clone, Default)]
struct Wave {
    minute: u64,
}

impl Wave {
    fn reading(&mut self) -> f64 {
        let phase = self.minute as f64 / (24.0 * WINDOW as f64);
        self.minute += 1;
        (std::f64::consts::TAU * phase).sin()
    }
}

struct Fleet {
    collector: Collector,
    fleet: Name,
    buffer: Vec<u8>,
}

impl Fleet {
    fn new(release: Release) -> Self {
        let fleet = Name::new("fleet").expect("a name");
        let stored = Stored { releases: vec![release], ..Stored::default() };
        let mut this = Self {
            collector: Collector::new(Settings::new(fleet.clone()), stored),
            fleet,
            buffer: vec![0; FRAME_BYTES_MAX],
        };
        for device in 0..DEVICES {
            let label = |key: &str, value: String| (Name::new(key).expect("a name"), Text::cut(&value));
            let firmware = if has_new_firmware(device) { "2.0" } else { "1.9" };
            let labels = [label("site", format!("site-{}", device / PER_SITE)), label("firmware", firmware.into())];
            let birth = Birth {
                agent_version: Text::cut("1"),
                stream: Stream(device as u64),
                connection: 1,
                release: Some(ReleaseId(1)),
                generation: Generation(0),
                labels: labels.into_iter().collect(),
                ledger: Ledger::default(),
            };
            let len = wire::write(Kind::Birth, &birth, &mut this.buffer).expect("a birth fits");
            this.send(device, Leaf::Birth, EPOCH_MS, len);
        }
        this
    }

    fn send(&mut self, device: usize, leaf: Leaf, at_ms: u64, len: usize) {
        let topic = DeviceTopic { fleet: self.fleet.clone(), device: name(device), leaf }.to_string();
        let now = Now { mono: MonoMs(at_ms), wall: WallMs(at_ms) };
        self.collector.handle(now, &topic, None, &self.buffer[..len]);
    }

    fn tick(&mut self, at_ms: u64) {
        let now = Now { mono: MonoMs(at_ms), wall: WallMs(at_ms) };
        self.collector.tick(now);
        drop(self.collector.take_writes());
        self.collector.committed(now);
        while self.collector.poll_output().is_some() {}
        self.collector.take_changed();
    }
}

fn run(case: Case, seed: u64, part: u64) -> Outcome {
    let mut random = Random::of(seed, part);
    let release = release(&mut random);
    let grids: Vec<Grid> = release.baseline.features.iter().map(|f| Grid::new(&f.cells)).collect();
    let joint = release.baseline.joint.clone().expect("readings that vary");
    let bandwidth = release.baseline.embedding.as_ref().map_or(1.0, |embedded| embedded.bandwidth);
    let frequencies = Frequencies::new(READINGS, bandwidth).expect("a few readings");
    let mut fleet = Fleet::new(release);
    let mut embeddings = vec![Embedding::default(); DEVICES];
    let mut devices: Vec<_> = (0..DEVICES).map(|_| device_readings(&mut random)).collect();
    let mut window: Box<Window> = Box::new(Window::new(ReleaseId(1), WallMs(0), WINDOW_MS as u32, grids.iter()));
    let mut values = [0.0f32; READINGS];
    for at in 0..WINDOWS {
        let start = EPOCH_MS + at as u64 * WINDOW_MS;
        for (device, readings) in devices.iter_mut().enumerate() {
            let shift = if at < BEFORE { 0.0 } else { case.shift(device) };
            window.restart(WallMs(start));
            for _ in 0..WINDOW {
                for (i, (noise, season)) in readings.iter_mut().enumerate() {
                    let shift = if i == 0 { shift } else { 0.0 };
                    values[i] = (noise.reading() + season.reading() + shift) as f32;
                }
                window.add(grids.iter(), values.iter().copied());
                embeddings[device].add(&frequencies, &joint, &values);
            }
            let whole = (start / WINDOW_MS + 1).is_multiple_of(embedding::WINDOWS);
            window.embedding = whole.then(|| std::mem::take(&mut embeddings[device]));
            let number = Seq(at as u64 + 1);
            let len =
                pack::write(Stream(device as u64), number, [&*window].into_iter(), &mut fleet.buffer).expect("fits");
            fleet.send(device, Leaf::Windows, start + WINDOW_MS + 1_000, len);
        }
        // Late enough for the slot to be closed.
        fleet.tick(start + 3 * WINDOW_MS);
    }
    outcome(case, &fleet.collector)
}

fn outcome(case: Case, collector: &Collector) -> Outcome {
    let sick = case.sick();
    let incidents: Vec<&Incident> = collector.book.all().collect();
    let mut outcome = Outcome { sick: sick.len(), incidents: incidents.len(), ..Outcome::default() };
    let right = || incidents.iter().filter(|i| case.is(&i.scope));
    let named: BTreeSet<&Name> = right().flat_map(|i| &i.affected).collect();
    outcome.named = named.iter().filter(|name| sick.contains(**name)).count();
    // Who is named one by one; a group that is sick may have healthy members.
    let by_name = incidents.iter().filter_map(|i| match &i.scope {
        Scope::Devices(names) => Some(names),
        _ => None,
    });
    outcome.wrong_devices = by_name.flatten().filter(|name| !sick.contains(*name)).count();
    let groups = incidents.iter().filter(|i| !matches!(i.scope, Scope::Devices(_)));
    outcome.wrong_groups = groups.filter(|i| !case.is(&i.scope)).map(|i| described(&i.scope)).collect();
    outcome.right = right().count() > 0;
    let change = EPOCH_MS + BEFORE as u64 * WINDOW_MS;
    let first = incidents.iter().map(|i| i.opened.0).filter(|&at| at >= change).min();
    // An incident opens three windows after the one that showed it: grace, and one more for the whole scope to show.
    outcome.delay = first.map(|at| (at - change) / WINDOW_MS);
    outcome
}

fn described(scope: &Scope) -> String {
    match scope {
        Scope::Fleet => "the fleet".into(),
        Scope::Cohorts { label, values } => format!("{label} {}", values.join(", ")),
        Scope::Devices(names) => format!("{} devices", names.len()),
    }
}

/// The names that come most often, with how often.
fn often<'a>(names: impl Iterator<Item = &'a String>) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    names.for_each(|name| *counts.entry(name).or_default() += 1);
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|&(_, n)| std::cmp::Reverse(n));
    counts.iter().take(NAMED_MAX).map(|(name, n)| format!("{name} (×{n})")).collect::<Vec<_>>().join("; ")
}

/// The table of all cases.
pub fn table(size: Size, done: &(dyn Fn() + Sync)) -> Table {
    let runs = size.runs.div_ceil(7);
    let mut missed = Vec::new();
    let mut row = |(at, case): (usize, &Case)| {
        let found = in_parallel(runs, |part| {
            // Every row has fleets of its own: one that is unlucky counts once.
            let outcome = run(*case, size.seed ^ 0xa77 ^ ((at as u64) << 32), part as u64);
            done();
            outcome
        });
        let total = |of: &dyn Fn(&Outcome) -> usize| found.iter().map(of).sum::<usize>() as f64;
        let per_run = |of: &dyn Fn(&Outcome) -> usize| format!("{:.2}", total(of) / runs as f64);
        let share = |part: f64, all: f64| if all > 0.0 { format!("{:.1} %", 100.0 * part / all) } else { "–".into() };
        let mut delays: Vec<u64> = found.iter().filter_map(|o| o.delay).collect();
        let right = total(&|o| usize::from(o.right));
        let (named, wrong) = (total(&|o| o.named), total(&|o| o.wrong_devices));
        let groups = total(&|o| o.wrong_groups.len());
        // The right name in 98 of 100 runs, of a few devices among many in 90; less than one name in 100 and one group in 50 is wrong.
        let asked = if matches!(case, Case::Some(..)) { 0.9 } else { 0.98 };
        if *case != Case::Nothing && runs as f64 - right > f64::max((1.0 - asked) * runs as f64, 1.0) {
            missed.push(format!("{}: the right name in {right} of {runs} runs", case.name()));
        }
        if *case != Case::Nothing && wrong > 0.01 * (wrong + named) {
            missed.push(format!("{}: {wrong} of {} named devices are healthy", case.name(), wrong + named));
        }
        if *case != Case::Nothing && groups > f64::max(0.02 * runs as f64, 1.0) {
            missed.push(format!("{}: {groups} wrong groups in {runs} runs", case.name()));
        }
        vec![
            case.name(),
            if *case == Case::Nothing { "–".into() } else { share(right, runs as f64) },
            share(total(&|o| o.named), total(&|o| o.sick)),
            per_run(&|o| o.wrong_devices),
            share(total(&|o| o.wrong_devices), total(&|o| o.wrong_devices + o.named)),
            per_run(&|o| o.wrong_groups.len()),
            per_run(&|o| o.incidents),
            super::median(&mut delays).map_or_else(|| "–".into(), |d| d.to_string()),
            often(found.iter().flat_map(|o| &o.wrong_groups)),
        ]
    };
    let rows = Case::ALL.iter().enumerate().map(&mut row).collect();
    Table {
        title: "Who is named".into(),
        about: format!(
            "{runs} runs per row of whole collectors: {SITES} sites of {PER_SITE} devices with {READINGS} readings each, a daily wave of 1 sd, AR(.5) \
             noise, device offsets of {OFFSET_SD} sd; {WINDOWS} windows, the change at {BEFORE}, in one reading. Delays are in windows from the \
             change to the opened incident, about three of which are the grace for stragglers and the settling of its scope."
        ),
        columns: [
            "what happened",
            "right level and name",
            "sick devices named",
            "healthy devices named, per run",
            "of all named devices",
            "wrong groups, per run",
            "incidents, per run",
            "median delay",
            "which wrong groups",
        ]
        .map(str::to_owned)
        .to_vec(),
        rows,
        missed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_firmware_on_a_third_of_every_site_is_named_and_nothing_else() {
        let outcome = run(Case::Firmware(0.5), 1, 0);
        assert!(outcome.right && outcome.wrong_groups.is_empty() && outcome.incidents == 1, "{outcome:?}");
    }
}
