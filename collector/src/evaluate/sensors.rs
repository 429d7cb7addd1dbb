//! Real sensors with labelled trouble: tables whose rows say when something was wrong.
//!
//! Each table is one experiment: its first normal rows are the training data, the rest comes in windows. An alarm in a normal window is
//! false; the first one raised while the label says trouble is the detection of that trouble. One that holds since before is none.

use super::rules::{Alarm, Rule, Trained, Watch, Watcher};
use super::series::feature_of;
use super::{FEATURES, Table};
use crate::baseline::Options;
use crate::compare::river::{Adwin, AdwinSettings, PageHinkley, PageHinkleySettings};
use crate::explain::some;
use crate::release::Baseline;
use driftline_shared::baseline::FORMAT;
use driftline_shared::units::WallMs;
use std::collections::{BTreeMap, BTreeSet};

/// Windows after trouble that are neither normal nor trouble: what was disturbed comes back by and by, and that it does is a change too.
const RECOVERY_WINDOWS: usize = 5;

/// One table.
#[derive(Debug, Clone, Default)]
pub struct Experiment {
    /// Its file.
    pub name: String,
    /// Names of the columns of readings.
    pub names: Vec<String>,
    /// These columns.
    pub columns: Vec<Vec<f32>>,
    /// Whether something was wrong, per row.
    pub trouble: Vec<bool>,
}

/// How tables are cut.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cut {
    /// Rows of training data.
    pub training: usize,
    /// Rows of a window.
    pub window: usize,
    /// Practical tolerance in sd.
    pub tolerance: f64,
    /// Expected windows to a false alarm of one column, divided by the columns.
    pub expected_run: f64,
}

/// What a window is, by its labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Normal,
    /// The so-manyth trouble of its table.
    Trouble(usize),
    /// One of [`RECOVERY_WINDOWS`].
    After,
}

/// The windows after the training data, and the first row of every trouble in them. Trouble that is back before the table has recovered is
/// the same trouble.
fn kinds(experiment: &Experiment, cut: &Cut) -> (Vec<Kind>, Vec<usize>) {
    let (mut kinds, mut troubles) = (Vec::new(), Vec::new());
    let mut since = usize::MAX;
    let rows = experiment.trouble.get(cut.training..).unwrap_or_default();
    for (i, window) in rows.chunks_exact(cut.window).enumerate() {
        let Some(first) = window.iter().position(|&trouble| trouble) else {
            since = since.saturating_add(1);
            kinds.push(if since <= RECOVERY_WINDOWS { Kind::After } else { Kind::Normal });
            continue;
        };
        if since > RECOVERY_WINDOWS {
            troubles.push(cut.training + i * cut.window + first);
        }
        since = 0;
        kinds.push(Kind::Trouble(troubles.len() - 1));
    }
    (kinds, troubles)
}

/// What became of one experiment under one rule.
#[derive(Debug, Clone, PartialEq, Default)]
struct Outcome {
    normal_windows: usize,
    false_windows: usize,
    /// Per trouble: rows from its first one to the end of the window in which an alarm was raised.
    delays: Vec<Option<usize>>,
}

/// From what a rule did in every window of a table.
fn outcome(experiment: &Experiment, cut: &Cut, alarms: &[Alarm]) -> Outcome {
    let (kinds, troubles) = kinds(experiment, cut);
    let mut found = Outcome { delays: vec![None; troubles.len()], ..Outcome::default() };
    for (i, (kind, alarm)) in kinds.into_iter().zip(alarms).enumerate() {
        match kind {
            Kind::Normal => {
                found.normal_windows += 1;
                found.false_windows += usize::from(alarm.on);
            }
            Kind::Trouble(at) if alarm.raised && found.delays[at].is_none() => {
                found.delays[at] = Some(cut.training + (i + 1) * cut.window - troubles[at]);
            }
            Kind::Trouble(_) | Kind::After => {}
        }
    }
    found
}

/// Other tools' rules, whose alarms in any column are looked at.
const PEERS: [&str; 5] = ["PSI > 0.2", "KS p < .05", "NannyML JS > 3 sd", "ADWIN (river)", "Page-Hinkley (river)"];
/// The alarms among columns are corrected for together (Benjamini and Hochberg 1995).
const BH: &str = "KS + BH q = .05";
const BH_Q: f64 = 0.05;

/// What every rule made of one table, window by window.
struct Seen {
    driftline: Vec<bool>,
    /// [`PEERS`] as their users set them, and [`BH`].
    set: [Vec<bool>; 6],
    /// The largest statistic of any column, in units that are the same for all columns.
    statistics: [Vec<f64>; 5],
    /// Columns that cannot be watched: name and reason.
    unwatched: Vec<(String, String)>,
}

/// Runs every rule over one table.
fn watch(experiment: &Experiment, cut: &Cut) -> Seen {
    let windows = experiment.trouble.len().saturating_sub(cut.training) / cut.window;
    let mut seen = Seen {
        driftline: vec![false; windows],
        set: std::array::from_fn(|_| vec![false; windows]),
        statistics: std::array::from_fn(|_| vec![f64::NEG_INFINITY; windows]),
        unwatched: Vec::new(),
    };
    let mut p = vec![Vec::new(); windows];
    let threshold = cut.expected_run * experiment.columns.len().max(1) as f64;
    let options = Options { window_samples: cut.window as u32, independent_rows: false, tolerance: cut.tolerance };
    for (name, column) in experiment.names.iter().zip(&experiment.columns) {
        let of = feature_of(&column[..cut.training], &[], &[], options);
        if let Some(reason) = of.unwatched {
            seen.unwatched.push((name.clone(), reason.to_string().replace("your table", "its training rows")));
            continue;
        }
        let normal: Vec<f32> = column[..cut.training].iter().copied().filter(|v| v.is_finite()).collect();
        let (mean, sd) = (of.mean, of.sd);
        let baseline = Baseline {
            format: FORMAT,
            rows: cut.training as u32,
            window_samples: cut.window as u32,
            features: vec![of; FEATURES],
            calibration: None,
            joint: None,
            embedding: None,
        };
        let trained = Trained::new(baseline, &normal);
        let mut own = Watch::new(&trained, threshold);
        let mut rules: Vec<Watcher<'_>> = Rule::ALL[1..].iter().map(|&rule| Watcher::new(rule, &trained)).collect();
        let mut adwin = Adwin::new(AdwinSettings::default()).expect("river's settings");
        let mut page_hinkley = PageHinkley::new(PageHinkleySettings::default());
        let (critical, (js, js_sd)) = (trained.ks_critical(0.05), trained.js_chunks);
        for (i, window) in column[cut.training..].chunks_exact(cut.window).enumerate() {
            seen.driftline[i] |= own.alarm(window, WallMs(0)).on;
            // ADWIN and Page-Hinkley are made for readings of about unit size.
            let standard: Vec<f32> = window.iter().map(|&x| ((f64::from(x) - mean) / sd) as f32).collect();
            let readings = || standard.iter().filter(|x| x.is_finite()).map(|&x| f64::from(x));
            let [psi, d, distance, ladder, sums] =
                std::array::from_fn(|rule| rules[rule].window(if rule < 3 { window } else { &standard }, WallMs(0)));
            // Windows that do not differ at all have no unit.
            let apart = if js_sd > 0.0 { 3.0 * js_sd } else { 1.0 };
            let statistics = [psi / 0.2, d / critical, (distance - js) / apart, ladder, sums];
            let set = [
                psi > 0.2,
                d >= critical,
                distance > js + 3.0 * js_sd,
                readings().filter(|&x| adwin.update(x)).count() > 0,
                readings().filter(|&x| page_hinkley.update(x)).count() > 0,
            ];
            for (rule, (statistic, set)) in statistics.into_iter().zip(set).enumerate() {
                seen.statistics[rule][i] = seen.statistics[rule][i].max(statistic);
                seen.set[rule][i] |= set;
            }
            p[i].push(trained.ks_p(d));
        }
    }
    for (i, p) in p.iter_mut().enumerate() {
        p.sort_by(f64::total_cmp);
        let of = p.len() as f64;
        seen.set[5][i] = p.iter().zip(1..).any(|(&p, rank)| p <= f64::from(rank) * BH_Q / of);
    }
    seen
}

/// Alarms that are raised where they were not on before.
fn edges(on: impl Iterator<Item = bool>) -> Vec<Alarm> {
    let mut before = false;
    let alarm = |on| {
        let was = std::mem::replace(&mut before, on);
        Alarm { on, raised: on && !was }
    };
    on.map(alarm).collect()
}

/// What became of all experiments under one rule.
#[derive(Debug, Clone, Default)]
struct Sum {
    normal: usize,
    wrong: usize,
    troubled: usize,
    delays: Vec<usize>,
}

impl Sum {
    fn of(experiments: &[&Experiment], cut: &Cut, alarms: impl Iterator<Item = Vec<Alarm>>) -> Self {
        let mut sum = Self::default();
        for (experiment, alarms) in experiments.iter().zip(alarms) {
            let found = outcome(experiment, cut, &alarms);
            sum.normal += found.normal_windows;
            sum.wrong += found.false_windows;
            sum.troubled += found.delays.len();
            sum.delays.extend(found.delays.iter().flatten());
        }
        sum
    }

    fn trouble(&self) -> [String; 2] {
        let median = super::median(&mut self.delays.clone());
        [format!("{} of {}", self.delays.len(), self.troubled), median.map_or_else(|| "–".into(), |d| d.to_string())]
    }
}

/// The statistic above which so few of the normal windows lie; `None` where there are no more of them.
fn threshold(experiments: &[&Experiment], cut: &Cut, seen: &[Seen], rule: usize, wrong: usize) -> Option<f64> {
    let mut normal: Vec<f64> = Vec::new();
    for (experiment, seen) in experiments.iter().zip(seen) {
        let statistics = kinds(experiment, cut).0.into_iter().zip(&seen.statistics[rule]);
        normal.extend(statistics.filter(|(kind, _)| *kind == Kind::Normal).map(|(_, &statistic)| statistic));
    }
    normal.sort_by(|a, b| b.total_cmp(a));
    // Equal values cannot be told apart by a threshold: the next larger one keeps the rate.
    normal.get(wrong).map(|&at| at + at.abs().max(1e-9) * 1e-9)
}

/// Names of columns by why they are not watched, in words.
fn unwatched(seen: &[Seen]) -> String {
    let mut by_reason: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (name, reason) in seen.iter().flat_map(|s| &s.unwatched) {
        by_reason.entry(reason).or_default().insert(name);
    }
    let sentence = |(reason, names): (&str, BTreeSet<&str>)| {
        format!(" Not watched in at least one table: {} ({reason}).", some(&Vec::from_iter(names)))
    };
    by_reason.into_iter().map(sentence).collect()
}

/// The table of all experiments; without rows where nothing can be watched, and `about` says why.
pub fn table(experiments: &[Experiment], cut: &Cut) -> Table {
    let seen: Vec<Seen> = super::in_parallel(experiments.len(), |i| watch(&experiments[i], cut));
    let not_watched = unwatched(&seen);
    let all: Vec<(&Experiment, Seen)> = experiments.iter().zip(seen).collect();
    let (watched, blind): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|(e, seen)| seen.unwatched.len() < e.columns.len());
    let blind: Vec<&str> = blind.iter().map(|(experiment, _)| experiment.name.as_str()).collect();
    let blind = match some(&blind) {
        none if none.is_empty() => none,
        names => format!(" Left out, as no column can be watched: {names}."),
    };
    let (experiments, seen): (Vec<&Experiment>, Vec<Seen>) = watched.into_iter().unzip();
    let experiments = &experiments[..];
    if experiments.is_empty() {
        return Table { about: not_watched + &blind, ..Table::default() };
    }
    let own = Sum::of(experiments, cut, seen.iter().map(|s| edges(s.driftline.iter().copied())));
    let row = |name: &str, set: &Sum, equal: Option<&Sum>| -> Vec<String> {
        let equal = equal.map_or_else(|| ["–".into(), "–".into()], Sum::trouble);
        let first = [name.to_owned(), format!("{} of {}", set.wrong, set.normal)];
        first.into_iter().chain(set.trouble()).chain(equal).collect()
    };
    let mut rows = vec![row("Driftline", &own, Some(&own))];
    for (rule, name) in PEERS.iter().enumerate() {
        let set = Sum::of(experiments, cut, seen.iter().map(|s| edges(s.set[rule].iter().copied())));
        let equal = threshold(experiments, cut, &seen, rule, own.wrong).map(|limit| {
            let above = |s: &Seen| edges(s.statistics[rule].iter().map(|&statistic| statistic >= limit));
            Sum::of(experiments, cut, seen.iter().map(above))
        });
        rows.push(row(name, &set, equal.as_ref()));
    }
    let set = Sum::of(experiments, cut, seen.iter().map(|s| edges(s.set[PEERS.len()].iter().copied())));
    rows.push(row(BH, &set, None));
    Table {
        title: "Labelled sensors".into(),
        about: format!(
            "{} table{}; the first {} rows of each are its training data, windows of {} rows, tolerance {} sd; an alarm in any column counts. Trouble lasts as long as its label says, \
             and the {RECOVERY_WINDOWS} windows after it count as neither. Delays are in rows. The last two columns give every rule the threshold at which it \
             alarms in no more normal windows than Driftline does.{}",
            experiments.len(),
            if experiments.len() == 1 { "" } else { "s" },
            cut.training,
            cut.window,
            cut.tolerance,
            not_watched
                + &blind
                + if own.troubled == 0 { " None of their windows is labelled as trouble." } else { "" }
        ),
        columns: [
            "rule",
            "normal windows with an alarm",
            "trouble seen",
            "median delay",
            "at equal false alarms: seen",
            "median delay then",
        ]
        .map(str::to_owned)
        .to_vec(),
        rows,
        missed: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use driftline_shared::random::Random;

    const CUT: Cut = Cut { training: 400, window: 20, tolerance: 0.1, expected_run: 1e4 };

    /// Normal readings that move by 3 sd at a row; the label says trouble from another.
    fn seen(moves: usize, labelled: usize) -> Outcome {
        let mut random = Random::new(1);
        let column = (0..1_000).map(|i| (random.normal() + if i >= moves { 3.0 } else { 0.0 }) as f32).collect();
        let trouble = (0..1_000).map(|i| i >= labelled).collect();
        let experiment = Experiment { name: "x".into(), names: vec!["c".into()], columns: vec![column], trouble };
        outcome(&experiment, &CUT, &edges(watch(&experiment, &CUT).driftline.into_iter()))
    }

    #[test]
    fn an_alarm_that_holds_since_before_is_no_detection() {
        let fair = seen(600, 600);
        assert_eq!((fair.false_windows, fair.delays), (0, vec![Some(20)]));
        let early = seen(500, 700);
        assert!(early.false_windows >= 9 && early.delays == [None], "{early:?}");
    }

    #[test]
    fn a_second_column_is_no_second_alarm() {
        let mut random = Random::new(1);
        let mut moves =
            |at: usize| (0..1_000).map(|i| (random.normal() + if i >= at { 3.0 } else { 0.0 }) as f32).collect();
        let columns = vec![moves(500), moves(700)];
        let (names, trouble) = (vec!["a".into(), "b".into()], (0..1_000).map(|i| i >= 700).collect());
        let row = table(&[Experiment { name: "x".into(), names, columns, trouble }], &CUT).rows.swap_remove(0);
        assert_eq!(row[2], "0 of 1", "the first holds since before: {row:?}");
    }

    #[test]
    fn trouble_ends_where_its_label_does() {
        // Rows 400 to 1,000 in windows of 20: trouble in rows 505 to 544 and, before a window has passed, again; once more much later.
        let trouble = |i: usize| (505..545).contains(&i) || (560..570).contains(&i) || (800..1_000).contains(&i);
        let experiment = Experiment { trouble: (0..1_000).map(trouble).collect(), ..Experiment::default() };
        let (kinds, troubles) = kinds(&experiment, &CUT);
        assert_eq!(troubles, [505, 800]);
        let counted = |wanted: Kind| kinds.iter().filter(|kind| **kind == wanted).count();
        assert_eq!((counted(Kind::Trouble(0)), counted(Kind::After), counted(Kind::Trouble(1))), (4, 5, 10));
        assert_eq!((kinds.len(), counted(Kind::Normal)), (30, 11));
        // Raised in a normal window before, held until after; raised again in the second trouble.
        let on = |i: usize| (4..9).contains(&i) || i == 20 || i >= 22;
        let found = outcome(&experiment, &CUT, &edges((0..30).map(on)));
        assert_eq!(found, Outcome { normal_windows: 11, false_windows: 1, delays: vec![None, Some(20)] });
    }

    #[test]
    fn columns_that_cannot_be_watched_are_named() {
        let mut random = Random::new(1);
        let mut column = || (0..500).map(|_| random.normal() as f32).collect();
        let (columns, names) = (vec![column(), vec![1.0; 500]], vec!["pressure".into(), "version".into()]);
        let watched = Experiment { name: "x".into(), names, columns, trouble: vec![false; 500] };
        let (names, columns) = (vec!["version".into()], vec![vec![1.0; 500]]);
        let blind = Experiment { name: "blind.csv".into(), names, columns, trouble: vec![false; 500] };
        let Table { about, rows, .. } = table(&[watched, blind], &CUT);
        assert!(about.contains("Not watched in at least one table: version ("), "{about}");
        assert!(
            about.contains("Left out, as no column can be watched: blind.csv. None of their windows is"),
            "{about}"
        );
        assert_eq!(rows[0][1], "0 of 5", "{rows:?}");
    }

    #[test]
    fn an_alarm_that_ends_can_be_raised_again() {
        let raised = edges([false, true, true, false, true].into_iter()).iter().map(|a| a.raised).collect::<Vec<_>>();
        assert_eq!(raised, [false, true, false, false, true]);
    }

    #[test]
    fn every_rule_is_compared_at_the_same_false_alarms() {
        let experiment = |seed| {
            let mut random = Random::new(seed);
            let mut column = || (0..1_200).map(|i| (random.normal() + f64::from(u8::from(i >= 900))) as f32).collect();
            let columns = vec![column(), column()];
            let names = vec!["a".into(), "b".into()];
            Experiment { name: "x".into(), names, columns, trouble: (0..1_200).map(|i| i >= 900).collect() }
        };
        let experiments: Vec<Experiment> = (0..4).map(experiment).collect();
        let seen: Vec<Seen> = experiments.iter().map(|e| watch(e, &CUT)).collect();
        let of: Vec<&Experiment> = experiments.iter().collect();
        for (rule, name) in PEERS.iter().enumerate() {
            for wrong in [0, 3] {
                let limit = threshold(&of, &CUT, &seen, rule, wrong).expect("more normal windows than that");
                let above = |s: &Seen| edges(s.statistics[rule].iter().map(|&statistic| statistic >= limit));
                let sum = Sum::of(&of, &CUT, seen.iter().map(above));
                assert_eq!((sum.normal, sum.troubled), (100, 4));
                assert!(sum.wrong <= wrong, "{name}: {} of {wrong}", sum.wrong);
            }
        }
        let rows = table(&experiments, &CUT).rows;
        assert_eq!(rows.len(), 7);
        assert_eq!(rows[0][1..3], ["0 of 100".to_owned(), "4 of 4".to_owned()], "{rows:?}");
        // As users set it, KS alarms on about one in ten windows of two columns.
        let wrong: usize = rows[2][1].split(' ').next().unwrap().parse().unwrap();
        assert!((3..25).contains(&wrong), "{rows:?}");
    }
}
