//! Builds a baseline from a table of training rows and the model's answers to them.
//!
//! Per feature: cells at the table's quantiles, their counts, and how normal data wobbles in time, between devices and by hour
//! ([`variation`]). What cannot be watched is said in a sentence, never dropped silently.

use crate::release::Baseline;
use driftline_shared::baseline::{FORMAT, FeatureBaseline, Phi, Role};
use driftline_shared::joint::Joint;
use driftline_shared::list::{List, Text};
use driftline_shared::manifest::Task;
use driftline_shared::performance::entropy;
use driftline_shared::sketch::{CELLS_MAX, Categories, Cells, Grid, KNOWN_MAX, Moments, OWN_MAX, Sketch};
use driftline_shared::window::FEATURES_MAX;

mod autoregression;
pub mod directions;
mod embedding;
mod joint;
pub mod variation;

/// Fewest rows a baseline is made from.
pub const ROWS_MIN: usize = 20;
/// Below this many rows, alarms need a visibly larger change.
const ROWS_FEW: usize = 1_000;
/// Above this a change of a hundredth may be none to models, which take numbers of 32 bits.
const COARSE: f32 = 1e5;
/// A column with no more different whole numbers may hold categories.
const CODES_MAX: usize = 10;
/// Above this correlation of neighbouring window means, no variance estimate is safe (docs/detection.md).
const AUTOCORRELATION_HIGH: f64 = 0.3;
/// The inner quantiles of the cells: 1 %, every 5 %, 99 %.
pub(crate) const QUANTILES: [f64; 21] = [
    0.01, 0.05, 0.10, 0.15, 0.20, 0.25, 0.30, 0.35, 0.40, 0.45, 0.50, 0.55, 0.60, 0.65, 0.70, 0.75, 0.80, 0.85, 0.90,
    0.95, 0.99,
];

/// What the residual that sees readings no longer going together is called, and what else if a column has that name.
const JOINT_NAME: &str = "combination";
const JOINT_NAME_ELSE: &str = "combination_of_inputs";

/// A table of training rows, in the order in which they were taken.
#[derive(Debug, Clone, Copy)]
pub struct Table<'a> {
    /// Input names.
    pub names: &'a [String],
    /// Their units; empty where there is none.
    pub units: &'a [String],
    /// Rows of input values; NaN where one is missing.
    pub inputs: &'a [Vec<f32>],
    /// What the model answered to each row; empty where it could not.
    pub outputs: &'a [Vec<f32>],
    /// What the answers mean.
    pub task: &'a Task,
    /// When each row was taken, in milliseconds since 1970; empty when the table does not say.
    pub times: &'a [u64],
    /// Which device each row came from, numbered from 0; empty when the table does not say.
    pub devices: &'a [u32],
    /// Inputs whose numbers stand for categories.
    pub categorical: &'a [String],
}

/// What the user may choose.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Options {
    /// Samples that a device's window will hold.
    pub window_samples: u32,
    /// The rows are independent samples rather than a series in time.
    pub independent_rows: bool,
    /// Smallest change worth an alarm, in standard deviations.
    pub tolerance: f64,
}

/// A baseline and what should be said about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Built {
    /// The baseline.
    pub baseline: Baseline,
    /// Sentences, worst first.
    pub notes: Vec<String>,
}

/// Why no baseline can be made.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum CannotBuild {
    /// Too few rows.
    #[error("the table has {rows} rows; a baseline needs {ROWS_MIN} at least, and {ROWS_FEW} to see small changes")]
    TooFewRows {
        /// Rows found.
        rows: usize,
    },
    /// Too many features.
    #[error(
        "the model has {features} inputs and outputs; {FEATURES_MAX} can be watched: feed it derived features instead"
    )]
    TooManyFeatures {
        /// How many.
        features: usize,
    },
    /// Two inputs with one name.
    #[error("two columns are called {name}; rename one")]
    DuplicateName {
        /// The name.
        name: String,
    },
    /// A name too long.
    #[error("the column name {name} is longer than 64 bytes; shorten it")]
    LongName {
        /// The name.
        name: String,
    },
}

/// Builds a baseline.
pub fn build(table: &Table<'_>, options: Options) -> Result<Built, CannotBuild> {
    let rows = table.inputs.len();
    if rows < ROWS_MIN {
        return Err(CannotBuild::TooFewRows { rows });
    }
    let categorical = |i: usize| table.names.get(i).is_some_and(|name| table.categorical.contains(name));
    let joint = joint::fit(table.inputs, table.names.len(), |i| !categorical(i));
    let watched = watched(table, joint.as_ref())?;
    if watched.len() > FEATURES_MAX {
        return Err(CannotBuild::TooManyFeatures { features: watched.len() });
    }
    let order = variation::Order::new(rows, table.times, table.devices);
    let mut features = Vec::with_capacity(watched.len());
    let mut slow = Vec::new();
    let mut codes = Vec::new();
    let mut notes = Vec::new();
    for Watched { name, unit, role, cells, values } in watched {
        if role.is_input() && cells.is_none() && are_codes(&values) {
            codes.push(name);
        }
        let mut feature = describe(name, unit, role, cells, &values, options.tolerance);
        if let Some(why) = &feature.unwatched {
            notes.push(format!("{} {why}: it will not be watched.", feature.name));
        } else {
            let window = options.window_samples as usize;
            let correlation = variation::estimate(&mut feature, &values, &order, window, options.independent_rows);
            if correlation > AUTOCORRELATION_HIGH {
                slow.push(feature.name.to_string());
            }
        }
        let beyond = values.iter().filter(|v| v.is_infinite()).count();
        if beyond > 0 {
            notes.push(format!(
                "Values of {name} that are infinite or beyond 3.4e38 count as missing: {beyond} of {rows}."
            ));
        }
        features.push(feature);
    }
    if let Some(first) = slow.first() {
        notes.insert(0, format!(
            "{first}{} changes slowly from row to row, so only larger changes will be seen. If the rows are no series in time but \
             independent samples, say so with --rows independent; else longer windows help.",
            if slow.len() > 1 { format!(" (and {} other readings)", slow.len() - 1) } else { String::new() },
        ));
    }
    if !codes.is_empty() {
        let codes = codes.join(",");
        notes.push(format!("A few whole numbers are all that occurs in {codes}: if they stand for categories, say --categorical {codes}."));
    }
    if joint.is_none() && table.names.len() >= 2 {
        notes.push(format!(
            "How readings go together will not be watched: that takes two numbers that vary, {} rows for each that does, and no more than {} of them.",
            joint::ROWS_PER_INPUT,
            driftline_shared::joint::WEIGHTS_MAX,
        ));
    }
    notes.extend(variation::notes(&order, &features));
    if rows < ROWS_FEW {
        notes.insert(
            0,
            format!("The table has only {rows} rows: alarms will need a larger change than with {ROWS_FEW} or more."),
        );
    }
    let embedding = joint.as_ref().and_then(|joint| {
        let Options { window_samples, independent_rows, tolerance } = options;
        let inputs = &features[..table.names.len()];
        embedding::fit(table.inputs, joint, &order, inputs, window_samples as usize, independent_rows, tolerance)
    });
    let baseline = Baseline {
        format: FORMAT,
        rows: u32::try_from(rows).unwrap_or(u32::MAX),
        window_samples: options.window_samples,
        joint,
        embedding,
        features,
        calibration: None,
    };
    Ok(Built { baseline, notes })
}

struct Watched<'a> {
    name: &'a str,
    unit: &'a str,
    role: Role,
    cells: Option<Cells>,
    values: Vec<f32>,
}

/// Every number to watch: inputs in their order, then what is watched of the outputs.
fn watched<'a>(table: &Table<'a>, joint: Option<&Joint>) -> Result<Vec<Watched<'a>>, CannotBuild> {
    let mut all = Vec::new();
    for (i, name) in table.names.iter().enumerate() {
        if table.names[..i].contains(name) {
            return Err(CannotBuild::DuplicateName { name: name.clone() });
        }
        if Text::<64>::whole(name).is_none() {
            return Err(CannotBuild::LongName { name: name.clone() });
        }
        let values: Vec<f32> = table.inputs.iter().map(|row| row.get(i).copied().unwrap_or(f32::NAN)).collect();
        let unit = table.units.get(i).map_or("", String::as_str);
        let cells = table.categorical.contains(name).then(|| Cells::Values(categories(&values)));
        all.push(Watched { name, unit, role: Role::Input(i as u16), cells, values });
    }
    if let Some(joint) = joint {
        let name = [JOINT_NAME, JOINT_NAME_ELSE].into_iter().find(|name| table.names.iter().all(|n| n != name));
        let values = table.inputs.iter().map(|row| joint.residual(row)).collect();
        all.extend(name.map(|name| Watched { name, unit: "", role: Role::Joint, cells: None, values }));
    }
    match table.task {
        Task::Classification(classes) => {
            let best = |row: &Vec<f32>| row.iter().copied().enumerate().max_by(|a, b| a.1.total_cmp(&b.1));
            let class = |row| best(row).map_or(f32::NAN, |(i, _)| i as f32);
            let score = |row| best(row).map_or(f32::NAN, |(_, score)| score);
            let answers: Vec<f32> = table.outputs.iter().map(class).collect();
            let scores = table.outputs.iter().map(score).collect();
            // Of more classes than a sketch has cells, the rarer ones are watched as one.
            let cells = Some(if classes.len() < CELLS_MAX {
                Cells::Categories(classes.len() as u8)
            } else {
                let every = (0..classes.len()).map(|class| class as f32);
                Cells::Values(categories(&answers.iter().copied().chain(every).collect::<Vec<f32>>()))
            });
            all.push(Watched { name: "predicted_class", unit: "", role: Role::PredictedClass, cells, values: answers });
            all.push(Watched { name: "confidence", unit: "", role: Role::Confidence, cells: None, values: scores });
            let values = table.outputs.iter().map(|row| entropy(row).unwrap_or(f32::NAN)).collect();
            all.push(Watched { name: "entropy", unit: "", role: Role::Entropy, cells: None, values });
        }
        Task::Regression(outputs) => {
            const NAMES: [&str; 8] =
                ["output_1", "output_2", "output_3", "output_4", "output_5", "output_6", "output_7", "output_8"];
            for (i, name) in NAMES.iter().enumerate().take(usize::from(*outputs)) {
                let values = table.outputs.iter().map(|row| row.get(i).copied().unwrap_or(f32::NAN)).collect();
                all.push(Watched { name, unit: "", role: Role::Output(i as u16), cells: None, values });
            }
        }
    }
    Ok(all)
}

fn describe(
    name: &str,
    unit: &str,
    role: Role,
    cells: Option<Cells>,
    values: &[f32],
    tolerance: f64,
) -> FeatureBaseline {
    let mut sorted: Vec<f32> = values.iter().copied().filter(|v| v.is_finite()).collect();
    sorted.sort_by(f32::total_cmp);
    let categorical = cells.is_some();
    let cells = cells.unwrap_or_else(|| Cells::Edges(edges(&sorted)));
    let mut sketch = Sketch::<CELLS_MAX>::new(cells.len());
    let grid = Grid::new(&cells);
    sketch.add_all(&grid, values);
    let constant = sorted.first() == sorted.last();
    let distinct = sorted.chunk_by(|a, b| a == b).count();
    let unwatched = match () {
        () if sorted.is_empty() => Some("has no values in your table"),
        () if sorted.len() < ROWS_MIN => Some("has fewer than 20 values in your table"),
        () if categorical && distinct > KNOWN_MAX => Some("has more than 256 categories in your table"),
        () if constant && !categorical && sorted[0].abs() > COARSE => {
            Some("never changes in your table to the seven digits that models take")
        }
        () if constant && !categorical => Some("never changes in your table"),
        () => None,
    };
    let mut moments = Moments::default();
    sorted.iter().for_each(|&v| moments.add(v));
    let sums = if categorical { List::default() } else { cell_sums(&grid, &sorted) };
    let (min, max) = if sorted.is_empty() { (0.0, 0.0) } else { (moments.min, moments.max) };
    FeatureBaseline {
        name: Text::cut(name),
        unit: Text::cut(unit),
        role,
        counts: sketch.counts().iter().copied().collect(),
        cells,
        missing: sketch.missing() + sketch.non_finite(),
        repeats: 0,
        sums,
        median: sorted.get(sorted.len().saturating_sub(1) / 2).copied().unwrap_or(0.0),
        mean: moments.mean(),
        sd: moments.sd(),
        min,
        max,
        phi: Phi::INDEPENDENT,
        omega: None,
        omega_scale: None,
        season: None,
        tolerance,
        unwatched: unwatched.map(Text::cut),
    }
}

/// Whether a few whole numbers are all there is, more of them than a switch has.
fn are_codes(values: &[f32]) -> bool {
    let mut seen = Vec::new();
    for value in values.iter().filter(|v| v.is_finite()) {
        if !seen.contains(value) {
            seen.push(*value);
        }
        if value.fract() != 0.0 || seen.len() > CODES_MAX {
            return false;
        }
    }
    seen.len() > 2
}

/// The categories among values: the most frequent ones in ascending order, and the rest as far as there is room.
fn categories(values: &[f32]) -> Categories {
    let mut sorted: Vec<f32> = values.iter().copied().filter(|v| v.is_finite()).collect();
    sorted.sort_by(f32::total_cmp);
    let mut found: Vec<(usize, f32)> = sorted.chunk_by(|a, b| a == b).map(|same| (same.len(), same[0])).collect();
    found.sort_by_key(|&(rows, _)| std::cmp::Reverse(rows));
    let (own, others) = found.split_at(found.len().min(OWN_MAX));
    let mut own: Vec<f32> = own.iter().map(|&(_, value)| value).collect();
    own.sort_by(f32::total_cmp);
    let others = others.iter().take(KNOWN_MAX - OWN_MAX).map(|&(_, value)| value);
    Categories { own: own.into_iter().collect(), others: others.collect() }
}

/// The sum of the values in each cell.
fn cell_sums(grid: &Grid, values: &[f32]) -> List<f64, CELLS_MAX> {
    let mut sums: List<f64, CELLS_MAX> = (0..grid.len()).map(|_| 0.0).collect();
    values.iter().for_each(|&v| sums[grid.cell(v)] += f64::from(v));
    sums
}

/// Edges at the quantiles of sorted values (the value at rank ceil(q·n)), equal ones once. Where the outermost edge is the
/// smallest or largest value itself, as with few distinct values, it is set so that the outer cell holds only what lies beyond.
pub(crate) fn edges(sorted: &[f32]) -> List<f32, { CELLS_MAX - 1 }> {
    let (Some(&min), Some(&max)) = (sorted.first(), sorted.last()) else { return List::default() };
    let rank = |q: f64| ((q * sorted.len() as f64).ceil() as usize).clamp(1, sorted.len()) - 1;
    let mut edges: Vec<f32> = QUANTILES.iter().map(|&q| sorted[rank(q)]).collect();
    edges.dedup();
    if edges.first() == Some(&min) && min < max && min.next_down().is_finite() {
        edges.insert(0, min.next_down());
    }
    edges.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(n: usize, f: impl Fn(usize) -> f32) -> Vec<Vec<f32>> {
        (0..n).map(|i| vec![f(i)]).collect()
    }

    fn built(inputs: &[Vec<f32>]) -> Built {
        let table = Table {
            names: &["x".to_owned()],
            units: &[],
            inputs,
            outputs: &vec![vec![0.25, 0.75]; inputs.len()],
            task: &Task::Classification(["a", "b"].map(|c| Text::whole(c).expect("fits")).into_iter().collect()),
            times: &[],
            devices: &[],
            categorical: &[],
        };
        build(&table, Options { window_samples: 60, independent_rows: false, tolerance: 0.1 }).expect("enough rows")
    }

    /// Low-discrepancy values in (0, 1): evenly spread, neighbours far apart.
    fn even(i: usize) -> f32 {
        ((i as f64 + 0.5) * 0.618_033_988_749_895).fract() as f32
    }

    #[test]
    fn cells_hold_the_shares_they_were_cut_for() {
        let built = built(&rows(10_000, even));
        let counts = &built.baseline.features[0].counts;
        assert_eq!(counts.len(), 22);
        assert_eq!((counts[0], counts[1], counts[2], counts[21]), (100, 400, 500, 100));
        assert_eq!(counts.iter().sum::<u32>(), 10_000);
    }

    #[test]
    fn a_constant_column_is_not_watched_and_said_so() {
        let built = built(&rows(100, |_| 5.0));
        assert!(built.baseline.features[0].unwatched.is_some());
        assert!(
            built.notes.iter().any(|n| n == "x never changes in your table: it will not be watched."),
            "{:?}",
            built.notes
        );
    }

    #[test]
    fn few_distinct_values_leave_cells_for_what_lies_beyond() {
        let built = built(&rows(100, |i| (i % 3) as f32));
        let f = &built.baseline.features[0];
        assert_eq!(Grid::new(&f.cells).cell(-1.0), 0);
        assert_eq!(f.counts[0], 0);
        assert_eq!(Grid::new(&f.cells).cell(3.0), f.counts.len() - 1);
        assert_eq!(f.counts.last(), Some(&0));
    }

    #[test]
    fn categories_have_cells_and_the_rare_ones_share_one() {
        // 0 to 29, the higher the rarer; and a number beside them.
        let inputs: Vec<Vec<f32>> = (0..9_000).map(|i| vec![(even(i).powi(2) * 30.0).floor(), even(i * 7)]).collect();
        let names = ["mode".to_owned(), "x".to_owned()];
        let table = Table {
            names: &names,
            units: &[],
            inputs: &inputs,
            outputs: &[],
            task: &Task::Regression(0),
            times: &[],
            devices: &[],
            categorical: &names[..1],
        };
        let options = Options { window_samples: 60, independent_rows: false, tolerance: 0.1 };
        let built = build(&table, options).expect("enough rows");
        let mode = &built.baseline.features[0];
        assert_eq!((mode.cells.len(), mode.counts.len(), mode.unwatched.as_ref()), (24, 24, None));
        assert!(mode.counts[0] > mode.counts[21] && mode.counts[22] > 0, "{:?}", mode.counts);
        assert_eq!(mode.counts[23], 0, "every category of the table is known");
        assert!(mode.cells.knows(29.0) && !mode.cells.knows(30.0));
        assert_eq!(built.baseline.joint, None, "a category is no number that goes together with others");

        let ids: Vec<Vec<f32>> = (0..9_000).map(|i| vec![i as f32, even(i)]).collect();
        let built = build(&Table { inputs: &ids, ..table }, options).expect("enough rows");
        assert!(built.notes.iter().any(|n| n.starts_with("mode has more than 256 categories")), "{:?}", built.notes);
    }

    #[test]
    fn a_few_whole_numbers_may_be_categories() {
        let notes = built(&rows(100, |i| (i % 3) as f32)).notes;
        assert!(notes.iter().any(|n| n.ends_with("say --categorical x.")), "{notes:?}");
        let notes = built(&rows(100, |i| (i % 2) as f32)).notes;
        assert!(!notes.iter().any(|n| n.contains("--categorical")), "{notes:?}");
    }

    #[test]
    fn blocks_in_the_table_are_noticed() {
        let built = built(&rows(2_000, |i| even(i) + (i / 200) as f32));
        assert!(built.baseline.features[0].phi.location > 10.0);
        assert!(built.notes[0].starts_with("x changes slowly from row to row"), "{:?}", built.notes);
    }

    #[test]
    fn independent_rows_have_a_variance_factor_near_one() {
        // Pseudo-random rather than even: even values vary less than independent ones.
        let noise = |i: usize| {
            let x = (i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((x ^ (x >> 31)) >> 40) as f32 / (1 << 24) as f32
        };
        let phi = built(&rows(6_000, noise)).baseline.features[0].phi;
        assert!((1.0..2.2).contains(&phi.location), "{phi:?}");
    }

    #[test]
    fn thirty_rows_work_and_nineteen_are_refused() {
        assert!(built(&rows(30, even)).notes[0].contains("only 30 rows"));
        let table = Table {
            names: &[],
            units: &[],
            inputs: &rows(19, even),
            outputs: &[],
            task: &Task::Regression(1),
            times: &[],
            devices: &[],
            categorical: &[],
        };
        let options = Options { window_samples: 60, independent_rows: false, tolerance: 0.1 };
        assert_eq!(build(&table, options), Err(CannotBuild::TooFewRows { rows: 19 }));
    }
}
