//! False alarms when nothing changes, per 100 000 windows of one feature of one device.

use super::rules::{Trained, Watch};
use super::series::{Scenario, TOLERANCE};
use super::{Size, Table, in_parallel, too_many};
use crate::compare::river::{Adwin, AdwinSettings, PageHinkley, PageHinkleySettings};
use crate::evaluate::rules::{Rule, Watcher};
use driftline_shared::random::Random;

/// Expected windows to a false alarm that Driftline is asked for.
pub const ARL: f64 = 1e5;
/// Alarms among this many streams are corrected for together (Benjamini and Hochberg 1995).
const BH_Q: f64 = 0.05;
/// PSI above which people alarm.
const PSI_LIMIT: f64 = 0.2;

/// Alarms of one scenario, by rule.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Alarms {
    /// Windows judged.
    pub windows: u64,
    /// In the order of [`columns`].
    pub alarms: [u64; 7],
}

/// The rules of the table.
pub fn columns() -> [&'static str; 7] {
    [
        "Driftline, 1 in 100 000",
        "PSI > 0.2",
        "KS p < .05",
        "KS + BH q = .05",
        "NannyML JS > 3 sd",
        "ADWIN (river)",
        "Page-Hinkley (river)",
    ]
}

/// One scenario.
pub fn scenario(scenario: &Scenario, size: Size, tolerance: f64, done: &(dyn Fn() + Sync)) -> Alarms {
    let parts = in_parallel(size.baselines, |part| {
        let found = one_baseline(scenario, size, tolerance, part as u64);
        done();
        found
    });
    let mut sum = Alarms::default();
    let streams = size.baselines * size.streams;
    // All streams of a window index are corrected together.
    for window in 0..size.windows {
        let mut d: Vec<f64> = parts.iter().flat_map(|(_, _, d)| d.iter().map(|of_stream| of_stream[window])).collect();
        d.sort_by(|a, b| b.total_cmp(a));
        // Every table has as many rows, so one law serves all; p grows as D falls.
        let passes = |i: usize| parts[0].1.ks_p(d[i]) <= (i + 1) as f64 * BH_Q / streams as f64;
        let mut rejected = 0;
        for i in 0..streams {
            if passes(i) {
                rejected = i + 1;
            } else if i > 2 * rejected + 32 {
                // A later one could pass only if p rose more slowly than its limit from here on; D this small never does.
                break;
            }
        }
        sum.alarms[3] += rejected as u64;
    }
    for (part, _, _) in &parts {
        sum.windows += part.windows;
        (0..7).for_each(|i| sum.alarms[i] += part.alarms[i]);
    }
    sum
}

/// Alarms, what was trained, and KS D of every window of every stream.
fn one_baseline(scenario: &Scenario, size: Size, tolerance: f64, part: u64) -> (Alarms, Trained, Vec<Vec<f64>>) {
    let mut random = Random::of(size.seed, part);
    let (baseline, values) = scenario.baseline(&mut random, tolerance);
    let trained = Trained::new(baseline, &values);
    let mut found = Alarms::default();
    let mut d = Vec::with_capacity(size.streams);
    let (ks_limit, js_limit) = (trained.ks_critical(0.05), trained.js_chunks.0 + 3.0 * trained.js_chunks.1);
    let mut watch = Watch::new(&trained, ARL);
    for _ in 0..size.streams {
        let mut series = scenario.device(&mut random);
        let mut windows: Vec<_> =
            [Rule::Psi, Rule::Ks, Rule::Js].map(|rule| Watcher::new(rule, &trained)).into_iter().collect();
        let mut adwin = Adwin::new(AdwinSettings::default()).expect("river's settings");
        let mut page_hinkley = PageHinkley::new(PageHinkleySettings::default());
        watch.restart();
        let mut of_stream = Vec::with_capacity(size.windows);
        for _ in 0..size.windows {
            let (window, start) = series.window();
            let statistics: Vec<f64> = windows.iter_mut().map(|rule| rule.window(&window, start)).collect();
            let readings = || window.iter().map(|&v| f64::from(v));
            let alarms = [
                watch.window(&window, start) >= ARL.ln(),
                statistics[0] > PSI_LIMIT,
                statistics[1] >= ks_limit,
                false,
                statistics[2] > js_limit,
                readings().filter(|&x| adwin.update(x)).count() > 0,
                readings().filter(|&x| page_hinkley.update(x)).count() > 0,
            ];
            alarms.iter().zip(&mut found.alarms).for_each(|(alarm, count)| *count += u64::from(*alarm));
            found.windows += 1;
            of_stream.push(statistics[1]);
        }
        d.push(of_stream);
    }
    (found, trained, d)
}

/// The table of all scenarios.
pub fn table(size: Size, tolerance: f64, done: &(dyn Fn() + Sync)) -> Table {
    let mut table = Table {
        title: "False alarms when nothing changes".into(),
        about: format!(
            "Alarms per 100 000 windows of 60 readings; {} baselines × {} streams × {} windows per row. Driftline is asked for at most \
             1 (an expected run of 100 000 windows) with a tolerance of {tolerance} sd, the others run as their users set them.",
            size.baselines, size.streams, size.windows
        ),
        columns: std::iter::once("nothing changes").chain(columns()).map(str::to_owned).collect(),
        rows: Vec::new(),
        missed: Vec::new(),
    };
    for of in &Scenario::NULL {
        let found = scenario(of, size, tolerance, done);
        // Without a tolerance the budget is not promised.
        table.missed.extend(too_many(of.name, found.alarms[0], found.windows).filter(|_| tolerance >= TOLERANCE));
        let rate = |count: &u64| {
            let rate = *count as f64 * 1e5 / found.windows as f64;
            if rate >= 100.0 { format!("{rate:.0}") } else { format!("{rate:.1}") }
        };
        table.rows.push(std::iter::once(of.name.to_owned()).chain(found.alarms.iter().map(rate)).collect());
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_rows_make_no_false_alarms() {
        // Outer cells that training hit once, twice or not at all. 20 000 windows, one false alarm in 100 000 is asked for.
        let scenario = Scenario { rows: 100, ..Scenario::NULL[0] };
        let raised: usize = (0..40)
            .map(|part| {
                let mut random = Random::of(1, part);
                let (baseline, values) = scenario.baseline(&mut random, TOLERANCE);
                let trained = Trained::new(baseline, &values);
                let (mut watch, mut series) = (Watch::new(&trained, ARL), scenario.device(&mut random));
                let alarm = |_: &usize| {
                    let (window, start) = series.window();
                    watch.alarm(&window, start).raised
                };
                (0..500).filter(alarm).count()
            })
            .sum();
        assert!(raised <= 1, "{raised} alarms");
    }
}
