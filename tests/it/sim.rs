//! The whole fleet in one thread, from one seed.
//!
//! `DRIFTLINE_SEEDS=1000` makes a campaign of the few seeds that CI runs.

use driftline_agent::bundle::Bundle;
use driftline_collector::collector::{Query, Topic};
use driftline_collector::detect::budget::Budget;
use driftline_collector::detect::panel::Panel;
use driftline_collector::io::store::Store;
use driftline_tests::pump_bundle::bundle;
use driftline_tests::sim::{FAILS, Sim, Trouble};
use std::sync::{Arc, LazyLock};

static V1: LazyLock<Bundle> = LazyLock::new(|| bundle("v1", false, 1_000, b"stands for model 1"));
static V2: LazyLock<Bundle> = LazyLock::new(|| bundle("v2", true, 1_000, b"stands for model 2"));

/// Plays the demo's story; returns the simulator after its end.
fn story(seed: u64, trouble: Trouble, dir: &tempfile::TempDir) -> Sim {
    let mut sim = Sim::new(seed, 6, &V1, trouble, dir.path());
    sim.run(30, false);
    let none = sim.view(&Topic::Incidents);
    assert_eq!(none["items"].as_array().map(Vec::len), Some(0), "seed {seed}: {none}");
    sim.run(40, true);
    let open = sim.view(&Topic::Incident(1));
    assert_eq!(open["state"], "open", "seed {seed}");
    assert!(open["title"].as_str().is_some_and(|t| t.starts_with("temp_c moved up by about ")), "seed {seed}: {open}");
    sim.add(&V2);
    sim.roll_out("v2", Query::Incident("INC-1".into()));
    sim.run(120, true);
    sim
}

#[test]
fn a_quiet_world_plays_the_story_and_counts_every_sample_once() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut sim = story(1, Trouble::NONE, &dir);
    assert_eq!(sim.view(&Topic::Rollout(1))["state"], "done");
    assert_eq!(sim.view(&Topic::Incident(1))["state"], "resolved");
    assert_eq!(sim.releases(), ["v2", "v2", "v2", "v1", "v1", "v1"]);
    sim.finish();
    let (taken, merged) = sim.samples();
    assert_eq!((taken, merged), (6 * 1900, 6 * 1900));
}

#[test]
fn a_fault_that_comes_back_before_long_is_the_incident_of_before() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut sim = Sim::new(11, 8, &V1, Trouble::NONE, dir.path());
    sim.run(30, false);
    let incidents = |sim: &Sim| {
        let list = sim.view(&Topic::Incidents);
        let list = list["items"].as_array().expect("a list");
        list.iter().map(|i| i["state"].as_str().unwrap_or_default().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(incidents(&sim), Vec::<String>::new());
    let until = |sim: &mut Sim, fault: bool, wanted: &str| {
        for _ in 0..120 {
            sim.run(1, fault);
            if incidents(sim) == [wanted] {
                return;
            }
        }
        panic!("not {wanted}: {:?}", incidents(sim));
    };
    until(&mut sim, true, "open");
    sim.run(10, true);
    until(&mut sim, false, "resolved");
    sim.run(3, false);
    until(&mut sim, true, "open");
    sim.run(10, true);
    assert_eq!(incidents(&sim).len(), 1, "{:?}", incidents(&sim));
}

#[test]
fn what_detectors_have_learned_is_in_the_store() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut sim = Sim::new(4, 4, &V1, Trouble::NONE, dir.path());
    sim.run(200, false);
    drop(sim);
    let mut store = Store::open(dir.path()).expect("the store");
    let epoch = store.next_epoch().expect("an epoch");
    let stored = store.load(epoch).expect("what is there");
    let [(release, body)] = &stored.detectors[..] else { panic!("one release: {}", stored.detectors.len()) };
    let release = stored.releases.into_iter().find(|known| known.id == *release).expect("it is known");
    let mut panel = Panel::new(Arc::new(release), Budget::default());
    assert!(panel.restore(body));
    let seen = panel.seen(&stored.windows[0].0).slots;
    assert!(seen > 50, "{seen} slots");
    // What is stored of windows goes on where it ends.
    let settled = panel.closed().expect("a slot");
    assert!(stored.windows.iter().any(|(_, slot, _)| *slot == settled + 1));
}

#[test]
fn cuts_repeats_delays_and_crashes_lose_and_double_nothing() {
    let seeds = std::env::var("DRIFTLINE_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(4);
    let mut crashes = 0;
    for seed in 0..seeds {
        let dir = tempfile::tempdir().expect("a folder");
        let mut sim = story(seed, Trouble::BAD, &dir);
        sim.finish();
        let (taken, merged) = sim.samples();
        assert_eq!(taken, merged, "seed {seed}");
        crashes += sim.crashes;
    }
    assert!(crashes > 0, "the collector never died: the test would not notice what it should");
}

#[test]
fn power_cuts_full_disks_and_clocks_of_1970_lose_nothing_that_was_durable() {
    let seeds = std::env::var("DRIFTLINE_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(12);
    let (mut cuts, mut lost, mut steps) = (0, 0, 0);
    for seed in 0..seeds {
        let dir = tempfile::tempdir().expect("a folder");
        let mut sim = Sim::new(seed, 3, &V1, Trouble::DARK, dir.path()).with_disks();
        sim.run(60, false);
        sim.finish();
        let ((taken, merged), durable) = (sim.samples(), sim.durable_samples());
        assert!(merged >= durable, "seed {seed}: {merged} samples merged, {durable} were durable");
        assert!(merged <= taken, "seed {seed}: {merged} samples merged of {taken}");
        assert_eq!(sim.refused(), serde_json::json!({}), "seed {seed}: nothing is refused");
        cuts += sim.power_cuts;
        steps += sim.clock_steps;
        lost += taken - merged;
    }
    println!(
        "{seeds} seeds: {cuts} power cuts cost {lost} samples that were in no durable frame; clocks were set {steps} times"
    );
    assert!(cuts > 0 && lost > 0 && steps > 0, "the test would not notice what it should");
}

#[test]
fn devices_with_little_room_widen_their_windows_and_lose_no_sample() {
    let seeds = std::env::var("DRIFTLINE_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(8);
    let mut all = 0;
    for seed in 0..seeds {
        let dir = tempfile::tempdir().expect("a folder");
        let mut sim = Sim::new(seed, 3, &V1, Trouble::REMOTE, dir.path());
        sim.run(90, false);
        let (merged, evicted) = sim.pressed();
        sim.finish();
        assert_eq!(evicted, 0, "seed {seed}");
        let (taken, stored) = sim.samples();
        assert_eq!(taken, stored, "seed {seed}");
        assert_eq!(sim.refused(), serde_json::json!({}), "seed {seed}: nothing is refused");
        all += merged;
    }
    assert!(all > 0, "no spool was ever full: the test would not notice what it should");
    println!("{seeds} seeds: {all} windows became part of wider ones");

    let mut all = 0;
    for seed in 0..seeds {
        let dir = tempfile::tempdir().expect("a folder");
        let dark = Trouble { heal: 0.002, room: 6 << 10, ..Trouble::DARK };
        let mut sim = Sim::new(seed, 3, &V1, dark, dir.path()).with_disks();
        sim.run(90, false);
        all += sim.pressed().0;
        sim.finish();
        let ((taken, stored), durable) = (sim.samples(), sim.durable_samples());
        assert!(durable <= stored && stored <= taken, "seed {seed}: {durable} durable, {stored} stored, {taken} taken");
        assert_eq!(sim.refused(), serde_json::json!({}), "seed {seed}: nothing is refused");
    }
    assert!(all > 0, "no spool was ever full where power goes");
}

#[test]
fn the_same_seed_is_the_same_world() {
    let run = || {
        let dir = tempfile::tempdir().expect("a folder");
        let mut sim = Sim::new(9, 4, &V1, Trouble::BAD, dir.path());
        sim.run(20, false);
        (sim.samples(), sim.crashes, sim.view(&Topic::Devices).to_string())
    };
    assert_eq!(run(), run());
}

#[test]
fn a_release_that_fails_its_trial_goes_back_and_the_rollout_stops_by_itself() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut sim = Sim::new(3, 6, &V1, Trouble::NONE, dir.path());
    sim.run(10, false);
    sim.add(&bundle(FAILS, false, 1_000, b"stands for a model that fails"));
    sim.roll_out(FAILS, Query::All(true));
    sim.run(20, false);
    let rollout = sim.view(&Topic::Rollout(1));
    assert_eq!(rollout["state"], "paused", "{rollout}");
    assert_eq!(
        rollout["sentence"],
        "Stopped by itself in stage 1 of 3: 1 of 1 devices failed (limit 10%). Nothing more is installed."
    );
    assert!(rollout["failures"][0]["reason"].as_str().is_some_and(|r| !r.is_empty()), "{rollout}");
    assert_eq!(sim.releases(), ["v1"; 6], "every device runs what it ran before");
    sim.finish();
    let (taken, merged) = sim.samples();
    assert_eq!(taken, 6 * 300);
    assert!(
        merged >= taken - 40,
        "only samples that the failing model could not answer have no verdict: {merged} of {taken}"
    );
}

#[test]
fn an_aborted_rollout_returns_every_device_to_what_it_ran() {
    for (seed, trouble) in [(4, Trouble::NONE), (5, Trouble::BAD)] {
        let dir = tempfile::tempdir().expect("a folder");
        let mut sim = Sim::new(seed, 6, &V1, trouble, dir.path());
        sim.run(10, false);
        sim.add(&bundle("again", false, 1_000, b"stands for a model as good as the first"));
        sim.roll_out("again", Query::All(true));
        sim.run(20, false);
        let on_it = sim.releases().iter().filter(|r| *r == "again").count();
        assert!((1..6).contains(&on_it), "some have it, some wait: {:?}", sim.releases());
        sim.abort(1);
        sim.run(60, false);
        sim.finish();
        assert_eq!(sim.releases(), ["v1"; 6], "seed {seed}");
        assert_eq!(
            sim.view(&Topic::Rollout(1))["sentence"],
            "Taken back. Every device runs what it ran before.",
            "seed {seed}"
        );
        let (taken, merged) = sim.samples();
        assert_eq!(taken, merged, "seed {seed}");
    }
}

#[test]
fn a_release_on_which_devices_drift_stops_its_own_rollout() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut sim = Sim::new(6, 6, &V1, Trouble::NONE, dir.path());
    sim.run(10, false);
    // Made for sensors that read high; these do not.
    sim.add(&V2);
    sim.roll_out("v2", Query::All(true));
    sim.run(60, false);
    let rollout = sim.view(&Topic::Rollout(1));
    let sentence = rollout["sentence"].as_str().expect("a sentence");
    assert!(sentence.starts_with("Stopped by itself in stage 1 of 3: 1 device drifts on the new model."), "{sentence}");
    assert_eq!(sim.releases().iter().filter(|r| *r == "v2").count(), 1, "{:?}", sim.releases());
}
