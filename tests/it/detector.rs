//! The detector on simulated streams: silent when nothing changes, quick when something does. Small runs of the tables that
//! the evaluation will make at full size; seeds are fixed, so a failure is a change of behaviour and not of luck.

use crate::fleet::{binary, run};
use driftline_agent::pumps::Random;
use driftline_shared::baseline::FeatureBaseline;
use driftline_shared::drift::detector::OWN_WINDOWS;
use driftline_shared::drift::scores::{Family, Tally};
use driftline_shared::sketch::Grid;
use driftline_tests::normal::{Stream, baseline_of, features, features_of, window};
use std::process::Command;

const N: usize = 60;
/// The change comes when the stream's own level has been learned.
const AT: u64 = OWN_WINDOWS as u64;

fn ar_table(rng: &mut Random, rows: usize, rho: f64) -> Vec<Vec<f32>> {
    let mut x = 0.0;
    let innovation = (1.0 - rho * rho).sqrt();
    (0..rows)
        .map(|_| {
            x = rho * x + innovation * rng.normal();
            vec![x as f32]
        })
        .collect()
}

/// Alarms in `streams` × `windows` null windows of an AR(1) process, baseline from `rows` rows of its own.
fn null_alarms(rho: f64, rows: usize, streams: usize, windows: u64, threshold: f64) -> usize {
    let mut rng = Random::new(0x5eed);
    let mut alarms = 0;
    for _ in 0..streams {
        let feature = baseline_of(&ar_table(&mut rng, rows, rho)).remove(0);
        let mut stream = Stream::new(&feature, 20);
        for slot in 0..windows {
            let table = ar_table(&mut rng, N, rho);
            let counts = counts(&feature, &table);
            alarms += usize::from(
                stream.step(Tally { counts: &counts, missing: 0, repeats: 0 }, slot, threshold).raised.is_some(),
            );
        }
    }
    alarms
}

fn counts(feature: &FeatureBaseline, table: &[Vec<f32>]) -> Vec<u32> {
    let grid = Grid::new(&feature.cells);
    let mut counts = vec![0; grid.len()];
    table.iter().for_each(|row| counts[grid.cell(row[0])] += 1);
    counts
}

/// As docs/evaluation.md has it, of a few windows each; tests/nightly has all of them.
#[test]
fn the_figures_of_the_evaluation_are_kept() {
    let mut command = Command::new(binary("driftline"));
    command.args(["evaluate", "--quick", "--check", "--only", "null", "--only", "together", "--only", "fleet"]);
    let (code, tables, said) = run(&mut command);
    assert_eq!(code, 0, "{said}");
    assert_eq!(tables.matches("## ").count(), 4, "{tables}");
}

#[test]
fn nothing_changes_nothing_is_said() {
    // 40 baselines × 500 windows = 20 000 at ARL >= 100 000 each: 0.2 expected at the very most.
    for rho in [0.0, 0.5, 0.9] {
        assert_eq!(null_alarms(rho, 6_000, 40, 500, 1e5), 0, "AR({rho})");
    }
    assert_eq!(null_alarms(0.0, 1_000, 40, 500, 1e5), 0, "a short baseline");
}

#[test]
fn one_wild_window_at_the_start_is_not_taken_for_the_streams_own_level() {
    let mut feature = features(1, 6_000).remove(0);
    // Devices that differ a good deal, so that much is believed of what a stream shows.
    feature.omega = Some(0.2);
    let features = [feature];
    let mut rng = Random::new(11);
    let mut stream = Stream::new(&features[0], 4);
    let mut alarms = 0;
    for slot in 0..300 {
        let spread = match slot {
            0 => 1.4,
            1 => 0.85,
            _ => 1.0,
        };
        let window = window(&features, &mut rng, N, |_, z| spread * z);
        alarms += usize::from(stream.step(&window.sketches[0], slot, 1e6).raised.is_some());
    }
    assert_eq!(alarms, 0);
}

#[test]
fn a_level_is_learned_from_the_first_windows_and_from_none_after_them() {
    for rho in [0.0, 0.9] {
        let mut rng = Random::new(0x1ea4);
        let mut learned = Vec::new();
        for _ in 0..20 {
            let feature = baseline_of(&ar_table(&mut rng, 6_000, rho)).remove(0);
            let mut stream = Stream::new(&feature, 20);
            for slot in 0..AT + 100 {
                let table = ar_table(&mut rng, N, rho);
                stream.step(Tally { counts: &counts(&feature, &table), missing: 0, repeats: 0 }, slot, 1e5);
                if slot + 1 == AT {
                    learned.push(stream.learned(N));
                }
            }
            assert_eq!(learned.last(), Some(&stream.learned(N)), "AR({rho}): no window after the first {AT} counts");
        }
        let most = learned.iter().filter(|&&windows| windows >= 0.9 * AT as f64).count();
        assert!(most >= 17, "AR({rho}): healthy streams learn from nearly all of them: {learned:?}");
    }
}

/// Windows until the alarm after the change, over seeds; and what it was called.
fn delays(map: impl Fn(f64) -> f64, seeds: u64) -> (Vec<u64>, Vec<Family>) {
    let mut found: Vec<(u64, Family)> = (0..seeds)
        .map(|seed| {
            // Another baseline each time: one draw may be lucky or not. Nothing is tolerated here beyond its error.
            let mut feature = features_of(0xba5e + seed, 1, 6_000).remove(0);
            feature.tolerance = 0.0;
            let mut stream = Stream::new(&feature, 20);
            let mut rng = Random::new(seed);
            for slot in 0..1_000 {
                let window =
                    window(std::slice::from_ref(&feature), &mut rng, N, |_, z| if slot < AT { z } else { map(z) });
                if let Some(alarm) = stream.step(&window.sketches[0], slot, 1e5).raised {
                    assert!(slot >= AT, "a false alarm at {slot}");
                    assert!(alarm.onset.abs_diff(AT) <= slot - AT + 10, "onset {} for a change at {AT}", alarm.onset);
                    return (slot - AT + 1, alarm.family);
                }
            }
            panic!("never seen");
        })
        .collect();
    found.sort_by_key(|f| f.0);
    found.into_iter().unzip()
}

fn median_delay(map: impl Fn(f64) -> f64) -> u64 {
    let (delays, _) = delays(map, 31);
    delays[15]
}

#[test]
fn shifts_and_spreads_are_seen_as_soon_as_promised() {
    let found = [
        median_delay(|z| z + 0.25),
        median_delay(|z| z + 0.5),
        median_delay(|z| z + 1.0),
        median_delay(|z| z * 1.5),
        median_delay(|z| z / 1.5),
    ];
    // What was measured (12, 3, 1, 3, 4), and some room for other draws.
    let promised = [18, 5, 1, 4, 6];
    assert!(found.iter().zip(promised).all(|(found, promised)| *found <= promised), "medians {found:?}");
}

#[test]
fn a_change_is_called_by_its_name() {
    let called = |map: fn(f64) -> f64, family| delays(map, 20).1.iter().filter(|f| **f == family).count();
    let found = [
        called(|z| z + 2.0, Family::Location),
        called(|z| z * 2.0, Family::Scale),
        called(|z| if z > 0.8 { f64::NAN } else { z }, Family::Missing),
    ];
    assert!(found.iter().all(|n| *n >= 19), "of 20 each: {found:?}");
}

#[test]
fn an_alarm_is_let_go_when_values_return() {
    let feature = features(1, 6_000).remove(0);
    let mut stream = Stream::new(&feature, 20);
    let mut rng = Random::new(3);
    let mut cleared = None;
    for slot in 0..200 {
        let sick = (50..100).contains(&slot);
        let window = window(std::slice::from_ref(&feature), &mut rng, N, |_, z| if sick { z + 1.0 } else { z });
        let step = stream.step(&window.sketches[0], slot, 1e5);
        assert!(!step.cleared || !sick, "let go at {slot} while the shift stands");
        cleared = cleared.or(step.cleared.then_some(slot));
    }
    assert_eq!(cleared, Some(104), "five calm windows after the last sick one");
}

#[test]
fn a_device_that_differs_a_little_is_learned_and_a_change_of_it_is_seen() {
    let feature = features(1, 6_000).remove(0);
    let mut stream = Stream::new(&feature, 20);
    let mut rng = Random::new(5);
    let mut seen = None;
    for slot in 0..2 * AT {
        // Two standard deviations of what healthy devices are reckoned to differ by; then half a standard deviation more.
        let level = if slot < AT { 0.2 } else { 0.7 };
        let window = window(std::slice::from_ref(&feature), &mut rng, N, |_, z| z + level);
        if stream.step(&window.sketches[0], slot, 1e5).raised.is_some() {
            seen = seen.or(Some(slot));
        }
    }
    assert!(seen.is_some_and(|slot| (AT..AT + 15).contains(&slot)), "seen at {seen:?}");
}

#[test]
fn a_stuck_sensor_is_seen_in_its_first_window_wherever_it_is_stuck() {
    let feature = features(1, 6_000).remove(0);
    for value in [-3.0, 0.0, 0.1, 5.0] {
        let mut stream = Stream::new(&feature, 20);
        let window = window(std::slice::from_ref(&feature), &mut Random::new(1), N, |_, _| value);
        let alarm = stream.step(&window.sketches[0], 0, 1e9).raised.expect("an alarm");
        assert_eq!(alarm.family, Family::Repeats, "stuck at {value}");
    }
}

#[test]
fn a_change_that_stays_is_not_let_go_and_one_that_ends_is() {
    let feature = features(1, 6_000).remove(0);
    let (mut raised, mut too_soon, mut ended) = (0, 0, 0);
    for seed in 0..40 {
        let mut stream = Stream::new(&feature, 20);
        let mut rng = Random::new(1_000 + seed);
        for slot in 0..3 * AT {
            let level = if (AT..2 * AT).contains(&slot) { 0.25 } else { 0.0 };
            let window = window(std::slice::from_ref(&feature), &mut rng, N, |_, z| z + level);
            let step = stream.step(&window.sketches[0], slot, 1e7);
            raised += usize::from(step.raised.is_some());
            too_soon += usize::from(step.cleared && slot < 2 * AT);
            ended += usize::from(step.cleared && slot >= 2 * AT);
        }
    }
    assert_eq!((raised, too_soon, ended), (40, 0, 40));
}
