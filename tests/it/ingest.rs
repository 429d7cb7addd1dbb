//! What the collector makes of frames: bad ones are refused, counted and lose nothing else; the order of good ones does not matter.

use driftline_agent::pumps::{Pump, Random};
use driftline_agent::spool::{Room, Spool};
use driftline_collector::collector::{Collector, Command, Output, Settings, Topic};
use driftline_collector::explain::Lang;
use driftline_collector::ingest::Refusal;
use driftline_collector::record::Stored;
use driftline_collector::release::Release;
use driftline_collector::view;
use driftline_shared::list::{List, Text};
use driftline_shared::sketch::Grid;
use driftline_shared::units::{Generation, MonoMs, Name, Now, ReleaseId, Seq, Stream, WallMs};
use driftline_shared::window::Window;
use driftline_shared::wire::messages::{Birth, Ledger, ToDevice};
use driftline_shared::wire::topic::{DeviceTopic, Leaf};
use driftline_shared::wire::{self, FRAME_BYTES_MAX, Frame, Kind, pack};
use driftline_tests::pump_bundle::{answer, bundle};
use std::sync::LazyLock;

const WINDOW_MS: u32 = 1_000;
const START: u64 = 1_795_000_000_000;

static PACKED: LazyLock<Vec<u8>> = LazyLock::new(|| bundle("v1", false, WINDOW_MS, b"stands for a model").pack());
static RELEASE: LazyLock<Release> = LazyLock::new(|| Release::unpack(&PACKED, WallMs(START)).expect("a release").0);
static GRIDS: LazyLock<Vec<Grid>> =
    LazyLock::new(|| RELEASE.baseline.features.iter().map(|f| Grid::new(&f.cells)).collect());

fn name(text: &str) -> Name {
    Name::new(text).expect("a name")
}

fn now(ms: u64) -> Now {
    Now { mono: MonoMs(ms), wall: WallMs(START + ms) }
}

fn collector() -> Collector {
    let mut collector = Collector::new(Settings::new(name("f")), Stored::default());
    collector.command(now(0), Command::AddRelease(PACKED.clone())).expect("added");
    collector
}

fn topic(device: &str) -> String {
    DeviceTopic { fleet: name("f"), device: name(device), leaf: Leaf::Windows }.to_string()
}

/// A frame with one device's window of a slot.
fn frame(device: u64, slot: u64, fault: bool) -> Vec<u8> {
    frame_of(&RELEASE, device, slot, fault)
}

fn frame_of(release: &Release, device: u64, slot: u64, fault: bool) -> Vec<u8> {
    write(device, slot, &window_of(release, device, slot, fault))
}

fn window_of(release: &Release, device: u64, slot: u64, fault: bool) -> Box<Window<256>> {
    let window_ms = release.schema.window_ms;
    let start = WallMs(START + slot * u64::from(window_ms));
    let grids: Vec<Grid> = release.baseline.features.iter().map(|f| Grid::new(&f.cells)).collect();
    let mut window = Box::new(Window::<256>::new(release.id, start, window_ms, grids.iter()));
    let mut pump = Pump::new(device * 100_000 + slot);
    for _ in 0..20 {
        let values = pump.next(fault).values;
        let scores = answer(&values);
        let best = (0..3).max_by(|&a, &b| scores[a].total_cmp(&scores[b])).expect("three");
        let joint = release.baseline.joint.as_ref().expect("five inputs").residual(&values);
        let entropy = driftline_shared::performance::entropy(&scores).expect("scores");
        let watched = values.into_iter().chain([joint, best as f32, scores[best], entropy]);
        window.add(grids.iter(), watched);
    }
    window
}

#[test]
fn a_collector_with_an_empty_store_goes_on_in_the_middle_of_a_stream() {
    let mut spool = Spool::new(Stream(1), Room::default());
    let mut first = collector();
    let mut send = |collector: &mut Collector, slots: std::ops::Range<u64>| {
        spool.rewind();
        for slot in slots {
            spool.append(&window_of(&RELEASE, 1, slot, false));
            let mut sent = 0;
            while let Some(frame) = spool.next_to_send() {
                collector.handle(now(slot * 1_000), &topic("d"), Some("d"), &frame);
                sent += 1;
            }
            assert!(sent > 0);
            drop(collector.take_writes());
            collector.committed(now(slot * 1_000));
            while let Some(output) = collector.poll_output() {
                if let Output::Publish { payload, .. } = output
                    && let Ok(ToDevice::Ack { stream, through, .. }) =
                        Frame::parse(&payload).and_then(|frame| frame.read(Kind::ToDevice))
                {
                    spool.acknowledge(stream, through);
                }
            }
            assert_eq!(spool.windows_waiting(), 0, "slot {slot}");
        }
    };
    send(&mut first, 0..100);
    assert_eq!(first.counters().windows, 100);
    let mut second = collector();
    send(&mut second, 100..110);
    let counters = second.counters();
    assert_eq!((counters.windows, counters.frames_lost), (10, 0));
    assert!(counters.refused.is_empty(), "{:?}", counters.refused);
    // Back at the first one, which knows how far it was, and misses what the other one has.
    send(&mut first, 110..120);
    assert_eq!((first.counters().windows, first.counters().frames_lost), (110, 0));
}

#[test]
fn a_device_may_start_as_often_as_it_likes() {
    let mut collector = collector();
    for start in 0..200u64 {
        let mut spool = Spool::new(Stream(1_000_000 - start), Room::default());
        spool.append(&window_of(&RELEASE, 1, start, false));
        let frame = spool.next_to_send().expect("a frame");
        collector.handle(now(start * 1_000), &topic("d"), Some("d"), &frame);
        drop(collector.take_writes());
        collector.committed(now(start * 1_000));
    }
    assert_eq!(collector.counters().windows, 200);
    assert!(collector.counters().refused.is_empty());
}

fn write(device: u64, slot: u64, window: &Window<256>) -> Vec<u8> {
    let mut buffer = vec![0; FRAME_BYTES_MAX];
    let len = pack::write(Stream(device), Seq(slot + 1), std::iter::once(window), &mut buffer).expect("fits");
    buffer.truncate(len);
    buffer
}

#[test]
fn bad_frames_are_refused_counted_and_lose_nothing_else() {
    let good = frame(1, 0, false);
    let with = |at: usize, byte: u8| {
        let mut frame = good.clone();
        frame[at] = byte;
        frame
    };
    let mut random = Random::new(1);
    let noise: Vec<u8> = (0..300).map(|_| random.bits() as u8).collect();
    let foreign = {
        let mut window = Window::<256>::new(ReleaseId(1), WallMs(START), WINDOW_MS, GRIDS.iter());
        window.samples = 1;
        write(2, 0, &window)
    };
    let narrow = write(3, 0, &Window::<256>::new(RELEASE.id, WallMs(START), WINDOW_MS, GRIDS.iter().take(2)));
    let future = {
        let far = WallMs(START + 10 * 3_600_000);
        write(4, 0, &Window::<256>::new(RELEASE.id, far, WINDOW_MS, GRIDS.iter()))
    };
    let cases: Vec<(&str, String, &str, Vec<u8>, Refusal)> = vec![
        ("random bytes", topic("d"), "d", noise, Refusal::Malformed),
        ("empty", topic("d"), "d", Vec::new(), Refusal::Malformed),
        ("truncated", topic("d"), "d", good[..good.len() / 2].to_vec(), Refusal::Malformed),
        ("a flipped bit", topic("d"), "d", with(20, !good[20]), Refusal::Malformed),
        ("oversize", topic("d"), "d", vec![b'D'; FRAME_BYTES_MAX + 1], Refusal::Malformed),
        ("an unknown version", topic("d"), "d", with(2, 9), Refusal::Version),
        ("a name that breaks the grammar", "dl/1/f/0/no spaces!/w".into(), "no spaces!", good.clone(), Refusal::Topic),
        ("another fleet", topic("d").replace("/f/", "/g/"), "d", good.clone(), Refusal::Topic),
        ("another device's topic", topic("d"), "e", good.clone(), Refusal::Spoofed),
        ("an unknown release", topic("d"), "d", foreign, Refusal::UnknownRelease),
        ("another baseline's cells", topic("d"), "d", narrow, Refusal::Schema),
        ("a window of tomorrow", topic("d"), "d", future, Refusal::Future),
    ];
    for (what, topic_of, client, payload, refusal) in cases {
        let mut collector = collector();
        collector.handle(now(10), &topic_of, Some(client), &payload);
        let refused = collector.counters().refused.clone();
        assert_eq!(refused.into_iter().collect::<Vec<_>>(), [(refusal, 1)], "{what}");
        collector.handle(now(20), &topic("d"), Some("d"), &frame(9, 0, false));
        assert_eq!(collector.counters().windows, 1, "{what}: the next good frame counts");
        let c = collector.counters();
        assert_eq!(c.frames_received, c.frames_accepted + c.frames_duplicate + c.frames_refused, "{what}");
        assert!(view::health(&collector)["refused"][refusal.as_str()] == 1, "{what}: shown under its name");
    }
}

#[test]
fn no_bytes_make_the_collector_panic() {
    let mut collector = collector();
    let good = frame(1, 0, false);
    let mut random = Random::new(7);
    for round in 0..20_000u64 {
        let mut bytes = good.clone();
        match round % 3 {
            0 => bytes.truncate((random.bits() as usize) % bytes.len()),
            1 => (0..1 + round % 5).for_each(|_| {
                let at = random.bits() as usize % bytes.len();
                bytes[at] ^= 1 << (random.bits() % 8);
            }),
            _ => bytes = (0..random.bits() % 200).map(|_| random.bits() as u8).collect(),
        }
        for leaf in Leaf::FROM_DEVICE {
            let topic = DeviceTopic { fleet: name("f"), device: name("d"), leaf }.to_string();
            collector.handle(now(round), &topic, Some("d"), &bytes);
        }
        if round % 100 == 0 {
            collector.tick(now(round));
            collector.take_writes();
            collector.committed(now(round));
            while collector.poll_output().is_some() {}
        }
    }
    let c = collector.counters();
    assert_eq!(c.frames_received, c.frames_accepted + c.frames_duplicate + c.frames_refused);
}

/// Feeds 40 slots of six devices, half of which read high from slot 20 on; `late` moves frames to later.
fn verdicts(late: impl Fn(u64, u64) -> u64) -> (String, u64) {
    let mut collector = collector();
    let mut frames: Vec<(u64, u64, u64)> = (0..40).flat_map(|slot| (1..=6).map(move |d| (slot, slot, d))).collect();
    frames.iter_mut().for_each(|(at, slot, device)| *at += late(*slot, *device));
    frames.sort();
    let mut frames = frames.into_iter().peekable();
    for second in 0..70 {
        let at = now(second * 1_000 + 1_500);
        while let Some((_, slot, device)) = frames.next_if(|(when, ..)| *when <= second) {
            let id = format!("d{device}");
            collector.handle(at, &topic(&id), Some(&id), &frame(device, slot, device <= 3 && slot >= 20));
        }
        collector.tick(at);
        collector.take_writes();
        collector.committed(at);
        while collector.poll_output().is_some() {}
    }
    let incident = view::render(&collector, now(70_000), &Topic::Incident(1), Lang::En);
    // When it opened may differ; what it says of the readings may not.
    let told = [&incident["shift"]["bins"], &incident["since_ms"], &incident["ranges"], &incident["facts"][0]["text"]];
    (told.map(ToString::to_string).join("\n"), collector.counters().windows)
}

#[test]
fn late_windows_change_nothing_that_is_said() {
    let (in_order, windows) = verdicts(|_, _| 0);
    assert_eq!(windows, 240);
    assert!(in_order.contains("temp_c: the middle value went from"), "{in_order}");
    // Every device holds back every fifth window, by up to 12 seconds: far beyond the grace, within what is replayed.
    let (late, windows) =
        verdicts(|slot, device| if (slot + device) % 5 == 0 { 3 + (slot * 7 + device) % 10 } else { 0 });
    assert_eq!(windows, 240);
    assert_eq!(late, in_order);
}

#[test]
fn a_device_with_few_samples_gets_no_verdict() {
    // A window of this baseline has 50 samples; each frame brings 20, of a pump whose sensor is off from the first one on.
    let packed = bundle("v1", false, 5_000, b"stands for a model").pack();
    let release = Release::unpack(&packed, WallMs(START)).expect("a release").0;
    let mut collector = Collector::new(Settings::new(name("f")), Stored::default());
    collector.command(now(0), Command::AddRelease(packed)).expect("added");
    let birth = Birth {
        agent_version: Text::cut("1"),
        stream: Stream(1),
        connection: 1,
        release: Some(release.id),
        generation: Generation(0),
        labels: List::default(),
        ledger: Ledger::default(),
    };
    let mut buffer = vec![0; FRAME_BYTES_MAX];
    let len = wire::write(Kind::Birth, &birth, &mut buffer).expect("a birth fits");
    let leaf = DeviceTopic { fleet: name("f"), device: name("d1"), leaf: Leaf::Birth }.to_string();
    collector.handle(now(0), &leaf, Some("d1"), &buffer[..len]);
    let mut notes = Vec::new();
    for slot in 0..8 {
        let at = now((slot + 3) * 5_000);
        collector.handle(at, &topic("d1"), Some("d1"), &frame_of(&release, 1, slot, true));
        collector.tick(at);
        collector.take_writes();
        collector.committed(at);
        let devices = view::render(&collector, at, &Topic::Devices, Lang::En);
        let incidents = view::render(&collector, at, &Topic::Incidents, Lang::En);
        let device = &devices["items"][0];
        notes.push((device["note"].clone(), device["state"].clone()));
        if slot < 2 {
            assert_eq!(incidents["items"].as_array().map(Vec::len), Some(0), "{incidents}");
        }
    }
    assert_eq!(notes[0], ("not enough data yet (20 of 50)".into(), "learning".into()));
    assert_eq!(notes[1].0, "not enough data yet (40 of 50)");
    assert!(notes[2].0.is_null(), "{notes:?}");
    assert_eq!(notes[7].1, "drifting", "{notes:?}");
}
