//! The newest samples as they were, with what the model said: kept only where the configuration says so, given out only when the collector
//! asks, and never more than the configuration allows.
//!
//! Nothing is kept by default. What was given out for a request is given again when it is asked again (a link may break), without
//! counting anew. What leaves is counted on the disk first, so that a restart does not make the day begin with nothing given. Another release empties the ring: its answers would be of another kind.

use crate::agent::Sample;
use crate::slot::Given;
use driftline_shared::list::{List, Text};
use driftline_shared::units::{MonoMs, Now, ReleaseId, WallMs};
use driftline_shared::wire::messages::{
    EVIDENCE_OUTPUTS_MAX, EVIDENCE_ROWS_MAX, EVIDENCE_SAMPLES_MAX, Evidence, EvidenceRequest, EvidenceRow,
    WHOLE_PART_MAX, WHOLE_VALUES_MAX,
};
use std::collections::VecDeque;

/// Most samples that are kept.
pub const SAMPLES_MAX: u32 = 100_000;
/// Most memory of what is kept; fewer samples are kept where they are wide.
const BYTES_MAX: usize = 32 << 20;
/// The time that `per_day` counts in.
const DAY_MS: u64 = 86_400_000;
/// Clocks that say an earlier time were never set: 2024.
const DATED: WallMs = WallMs(1_704_067_200_000);

/// What may be kept and given out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Samples that are kept; none keeps nothing.
    pub samples: u32,
    /// Samples that may leave the device within a day.
    pub per_day: u32,
}

impl Default for Policy {
    fn default() -> Self {
        Self { samples: 0, per_day: 100 }
    }
}

#[derive(Debug)]
struct Kept {
    id: u64,
    at: WallMs,
    /// Inputs, then outputs, then what the model took, where that is more than the inputs.
    values: Vec<f32>,
    inputs: usize,
    outputs: usize,
}

impl Kept {
    fn inputs(&self) -> &[f32] {
        &self.values[..self.inputs]
    }

    fn outputs(&self) -> &[f32] {
        &self.values[self.inputs..][..self.outputs]
    }

    fn whole(&self) -> &[f32] {
        &self.values[self.inputs + self.outputs..]
    }
}

/// An answer, and how much of it is on its way already.
#[derive(Debug)]
struct Answer {
    request: u64,
    rows: Vec<Box<Evidence>>,
    /// Samples as the model took them, where their rows say that they follow.
    whole: Vec<(u16, Vec<f32>)>,
    sent_rows: usize,
    /// Of the first sample of `whole` that is not sent, and how many of its numbers are.
    sent_whole: (usize, usize),
}

impl Answer {
    fn is_sent(&self) -> bool {
        self.sent_rows >= self.rows.len() && self.sent_whole.0 >= self.whole.len()
    }

    fn next(&mut self) -> Option<Part<'_>> {
        if let Some(rows) = self.rows.get(self.sent_rows) {
            self.sent_rows += 1;
            return Some(Part::Rows(rows));
        }
        let (at, sent) = self.sent_whole;
        let (sample, values) = self.whole.get(at)?;
        let part = &values[sent..values.len().min(sent + WHOLE_PART_MAX)];
        let end = sent + part.len();
        self.sent_whole = if end < values.len() { (at, end) } else { (at + 1, 0) };
        Some(Part::Whole { request: self.request, sample: *sample, offset: sent as u32, values: part })
    }
}

/// Part of an answer, as a frame takes it.
#[derive(Debug)]
pub enum Part<'a> {
    /// Samples, or why there are none.
    Rows(&'a Evidence),
    /// Part of a sample as the model took it.
    Whole {
        /// What this answers.
        request: u64,
        /// Which sample of the answer.
        sample: u16,
        /// Where in the sample the numbers belong.
        offset: u32,
        /// The numbers.
        values: &'a [f32],
    },
}

/// The ring, and what waits to be given out.
#[derive(Debug)]
pub struct Ring {
    policy: Policy,
    kept: VecDeque<Kept>,
    /// Since when samples are counted by the timer of this start, and how many left.
    day: (MonoMs, Given),
    given: u64,
    /// What was asked last.
    last: Option<Answer>,
    /// The write that has to be on the disk before anything leaves.
    held: Option<u64>,
}

impl Ring {
    /// An empty ring; `given` is what left in the day of the last start. Its day goes on by the calendar, where that was known, else by
    /// this start's timer.
    pub fn new(policy: Policy, given: Given) -> Self {
        Self { policy, kept: VecDeque::new(), day: (MonoMs(0), given), given: 0, last: None, held: None }
    }

    /// Nothing leaves until this write is on the disk.
    pub fn hold(&mut self, write: u64) {
        self.held = Some(write);
    }

    /// A write is on the disk, or is not: then the answer is dropped, and the samples stay counted as given.
    pub fn written(&mut self, write: u64, is_written: bool) {
        if self.held != Some(write) {
            return;
        }
        self.held = None;
        if !is_written {
            self.last = None;
        }
    }

    /// Keeps a sample, where samples are kept. Memory of the oldest one is used again.
    pub fn remember(&mut self, id: u64, sample: &Sample<'_>) {
        if self.policy.samples == 0 {
            return;
        }
        let wide = sample.inputs.len() + EVIDENCE_OUTPUTS_MAX + sample.whole.len();
        let bytes = size_of::<Kept>() + size_of::<f32>() * wide;
        let full = self.kept.len() >= (self.policy.samples as usize).min(BYTES_MAX / bytes).max(1);
        let mut values = if full { self.kept.pop_front().map(|k| k.values) } else { None }.unwrap_or_default();
        values.clear();
        values.extend_from_slice(sample.inputs);
        values.extend(sample.outputs.values().into_iter().flatten().take(EVIDENCE_OUTPUTS_MAX));
        let (inputs, outputs) = (sample.inputs.len(), values.len() - sample.inputs.len());
        values.extend_from_slice(sample.whole);
        self.kept.push_back(Kept { id, at: sample.event_time, values, inputs, outputs });
    }

    /// Another release answers.
    pub fn clear(&mut self) {
        self.kept.clear();
    }

    /// Samples that are kept, and samples that ever left.
    pub fn counts(&self) -> [u64; 2] {
        [self.kept.len() as u64, self.given]
    }

    /// Somebody asks for samples. How many have been given out within this day, where that is more than before.
    pub fn ask(&mut self, now: Now, release: Option<ReleaseId>, request: &EvidenceRequest) -> Option<Given> {
        if let Some(answer) = self.last.as_mut().filter(|answer| answer.request == request.request) {
            // Asked again: from the beginning, but not before all of it had its turn.
            if answer.is_sent() {
                (answer.sent_rows, answer.sent_whole) = (0, (0, 0));
            }
            return None;
        }
        let before = self.given;
        let mut whole = Vec::new();
        let parts = match self.pick(now, request) {
            Ok(kept) => {
                let wholes = kept.iter().zip(0u16..).map(|(kept, at)| (at, kept.whole().to_vec()));
                whole = wholes.filter(|(_, values)| !values.is_empty()).collect();
                let rows: Vec<EvidenceRow> = kept.into_iter().map(row).collect();
                self.day.1.samples += rows.len() as u32;
                self.given += rows.len() as u64;
                let parts = rows.len().div_ceil(EVIDENCE_ROWS_MAX);
                let part = |(part, rows): (usize, &[EvidenceRow])| {
                    let rows = rows.iter().cloned().collect();
                    let (part, parts, refused) = (part as u16, parts as u16, Text::default());
                    Box::new(Evidence { request: request.request, release, part, parts, refused, rows })
                };
                rows.chunks(EVIDENCE_ROWS_MAX).enumerate().map(part).collect()
            }
            Err(why) => {
                let (refused, rows) = (Text::cut(&why), List::default());
                vec![Box::new(Evidence { request: request.request, release, part: 0, parts: 1, refused, rows })]
            }
        };
        self.last = Some(Answer { request: request.request, rows: parts, whole, sent_rows: 0, sent_whole: (0, 0) });
        (self.given > before).then_some(self.day.1)
    }

    /// The next part to send.
    pub fn next_part(&mut self) -> Option<Part<'_>> {
        self.last.as_mut().filter(|_| self.held.is_none())?.next()
    }

    /// Whether [`Ring::next_part`] has something.
    pub fn is_due(&self) -> bool {
        self.held.is_none() && self.last.as_ref().is_some_and(|answer| !answer.is_sent())
    }

    /// The newest of the samples that are asked for, oldest first.
    fn pick(&mut self, now: Now, request: &EvidenceRequest) -> Result<Vec<&Kept>, String> {
        if self.policy.samples == 0 {
            return Err("this device keeps no samples: set evidence.samples in its configuration".into());
        }
        let (begun, given) = self.day;
        let dated = given.since >= DATED && now.wall.0 >= given.since.0.saturating_add(DAY_MS);
        if given.samples == 0 || dated || now.mono.0 >= begun.0.saturating_add(DAY_MS) {
            self.day = (now.mono, Given { since: now.wall, samples: 0 });
        }
        let left = self.policy.per_day.saturating_sub(self.day.1.samples) as usize;
        if left == 0 {
            let per_day = self.policy.per_day;
            return Err(format!(
                "this device has given out the {per_day} samples that evidence.per_day allows within a day"
            ));
        }
        let most = usize::from(request.samples).min(left).min(EVIDENCE_SAMPLES_MAX);
        let wanted = |kept: &&Kept| (request.from..=request.to).contains(&kept.at);
        let mut left = WHOLE_VALUES_MAX;
        let fits = |kept: &&Kept| {
            let wide = kept.whole().len();
            let fits = wide <= left;
            left = left.saturating_sub(wide);
            fits
        };
        let mut rows: Vec<&Kept> = self.kept.iter().rev().filter(wanted).take(most).take_while(fits).collect();
        rows.reverse();
        if rows.is_empty() { Err("no sample of that time is kept on this device".into()) } else { Ok(rows) }
    }
}

fn row(kept: &Kept) -> EvidenceRow {
    let (inputs, outputs) = (kept.inputs().iter().copied().collect(), kept.outputs().iter().copied().collect());
    EvidenceRow { id: kept.id, at: kept.at, inputs, outputs, whole: kept.whole().len() as u32 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inference::Outputs;

    const NOW: Now = Now { mono: MonoMs(1_000), wall: WallMs(1_795_000_000_000) };

    fn sample<'a>(at: u64, inputs: &'a [f32], outputs: Outputs<'a>, whole: &'a [f32]) -> Sample<'a> {
        Sample { event_time: WallMs(at), inputs, whole, outputs, trial: None, label: None, id: None }
    }

    fn filled(samples: u32, per_day: u32, many: u64) -> Ring {
        let mut ring = Ring::new(Policy { samples, per_day }, Given::default());
        for at in 0..many {
            let (inputs, outputs) = ([at as f32, 0.5], [0.25, 0.75]);
            let outputs = Outputs::Values(&outputs);
            ring.remember(at + 100, &sample(at, &inputs, outputs, &[]));
        }
        ring
    }

    fn asked(ring: &mut Ring, now: Now, request: u64, samples: u16, from: u64) -> Result<Vec<u64>, String> {
        let (from, to) = (WallMs(from), WallMs(u64::MAX));
        ring.ask(now, None, &EvidenceRequest { request, samples, from, to });
        let mut ids = Vec::new();
        while let Some(part) = ring.next_part() {
            let Part::Rows(part) = part else { continue };
            if part.refused != Text::default() {
                return Err(part.refused.to_string());
            }
            assert!(part.rows.iter().all(|r| r.inputs.len() == 2 && r.outputs.len() == 2));
            ids.extend(part.rows.iter().map(|r| r.id));
        }
        Ok(ids)
    }

    #[test]
    fn the_newest_samples_are_given_out_within_the_policy() {
        let mut ring = filled(50, 60, 80);
        assert_eq!(ring.counts(), [50, 0]);
        assert_eq!(asked(&mut ring, NOW, 1, 40, 0), Ok((140..180).collect()));
        assert_eq!(asked(&mut ring, NOW, 1, 40, 0).map(|ids| ids.len()), Ok(40), "asked again");
        assert_eq!(asked(&mut ring, NOW, 2, 40, 0), Ok((160..180).collect()), "what the day leaves");
        assert!(asked(&mut ring, NOW, 3, 1, 0).unwrap_err().contains("evidence.per_day"));
        let tomorrow = Now { mono: MonoMs(2 * DAY_MS), ..NOW };
        assert!(asked(&mut ring, tomorrow, 4, 5, 10_000).unwrap_err().contains("no sample of that time"));
        assert_eq!(asked(&mut ring, tomorrow, 5, 5, 79), Ok(vec![179]));
        assert_eq!(ring.counts(), [50, 61]);
        ring.clear();
        assert!(asked(&mut ring, tomorrow, 6, 5, 0).is_err());
    }

    #[test]
    fn what_leaves_is_on_the_disk_first_and_counts_after_a_restart() {
        let mut ring = filled(50, 60, 80);
        let request = |request| EvidenceRequest { request, samples: 40, from: WallMs(0), to: WallMs(u64::MAX) };
        let given = |samples| Some(Given { since: NOW.wall, samples });
        assert_eq!(ring.ask(NOW, None, &request(1)), given(40));
        ring.hold(7);
        assert!(!ring.is_due() && ring.next_part().is_none(), "the count is not written yet");
        ring.written(6, true);
        assert!(!ring.is_due());
        ring.written(7, true);
        assert!(ring.is_due() && ring.next_part().is_some());
        assert_eq!(ring.ask(NOW, None, &request(1)), None, "asked again");

        assert_eq!(ring.ask(NOW, None, &request(2)), given(60));
        ring.hold(8);
        ring.written(8, false);
        assert!(!ring.is_due(), "a disk that takes no count lets nothing out");

        let mut restarted = filled(50, 60, 80);
        restarted.day.1 = Given { since: NOW.wall, samples: 60 };
        assert!(asked(&mut restarted, NOW, 3, 1, 0).unwrap_err().contains("evidence.per_day"));
        // A device that is switched off every night: the day ends by the calendar.
        let tomorrow = Now { wall: WallMs(NOW.wall.0 + DAY_MS), ..NOW };
        assert!(asked(&mut restarted, tomorrow, 4, 1, 0).is_ok());
        // A clock that was never set says nothing.
        restarted.day.1 = Given { since: WallMs(5), samples: 60 };
        assert!(asked(&mut restarted, tomorrow, 5, 1, 0).is_err());
    }

    #[test]
    fn wide_samples_take_no_more_memory() {
        let mut ring = Ring::new(Policy { samples: SAMPLES_MAX, per_day: 1 }, Given::default());
        let image = vec![0.5f32; 10_000];
        (0..2_000).for_each(|at| ring.remember(at, &sample(at, &[1.0], Outputs::Missing, &image)));
        let [kept, _] = ring.counts();
        assert!(kept > 700 && kept as usize * 4 * image.len() <= BYTES_MAX, "{kept}");
    }

    #[test]
    fn images_follow_their_rows_in_pieces_and_as_many_as_one_answer_takes() {
        let mut ring = Ring::new(Policy { samples: 100, per_day: 100 }, Given::default());
        let image = |at: u64| (0..150_528).map(|i| (i + at as usize) as f32).collect::<Vec<f32>>();
        (0..10).for_each(|at| ring.remember(at, &sample(at, &[at as f32], Outputs::Values(&[0.5]), &image(at))));
        let request = EvidenceRequest { request: 1, samples: 9, from: WallMs(0), to: WallMs(u64::MAX) };
        assert_eq!(ring.ask(NOW, None, &request).map(|given| given.samples), Some(3), "three fit");
        for _ in 0..2 {
            let Some(Part::Rows(rows)) = ring.next_part() else { panic!("rows first") };
            assert_eq!(
                rows.rows.iter().map(|r| (r.id, r.whole)).collect::<Vec<_>>(),
                [7, 8, 9].map(|id| (id, 150_528))
            );
            let mut found = vec![Vec::new(); 3];
            while let Some(part) = ring.next_part() {
                let Part::Whole { request: 1, sample, offset, values } = part else { panic!("{part:?}") };
                assert!(values.len() <= WHOLE_PART_MAX);
                assert_eq!(found[usize::from(sample)].len(), offset as usize);
                found[usize::from(sample)].extend_from_slice(values);
            }
            assert_eq!(found, [7, 8, 9].map(image));
            assert_eq!(ring.ask(NOW, None, &request), None, "asked again");
        }
    }

    #[test]
    fn nothing_is_kept_unless_somebody_wants_it() {
        let mut ring = filled(0, 100, 10);
        assert_eq!(ring.counts(), [0, 0]);
        assert!(asked(&mut ring, NOW, 1, 5, 0).unwrap_err().starts_with("this device keeps no samples"));
    }
}
