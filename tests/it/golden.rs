//! Bytes that must never change: frames as version 1 wrote them. When this fails, a device in the field would not be understood.

use driftline_shared::calibration::{Calibration, Curve, Knot, Of};
use driftline_shared::list::Text;
use driftline_shared::performance::Performance;
use driftline_shared::sketch::{Cells, Grid};
use driftline_shared::units::{Generation, Name, ReleaseId, Seq, Stream, WallMs, hash};
use driftline_shared::window::Window;
use driftline_shared::wire::messages::{
    Birth, Block, Death, Event, Evidence, EvidenceRow, Gap, GapReason, Host, Labels, Ledger, Request, SlotState,
    ToDevice, Truth, Whole,
};
use driftline_shared::wire::{self, FRAME_BYTES_MAX, Frame, Kind, pack};
use std::path::Path;

fn name(text: &str) -> Name {
    Name::new(text).expect("a name")
}

fn frames() -> Vec<(&'static str, Vec<u8>)> {
    let mut buffer = vec![0; FRAME_BYTES_MAX];
    let mut all = Vec::new();
    let mut one = |file, write: &dyn Fn(&mut [u8]) -> usize| {
        let len = write(&mut buffer);
        all.push((file, buffer[..len].to_vec()));
    };
    let birth = Birth {
        agent_version: Text::cut("0.1.0"),
        stream: Stream(0x1122_3344_5566_7788),
        connection: 3,
        release: Some(ReleaseId(0x99aa)),
        generation: Generation(2),
        labels: [(name("site"), Text::cut("busan"))].into_iter().collect(),
        ledger: Ledger { samples_taken: 600, samples_in_windows: 599, samples_refused: 1, ..Ledger::default() },
    };
    one("birth", &|b| wire::write(Kind::Birth, &birth, b).expect("fits"));
    one("death", &|b| wire::write(Kind::Death, &Death { connection: 3 }, b).expect("fits"));
    let gap = Gap { stream: Stream(7), lo: Seq(5), hi: Seq(9), reason: GapReason::Evicted };
    one("gap", &|b| wire::write(Kind::Gap, &gap, b).expect("fits"));
    let event = Event::Slot {
        generation: Generation(2),
        release: ReleaseId(0x99aa),
        state: SlotState::RolledBack,
        reason: Text::cut("trial failed"),
    };
    one("event", &|b| wire::write(Kind::Event, &event, b).expect("fits"));
    let file = driftline_shared::manifest::Digest([7; 32]);
    one("request", &|b| {
        wire::write(Kind::Request, &Request::Block { file, offset: 65_536, bytes: 32_768 }, b).expect("fits")
    });
    let ack = ToDevice::Ack { stream: Stream(7), through: Seq(300), wall: WallMs(1_795_300_000_000) };
    one("ack", &|b| wire::write(Kind::ToDevice, &ack, b).expect("fits"));
    let desired = ToDevice::Desired { generation: Generation(2), manifest: b"{}".iter().copied().collect() };
    one("desired", &|b| wire::write(Kind::ToDevice, &desired, b).expect("fits"));
    one("host", &|b| wire::write(Kind::Host, &Host { epoch: 4, online: true, slow_down_s: 0 }, b).expect("fits"));
    one("block", &|b| Block { file, offset: 32_768, bytes: b"model" }.write(b).expect("fits"));
    one("windows", &|b| {
        let grids =
            [Cells::Edges([0.0, 1.0].into_iter().collect()), Cells::Categories(2)].map(|cells| Grid::new(&cells));
        let mut window = Window::<4>::new(ReleaseId(0x99aa), WallMs(1_795_300_020_000), 60_000, grids.iter());
        for row in [[-0.5, 0.0], [0.5, 1.0], [2.0, 9.0], [f32::NAN, 0.0], [f32::INFINITY, 1.0]] {
            window.add(grids.iter(), row.into_iter());
        }
        (window.refused.malformed, window.labelled, window.correct) = (2, 5, 4);
        pack::write(Stream(7), Seq(300), [&window].into_iter(), b).expect("fits")
    });
    let labels = Labels {
        batch: 77,
        classes: [Text::cut("ok"), Text::cut("worn")].into_iter().collect(),
        truths: [(hash(b"row-1"), 1), (hash(b"row-2"), 0)].into_iter().collect(),
    };
    one("labels", &|b| wire::write(Kind::Labels, &labels, b).expect("fits"));
    let row = EvidenceRow {
        id: hash(b"row-1"),
        at: WallMs(1_795_300_020_500),
        inputs: [0.5, f32::NAN].into_iter().collect(),
        outputs: [0.25, 0.75].into_iter().collect(),
        whole: 3,
    };
    let evidence = Evidence {
        request: 41,
        release: Some(ReleaseId(0x99aa)),
        part: 0,
        parts: 1,
        refused: Text::default(),
        rows: [row].into_iter().collect(),
    };
    one("evidence", &|b| wire::write(Kind::Evidence, &evidence, b).expect("fits"));
    one("whole", &|b| Whole::write(41, 0, 0, &[0.5, -1.0, f32::INFINITY], b).expect("fits"));
    let truth = Event::Truth(Truth { batch: 77, counted: 300, repeated: 2, unknown: 1, refused: 0 });
    one("truth", &|b| wire::write(Kind::Event, &truth, b).expect("fits"));
    one("scores", &|b| {
        let knots = [(0.0, 0.1), (0.5, 0.6), (0.75, 0.9)].map(|(from, p)| Knot { from, p, rows: 40 });
        let curves = (0..3).map(|_| Curve(knots.into_iter().collect())).collect();
        let calibration = Calibration { of: Of::EachClass, rows: 120, held_out: true, curves };
        let mut window = Window::<4>::new(ReleaseId(0x99aa), WallMs(1_795_300_020_000), 60_000, std::iter::empty());
        let mut performance = Performance::new(Some(&calibration), 3);
        for (scores, predicted, truth) in [([0.8, 0.1, 0.1], 0, 0), ([0.2, 0.6, 0.2], 1, 2), ([0.3, 0.3, 0.4], 2, 2)] {
            performance.add(&calibration, &scores, predicted);
            performance.judge(predicted, truth);
        }
        (window.samples, window.labelled, window.correct) = (3, 3, 2);
        window.performance = Some(performance);
        pack::write(Stream(7), Seq(301), [&window].into_iter(), b).expect("fits")
    });
    all
}

#[test]
fn version_1_frames_are_as_they_were() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/wire");
    for (file, bytes) in frames() {
        assert!(Frame::parse(&bytes).is_ok());
        let path = dir.join(format!("{file}.v1.bin"));
        if std::env::var_os("DRIFTLINE_BLESS").is_some() {
            std::fs::create_dir_all(&dir).expect("a folder");
            std::fs::write(&path, &bytes).expect("written");
        }
        let golden = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        assert_eq!(bytes, golden, "{file} is written otherwise than version 1 wrote it");
    }
}

#[test]
fn a_frame_of_another_version_is_refused_by_name() {
    for (file, mut bytes) in frames() {
        bytes[2] = 2;
        assert_eq!(Frame::parse(&bytes), Err(wire::Malformed::Version(2)), "{file}");
    }
}
