//! The formulas of `shared` against numpy and scipy: `tests/models/conformance.py` made tests/golden/conformance.json.
//!
//! `DRIFTLINE_CASES` names another file, such as one that was made just now. The recursion over windows (kinds `log_e` and `mixture`)
//! is not compared here: the detector computes it in f32 and only for its own designs.

use crate::fleet::root;
use driftline_shared::baseline::FeatureBaseline;
use driftline_shared::drift::design::bet;
use driftline_shared::drift::distance::Convention;
use driftline_shared::drift::scores::{Family, Points, Scores};
use driftline_shared::drift::{normal, transport, variance};
use driftline_shared::sketch::{Cells, Grid, Moments};
use driftline_tests::normal::features;
use serde_json::Value;
use statrs::distribution::{ChiSquared, ContinuousCDF};
use std::collections::BTreeMap;

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().expect("a list").iter().map(|v| v.as_f64().expect("a number")).collect()
}

fn counts(value: &Value) -> Vec<u32> {
    numbers(value).into_iter().map(|v| v as u32).collect()
}

fn floats(value: &Value) -> Vec<f32> {
    numbers(value).into_iter().map(|v| v as f32).collect()
}

/// |found − wanted| in units of the allowed error, which is relative for large numbers.
fn error(found: f64, wanted: f64, tolerance: f64) -> f64 {
    (found - wanted).abs() / (tolerance * wanted.abs().max(1.0))
}

/// The largest error of one case, in units of what is allowed; `None` for a kind that is not compared.
fn compare(case: &Value) -> Option<f64> {
    let number = |key: &str| case[key].as_f64().unwrap_or(f64::NAN);
    let pair = || (counts(&case["p"]), counts(&case["q"]));
    let worst = |found: &[f64], wanted: &[f64], tolerance: f64| {
        assert_eq!(found.len(), wanted.len());
        found.iter().zip(wanted).map(|(f, w)| error(*f, *w, tolerance)).fold(0.0, f64::max)
    };
    Some(match case["kind"].as_str().expect("a kind") {
        "inv_norm" => error(normal::quantile(number("p")), number("value"), 1e-12),
        "chi2_lower" => {
            let quantile = ChiSquared::new(number("dof")).expect("a distribution").inverse_cdf(0.05);
            error(quantile, number("value"), 1e-6)
        }
        "psi_jeffreys" => error(Convention::PSI.of(&pair().0, &pair().1), number("value"), 1e-12),
        "js2_distance" => error(Convention::JS.of(&pair().0, &pair().1), number("value"), 1e-7),
        "ks_d" => error(Convention::KS.of(&pair().0, &pair().1), number("value"), 1e-12),
        "w1_spread" => {
            let (p, q) = pair();
            let found = transport::w1(&floats(&case["edges"]), &p, &q, number("low") as f32, number("high") as f32);
            error(found, number("value"), 1e-9)
        }
        "scores" => {
            let scores = Scores::new(&numeric(&counts(&case["counts"])));
            let of = |family| scores.points(family).iter().map(|(_, g)| g).collect::<Vec<_>>();
            let cells = scores.shares().len();
            // An indicator has two points; the case spells them out per cell.
            let indicator = |family, at: usize| {
                let two = of(family);
                (0..cells).map(|k| two[usize::from(k != at)]).collect::<Vec<_>>()
            };
            [
                worst(scores.shares(), &numbers(&case["p"]), 1e-12),
                worst(&of(Family::Location), &numbers(&case["location"]), 1e-10),
                worst(&of(Family::Scale), &numbers(&case["scale"]), 1e-10),
                worst(&indicator(Family::Top, cells - 1), &numbers(&case["top"]), 1e-10),
                worst(&indicator(Family::Bottom, 0), &numbers(&case["bottom"]), 1e-10),
            ]
            .into_iter()
            .fold(0.0, f64::max)
        }
        "design" => {
            let points = Points::from_slices(&numbers(&case["p"]), &numbers(&case["g"]));
            let found = bet(&points, Family::Location, 1.0, 1.0, number("d"), number("tau"));
            match (found, case["lambda"].as_f64()) {
                (Some(bet), Some(lambda)) => error(bet.lambda, lambda, 1e-8).max(error(bet.psi, number("psi"), 1e-8)),
                (None, None) => 0.0,
                (found, wanted) => panic!("{case}: {found:?} for {wanted:?}"),
            }
        }
        "lrv" => {
            let (means, windows) = (numbers(&case["x"]), numbers(&case["x"]).len());
            assert_eq!(variance::lag(windows) as f64, number("lag"));
            let phi = variance::phi(&means, number("n"));
            [
                error(phi, number("phi"), 1e-10),
                error(variance::upper(phi, windows, number("chi2_lower")), number("phi_upper"), 1e-10),
                error(variance::lag1_autocorrelation(&means), number("lag1"), 1e-10),
            ]
            .into_iter()
            .fold(0.0, f64::max)
        }
        "moments_merge" => {
            let mut sum = Moments::default();
            for part in case["parts"].as_array().expect("parts") {
                let mut moments = Moments::default();
                floats(part).into_iter().for_each(|v| moments.add(v));
                sum.merge(&moments);
            }
            assert_eq!(sum.n as f64, number("n"));
            [
                error(sum.mean(), number("mean"), 1e-10),
                error(sum.m2(), number("m2"), 1e-10),
                error(sum.sd(), number("sd"), 1e-10),
                error(f64::from(sum.min), number("min"), 1e-12),
                error(f64::from(sum.max), number("max"), 1e-12),
            ]
            .into_iter()
            .fold(0.0, f64::max)
        }
        "cell" => {
            let grid = Grid::new(&Cells::Edges(floats(&case["edges"]).into_iter().collect()));
            let found: Vec<f64> = floats(&case["values"]).into_iter().map(|v| grid.cell(v) as f64).collect();
            worst(&found, &numbers(&case["cells"]), 1e-12)
        }
        "log_e" | "mixture" => return None,
        other => panic!("conformance.py has a kind this test does not know: {other}"),
    })
}

/// A numeric feature with these counts; its edges do not matter to scores.
fn numeric(counts: &[u32]) -> FeatureBaseline {
    let mut feature = features(1, 100).remove(0);
    feature.cells = Cells::Edges((1..counts.len()).map(|i| i as f32).collect());
    feature.counts = counts.iter().copied().collect();
    feature
}

#[test]
fn formulas_agree_with_scipy() {
    let path =
        std::env::var_os("DRIFTLINE_CASES").map_or_else(|| root().join("tests/golden/conformance.json"), Into::into);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let cases: Vec<Value> = serde_json::from_str(&text).expect("an array of cases");
    let mut worst: BTreeMap<&str, (usize, f64)> = BTreeMap::new();
    for case in &cases {
        if let Some(error) = compare(case) {
            assert!(
                error <= 1.0,
                "{error} times the allowed error in {}",
                case.to_string().chars().take(300).collect::<String>()
            );
            let entry = worst.entry(case["kind"].as_str().expect("a kind")).or_default();
            *entry = (entry.0 + 1, entry.1.max(error));
        }
    }
    assert_eq!(worst.len(), 11, "every kind has cases: {worst:?}");
}

#[test]
fn per_cell_sums_give_the_wasserstein_distance_of_the_raw_values() {
    use driftline_collector::compare::case;
    use driftline_shared::random::Random;
    use driftline_shared::units::{ReleaseId, Seq, Stream, WallMs};
    use driftline_shared::window::Window;
    use driftline_shared::wire::{Frame, pack};
    let mut random = Random::new(5);
    let table: Vec<Vec<f32>> = (0..6_000).map(|_| vec![random.normal() as f32]).collect();
    let feature = driftline_tests::normal::baseline_of(&table).remove(0);
    let Cells::Edges(edges) = &feature.cells else { panic!("numbers") };
    let grids = [Grid::new(&feature.cells)];
    for (shift, scale) in [(0.25, 1.0), (1.0, 1.0), (-0.5, 1.0), (0.0, 1.5), (0.3, 0.7)] {
        let values: Vec<f32> = (0..6_000).map(|_| random.normal() as f32 * scale + shift).collect();
        // As they come off the wire, in windows of 60, where a position in its cell has a few bits.
        let mut merged: Option<Box<Window<1>>> = None;
        for (at, rows) in values.chunks(60).enumerate() {
            let mut window = Box::new(Window::<1>::new(ReleaseId(1), WallMs(0), 60_000, grids.iter()));
            rows.iter().for_each(|&row| window.add(grids.iter(), [row].into_iter()));
            let mut buffer = vec![0; 4_096];
            let len = pack::write(Stream(1), Seq(at as u64 + 1), [&*window].into_iter(), &mut buffer).expect("fits");
            let frame = Frame::parse(&buffer[..len]).expect("sound");
            let read = pack::Windows::open(frame.payload).expect("sound").next::<1>().expect("sound").expect("one");
            match &mut merged {
                Some(all) => all.merge(&read).expect("the same cells"),
                None => merged = Some(Box::new(read)),
            }
        }
        let sketch = &merged.expect("windows").sketches[0];
        let found =
            transport::w1_by_sums(edges, &feature.counts, &feature.sums, sketch.counts(), &sketch.sums(&feature.cells));
        let reference: Vec<f32> = table.iter().map(|row| row[0]).collect();
        let exact = case::line(
            &serde_json::json!({ "as": "scipy", "metric": "wasserstein1", "input": { "ref": reference, "cur": values } })
                .to_string(),
        );
        let exact = exact["value"].as_f64().expect("a number");
        let apart = (found - exact).abs() / exact;
        assert!(apart < 0.02, "{shift} {scale}: {found} for {exact}");
    }
}
