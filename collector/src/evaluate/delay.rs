//! How many windows pass until a change is seen, every rule at the same rate of false alarms.
//!
//! Each rule's threshold is the one at which a tenth of the runs without a change alarm within the watched span, in the same
//! scenario: that is what users can compare. A run is a new baseline, a stretch of normal windows, and then the change.

use super::rules::{Rule, Trained, Watcher};
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

/// Thresholds by rule, in the order of [`Rule::ALL`].
type Thresholds = [f64; 6];

/// The statistics of one run after the change, rule by rule.
fn run(
    trained: &Trained,
    scenario: &Scenario,
    change: Option<Change>,
    random: &mut Random,
    after: usize,
    until: Option<&Thresholds>,
) -> Vec<Vec<f64>> {
    let mut series = scenario.device(random);
    let mut watchers: Vec<Watcher<'_>> = Rule::ALL.iter().map(|&rule| Watcher::new(rule, trained)).collect();
    let mut statistics = vec![Vec::with_capacity(after); watchers.len()];
    let mut last = 0.0;
    let mut waiting = vec![true; watchers.len()];
    for at in 0..BEFORE + after {
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

/// The thresholds at which [`FALSE_SHARE`] of the runs without a change alarm.
fn calibrate(scenario: &Scenario, size: Size, tolerance: f64, done: &(dyn Fn() + Sync)) -> Thresholds {
    let parts = in_parallel(size.delays.div_ceil(RUNS_PER_BASELINE), |part| {
        let (trained, mut random) = trained(scenario, size.seed ^ 0xca11, part as u64, tolerance);
        let most: Vec<[f64; 6]> = (0..RUNS_PER_BASELINE)
            .map(|_| {
                let statistics = run(&trained, scenario, None, &mut random, AFTER, None);
                std::array::from_fn(|i| statistics[i].iter().copied().fold(f64::NEG_INFINITY, f64::max))
            })
            .collect();
        done();
        most
    });
    let most: Vec<[f64; 6]> = parts.into_iter().flatten().collect();
    std::array::from_fn(|i| {
        let mut of_rule: Vec<f64> = most.iter().map(|m| m[i]).collect();
        of_rule.sort_by(f64::total_cmp);
        let at = ((1.0 - FALSE_SHARE) * of_rule.len() as f64) as usize;
        let threshold = of_rule[at.min(of_rule.len() - 1)];
        // Equal values cannot be told apart by a threshold: the next larger one keeps the rate.
        threshold + threshold.abs().max(1e-9) * 1e-9
    })
}

/// One change: the median delay in windows by rule, and the share of runs in which it was seen at all.
fn delays(
    scenario: &Scenario,
    change: Change,
    thresholds: &Thresholds,
    size: Size,
    tolerance: f64,
    done: &(dyn Fn() + Sync),
) -> Vec<(Option<usize>, f64)> {
    let parts = in_parallel(size.delays.div_ceil(RUNS_PER_BASELINE), |part| {
        let (trained, mut random) = trained(scenario, size.seed ^ 0xde1a, part as u64, tolerance);
        let found: Vec<Vec<usize>> = (0..RUNS_PER_BASELINE)
            .map(|_| {
                let statistics = run(&trained, scenario, Some(change), &mut random, AFTER, Some(thresholds));
                let first = |i: usize| statistics[i].iter().position(|s| *s >= thresholds[i]);
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
            let thresholds = calibrate(scenario, size, tolerance, done);
            let cell = |(delay, seen): &(Option<usize>, f64)| match delay {
                Some(delay) if *seen > 0.995 => delay.to_string(),
                Some(delay) => format!("{delay} ({:.0} %)", seen * 100.0),
                None => format!("> {AFTER} ({:.0} %)", seen * 100.0),
            };
            let mut missed = Vec::new();
            let mut row = |change: &Change| {
                let found = delays(scenario, *change, &thresholds, size, tolerance, done);
                // With a tolerance the other rules have a start.
                missed.extend(slower(scenario, *change, &found).filter(|_| tolerance == 0.0));
                std::iter::once(change.name()).chain(found.iter().map(cell)).collect()
            };
            let rows = Change::ALL.iter().map(&mut row).collect();
            Table {
                title: format!("Windows until a change is seen: {}", scenario.name),
                about: format!(
                    "Median over {} runs, every rule at the threshold at which {:.0} % of runs without a change alarm within {AFTER} windows; \
                     in brackets the share of runs in which it was seen within {AFTER} windows, where not in all. Tolerance {tolerance} sd.",
                    size.delays, FALSE_SHARE * 100.0
                ),
                columns: std::iter::once("change").chain(Rule::ALL.map(Rule::name)).map(str::to_owned).collect(),
                rows,
                missed,
            }
        })
        .collect()
}
