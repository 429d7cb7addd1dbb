//! How many windows pass until a change is seen, every rule at the same rate of false alarms.
//!
//! Each rule's threshold is the one at which a tenth of the runs without a change alarm within the watched span, in the same
//! scenario: that is what users can compare. A run is a new baseline, a stretch of normal windows, and then the change.

use super::rules::{ADWIN_POWERS, Rule, Trained, Watcher};
use super::series::{Change, Law, Scenario};
use super::{Size, Table, in_parallel, median};
use driftline_shared::random::Random;

/// Normal windows before the change.
const BEFORE: usize = 200;
/// Windows watched after it.
const AFTER: usize = 1_000;
/// Share of runs without a change that alarm within [`AFTER`] windows.
const FALSE_SHARE: f64 = 0.1;
/// Of a baseline's streams, how many runs are made.
const RUNS_PER_BASELINE: usize = 4;

/// Settings of ADWIN between two neighbours of [`ADWIN_POWERS`], so that its rate of alarms comes as near to the others' as theirs do.
const ADWIN_BETWEEN: usize = 16;

/// Thresholds by rule, in the order of [`Rule::ALL`].
type Thresholds = [f64; 6];

/// What makes the rules' alarms equally frequent.
struct Equal {
    thresholds: Thresholds,
    /// The settings that ADWIN's threshold is one of.
    ladder: Vec<f64>,
    /// Share of the runs without a change that alarm, by rule.
    shares: [f64; 6],
}

/// The statistics of one run after the change, watcher by watcher.
fn run(
    mut watchers: Vec<Watcher<'_>>,
    scenario: &Scenario,
    change: Option<Change>,
    random: &mut Random,
    until: Option<&Thresholds>,
) -> Vec<Vec<f64>> {
    let mut series = scenario.device(random);
    let mut statistics = vec![Vec::with_capacity(AFTER); watchers.len()];
    let mut last = 0.0;
    let mut waiting = vec![true; watchers.len()];
    for at in 0..BEFORE + AFTER {
        let (mut window, start) = series.window();
        if at < BEFORE {
            last = *window.last().expect("a window has readings");
        } else if let Some(change) = change {
            change.apply(&mut window, last, random);
        }
        for (i, watcher) in watchers.iter_mut().enumerate() {
            if !waiting[i] {
                continue;
            }
            let statistic = watcher.window(&window, start);
            if at >= BEFORE {
                statistics[i].push(statistic);
                waiting[i] = until.is_none_or(|thresholds| statistic < thresholds[i]);
            }
        }
        if waiting.iter().all(|&w| !w) {
            break;
        }
    }
    statistics
}

fn trained(scenario: &Scenario, seed: u64, part: u64, tolerance: f64) -> (Trained, Random) {
    let mut random = Random::of(seed, part);
    let (baseline, values) = scenario.baseline(&mut random, tolerance);
    (Trained::new(baseline, &values), random)
}

/// A watcher per rule.
fn watchers<'a>(trained: &'a Trained, ladder: &[f64]) -> Vec<Watcher<'a>> {
    let of = |&rule: &Rule| if rule == Rule::Adwin { Watcher::adwin(ladder) } else { Watcher::new(rule, trained) };
    Rule::ALL.iter().map(of).collect()
}

/// The largest statistic of each run without a change, sorted, watcher by watcher.
fn calm(
    scenario: &Scenario,
    size: Size,
    tolerance: f64,
    of: &(dyn Fn(&Trained) -> Vec<Watcher<'_>> + Sync),
    done: &(dyn Fn() + Sync),
) -> Vec<Vec<f64>> {
    let parts = in_parallel(size.delays.div_ceil(RUNS_PER_BASELINE), |part| {
        let (trained, mut random) = trained(scenario, size.seed ^ 0xca11, part as u64, tolerance);
        let most: Vec<Vec<f64>> = (0..RUNS_PER_BASELINE)
            .map(|_| {
                let statistics = run(of(&trained), scenario, None, &mut random, None);
                statistics.iter().map(|s| s.iter().copied().fold(f64::NEG_INFINITY, f64::max)).collect()
            })
            .collect();
        done();
        most
    });
    let runs: Vec<Vec<f64>> = parts.into_iter().flatten().collect();
    let watchers = runs.first().map_or(0, Vec::len);
    (0..watchers)
        .map(|i| {
            let mut of_rule: Vec<f64> = runs.iter().map(|most| most[i]).collect();
            of_rule.sort_by(f64::total_cmp);
            of_rule
        })
        .collect()
}

/// The statistic that [`FALSE_SHARE`] of the runs reach or pass, of those sorted.
fn passed(sorted: &[f64]) -> f64 {
    sorted[(((1.0 - FALSE_SHARE) * sorted.len() as f64) as usize).min(sorted.len() - 1)]
}

/// The thresholds at which [`FALSE_SHARE`] of the runs without a change alarm.
fn calibrate(scenario: &Scenario, size: Size, tolerance: f64, done: &(dyn Fn() + Sync)) -> Equal {
    let mut most = calm(scenario, size, tolerance, &|trained| watchers(trained, &ADWIN_POWERS), done);
    // ADWIN has settings instead of a threshold: between those that alarm a little too often and too seldom, finer ones.
    let adwin = Rule::ALL.iter().position(|rule| *rule == Rule::Adwin).unwrap_or(0);
    let often = passed(&most[adwin]);
    let seldom = ADWIN_POWERS.iter().copied().find(|&power| power > often).unwrap_or(often + 1.0);
    let ladder: Vec<f64> = (0..=ADWIN_BETWEEN)
        .map(|i| often + (seldom - often) * i as f64 / ADWIN_BETWEEN as f64)
        .filter(|&power| power > 0.0)
        .collect();
    most[adwin] = calm(scenario, size, tolerance, &|_| vec![Watcher::adwin(&ladder)], done).swap_remove(0);
    // Equal values cannot be told apart by a threshold: the next larger one keeps the rate.
    let threshold = |i: usize| passed(&most[i]) + passed(&most[i]).abs().max(1e-9) * 1e-9;
    let thresholds: Thresholds = std::array::from_fn(threshold);
    let share = |i: usize| most[i].iter().filter(|s| **s >= thresholds[i]).count() as f64 / most[i].len() as f64;
    Equal { thresholds, ladder, shares: std::array::from_fn(share) }
}

/// One change: the median delay in windows by rule, and the share of runs in which it was seen at all.
fn delays(
    scenario: &Scenario,
    change: Change,
    equal: &Equal,
    size: Size,
    tolerance: f64,
    done: &(dyn Fn() + Sync),
) -> Vec<(Option<usize>, f64)> {
    let parts = in_parallel(size.delays.div_ceil(RUNS_PER_BASELINE), |part| {
        let (trained, mut random) = trained(scenario, size.seed ^ 0xde1a, part as u64, tolerance);
        let found: Vec<Vec<usize>> = (0..RUNS_PER_BASELINE)
            .map(|_| {
                let statistics = run(
                    watchers(&trained, &equal.ladder),
                    scenario,
                    Some(change),
                    &mut random,
                    Some(&equal.thresholds),
                );
                let first = |i: usize| statistics[i].iter().position(|s| *s >= equal.thresholds[i]);
                (0..Rule::ALL.len()).map(|i| first(i).map_or(usize::MAX, |at| at + 1)).collect()
            })
            .collect();
        done();
        found
    });
    let runs: Vec<Vec<usize>> = parts.into_iter().flatten().collect();
    (0..Rule::ALL.len())
        .map(|i| {
            let mut of_rule: Vec<usize> = runs.iter().map(|r| r[i]).collect();
            let seen = of_rule.iter().filter(|&&d| d < usize::MAX).count() as f64 / of_rule.len() as f64;
            (median(&mut of_rule).filter(|&d| d < usize::MAX), seen)
        })
        .collect()
}

/// A sentence where a change is seen later than promised: where readings repeat, no later than by any other rule from a quarter of a
/// standard deviation on; else within 1.5 times ADWIN's delay, and a spread that grows by half within four windows.
fn slower(scenario: &Scenario, change: Change, found: &[(Option<usize>, f64)]) -> Option<String> {
    let delay = |at: usize| found[at].0.unwrap_or(usize::MAX);
    let own = delay(0);
    let repeat = matches!(scenario.law, Law::Ar(_));
    let limit = match change {
        Change::Shift(by) if by < 0.25 => return None,
        Change::Shift(_) if repeat => (1..found.len()).map(delay).min().unwrap_or(usize::MAX),
        Change::Shift(_) => {
            let adwin = Rule::ALL.iter().position(|rule| *rule == Rule::Adwin).map_or(usize::MAX, delay);
            adwin.saturating_add(adwin / 2)
        }
        Change::Scale(by) if by > 1.0 && !repeat => 4,
        _ => return None,
    };
    (own > limit)
        .then(|| format!("{}, {}: seen after {own} windows, and {limit} are promised", scenario.name, change.name()))
}

/// A table per scenario.
pub fn tables(size: Size, tolerance: f64, done: &(dyn Fn() + Sync)) -> Vec<Table> {
    Scenario::CHANGING
        .iter()
        .map(|scenario| {
            let equal = calibrate(scenario, size, tolerance, done);
            let cell = |(delay, seen): &(Option<usize>, f64)| match delay {
                Some(delay) if *seen > 0.995 => delay.to_string(),
                Some(delay) => format!("{delay} ({:.0} %)", seen * 100.0),
                None => format!("> {AFTER} ({:.0} %)", seen * 100.0),
            };
            let mut missed = Vec::new();
            let mut row = |change: &Change| {
                let found = delays(scenario, *change, &equal, size, tolerance, done);
                // With a tolerance the other rules have a start.
                missed.extend(slower(scenario, *change, &found).filter(|_| tolerance == 0.0));
                std::iter::once(change.name()).chain(found.iter().map(cell)).collect()
            };
            let rows = Change::ALL.iter().map(&mut row).collect();
            let share = |(rule, share): (&Rule, f64)| format!("{} {:.1} %", rule.name(), share * 100.0);
            let shares: Vec<String> = Rule::ALL.iter().zip(equal.shares).map(share).collect();
            Table {
                title: format!("Windows until a change is seen: {}", scenario.name),
                about: format!(
                    "Median over {} runs of {BEFORE} windows without the change and then with it, every rule at the threshold at which {:.0} % of runs \
                     without a change alarm within {AFTER} windows (in these runs {}); in brackets the share of runs in which it was seen within \
                     {AFTER} windows, where not in all. Tolerance {tolerance} sd.",
                    size.delays,
                    FALSE_SHARE * 100.0,
                    shares.join(", ")
                ),
                columns: std::iter::once("change").chain(Rule::ALL.map(Rule::name)).map(str::to_owned).collect(),
                rows,
                missed,
            }
        })
        .collect()
}
