//! Remembers which class the model gave to each of the newest samples, so that truth which comes late is counted where it belongs.
//!
//! Truth names a sample by its id: the source's, or else the running number of the sample since the agent started. Kept are a hash of
//! the id, the class, the release and the window, 16 bytes a sample, and nothing else: no reading. They are in memory; an agent that stops
//! in good order writes them down for its next start ([`Memory::save`]). A truth makes a window
//! that carries labels alone, numbered and delivered like any other, so that it is counted exactly once. What comes twice or for a
//! sample no longer remembered is counted and changes nothing. Remembering a sample allocates nothing.

use crate::observe::Profile;
use crc::{CRC_32_ISCSI, Crc};
use driftline_shared::manifest::class_index;
use driftline_shared::performance::Performance;
use driftline_shared::units::{WallMs, hash};
use driftline_shared::window::{Window, slot_start};
use driftline_shared::wire::messages::Truth;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Samples remembered when nothing else is said.
pub const SAMPLES_DEFAULT: u32 = 100_000;
/// Most samples that may be remembered: 160 MB.
pub const SAMPLES_MAX: u32 = 10_000_000;
/// Releases whose samples are remembered.
const RELEASES_MAX: usize = 8;
/// Batches remembered, so that a repeated one is answered as before.
const BATCHES_MAX: usize = 32;

/// Most samples that are written down for the next start: a megabyte and a half, so that it takes no longer than a stop may.
const SAVED_MAX: usize = 100_000;
const MAGIC: [u8; 8] = *b"DLlabel1";
const HEAD_BYTES: usize = MAGIC.len() + 32 + 8;
const ENTRY_BYTES: usize = 15;
const CRC: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);

/// How a sample is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Id {
    /// By its source: the hash.
    Given(u64),
    /// By its running number since the start, hashed.
    Numbered(u64),
}

impl Id {
    /// The hash.
    pub fn hash(self) -> u64 {
        let (Self::Given(hash) | Self::Numbered(hash)) = self;
        hash
    }
}

/// The truth of the sample is known.
const KNOWN: u8 = 1;
/// Its name is a number of this start, which the next one will give to another sample.
const NUMBERED: u8 = 2;

/// One sample.
#[derive(Debug, Clone, Copy)]
struct Entry {
    id: u64,
    /// Window number of its release, counted from the release's [`Judged::base`].
    window: u32,
    predicted: u16,
    release: u8,
    marks: u8,
}

/// A release that judged samples.
#[derive(Debug)]
struct Judged {
    number: u8,
    profile: Arc<Profile>,
    /// Half the range of numbers before its first window, so that a clock may also go back.
    base: u64,
}

/// The newest samples.
#[derive(Debug)]
pub struct Memory {
    entries: Vec<Entry>,
    max: usize,
    /// Where the next sample goes once all places are taken.
    oldest: usize,
    releases: VecDeque<Judged>,
    answered: VecDeque<Truth>,
}

impl Memory {
    /// Room for so many samples; the pages are touched as they fill.
    pub fn new(samples_max: u32) -> Self {
        let max = samples_max.clamp(1, SAMPLES_MAX) as usize;
        let entries = Vec::with_capacity(max);
        Self { entries, max, oldest: 0, releases: VecDeque::new(), answered: VecDeque::new() }
    }

    /// Remembers a sample; `known` when its truth came with it.
    pub fn remember(&mut self, profile: &Arc<Profile>, id: Id, event_time: WallMs, predicted: usize, known: bool) {
        let slot = slot_start(event_time, profile.window_ms).0 / u64::from(profile.window_ms.max(1));
        let in_reach = |base: u64| slot.checked_sub(base).and_then(|window| u32::try_from(window).ok());
        // Out of reach is a clock that was set after it had said 1970.
        let same = |last: &Judged| Arc::ptr_eq(&last.profile, profile) && in_reach(last.base).is_some();
        if !self.releases.back().is_some_and(same) {
            self.judges(profile, slot);
        }
        let Some(last) = self.releases.back() else { return };
        let window = in_reach(last.base);
        let (Some(window), Ok(predicted)) = (window, u16::try_from(predicted)) else { return };
        let numbered = if matches!(id, Id::Numbered(_)) { NUMBERED } else { 0 };
        let marks = numbered | if known { KNOWN } else { 0 };
        self.push(Entry { id: id.hash(), window, predicted, release: last.number, marks });
    }

    fn push(&mut self, entry: Entry) {
        if self.entries.len() < self.max {
            self.entries.push(entry);
        } else if let Some(place) = self.entries.get_mut(self.oldest) {
            *place = entry;
            self.oldest = (self.oldest + 1) % self.max;
        }
    }

    fn judges(&mut self, profile: &Arc<Profile>, slot: u64) {
        let number = self.releases.back().map_or(0, |last| last.number.wrapping_add(1));
        if self.releases.len() >= RELEASES_MAX {
            self.releases.pop_front();
        }
        let base = slot.saturating_sub(u64::from(u32::MAX / 2));
        self.releases.push_back(Judged { number, profile: profile.clone(), base });
    }

    /// The newest samples of the newest release that have names of their own, for [`Memory::restore`] after a restart; empty when there are none.
    pub fn save(&self) -> Vec<u8> {
        let Some(last) = self.releases.back() else { return Vec::new() };
        let (newer, older) = self.entries.split_at(self.oldest);
        let named = |entry: &&Entry| entry.release == last.number && entry.marks & NUMBERED == 0;
        let mut entries: Vec<&Entry> =
            newer.iter().rev().chain(older.iter().rev()).filter(named).take(SAVED_MAX).collect();
        if entries.is_empty() {
            return Vec::new();
        }
        entries.reverse();
        let mut bytes = Vec::with_capacity(HEAD_BYTES + entries.len() * ENTRY_BYTES + 4);
        bytes.extend(MAGIC);
        bytes.extend(last.profile.digest.0);
        bytes.extend(last.base.to_le_bytes());
        for Entry { id, window, predicted, marks, .. } in entries {
            bytes.extend(id.to_le_bytes());
            bytes.extend(window.to_le_bytes());
            bytes.extend(predicted.to_le_bytes());
            bytes.push(*marks);
        }
        let check = CRC.checksum(&bytes);
        bytes.extend(check.to_le_bytes());
        bytes
    }

    /// Remembers again what was saved of this release, before anything new; how many samples, `None` for bytes that are damaged, or of another
    /// release.
    pub fn restore(&mut self, profile: &Arc<Profile>, bytes: &[u8]) -> Option<usize> {
        let (content, check) = bytes.split_last_chunk::<4>()?;
        let (head, entries) = content.split_at_checked(HEAD_BYTES)?;
        let sound = CRC.checksum(content) == u32::from_le_bytes(*check)
            && head.starts_with(&MAGIC)
            && head.get(MAGIC.len()..MAGIC.len() + 32) == Some(&profile.digest.0)
            && entries.len().is_multiple_of(ENTRY_BYTES);
        if !sound || !self.releases.is_empty() {
            return None;
        }
        let base = u64::from_le_bytes(*head.last_chunk()?);
        self.releases.push_back(Judged { number: 0, profile: profile.clone(), base });
        let entries = entries.as_chunks::<ENTRY_BYTES>().0;
        for entry in entries {
            let id = u64::from_le_bytes(*entry.first_chunk()?);
            let window = u32::from_le_bytes(*entry[8..].first_chunk()?);
            let predicted = u16::from_le_bytes(*entry[12..].first_chunk()?);
            self.push(Entry { id, window, predicted, release: 0, marks: entry[14] });
        }
        Some(entries.len())
    }

    /// What was answered to this batch, when it came before.
    pub fn answered(&self, batch: u64) -> Option<Truth> {
        self.answered.iter().find(|truth| truth.batch == batch && batch != 0).copied()
    }

    /// Counts truths, given as (hash of the id, place in `classes`); the windows that carry them go to `closed`. One pass over the
    /// samples, newest first: of samples with one id the newest is meant.
    pub fn tell(
        &mut self,
        batch: u64,
        classes: &[&str],
        mut truths: Vec<(u64, u16)>,
        closed: &mut impl FnMut(&Window),
    ) -> Truth {
        let mut answer = Truth { batch, ..Truth::default() };
        let told = truths.len();
        truths.sort_by_key(|truth| truth.0);
        truths.dedup_by_key(|truth| truth.0);
        answer.repeated = (told - truths.len()) as u32;
        let mut found = vec![false; truths.len()];
        let mut windows: BTreeMap<(u8, u32), Vec<(u16, u16)>> = BTreeMap::new();
        let (newer, older) = self.entries.split_at_mut(self.oldest);
        for entry in newer.iter_mut().rev().chain(older.iter_mut().rev()) {
            let Ok(at) = truths.binary_search_by_key(&entry.id, |truth| truth.0) else { continue };
            if std::mem::replace(&mut found[at], true) {
                continue;
            }
            let Some(judged) = self.releases.iter().find(|judged| judged.number == entry.release) else {
                answer.unknown += 1;
                continue;
            };
            let class = classes.get(usize::from(truths[at].1));
            let names = || judged.profile.classes.iter().map(String::as_str);
            match class.and_then(|class| class_index(names(), class)) {
                None => answer.refused += 1,
                Some(_) if entry.marks & KNOWN != 0 => answer.repeated += 1,
                Some(truth) => {
                    answer.counted += 1;
                    entry.marks |= KNOWN;
                    windows.entry((entry.release, entry.window)).or_default().push((entry.predicted, truth));
                }
            }
        }
        answer.unknown += found.iter().filter(|found| !**found).count() as u32;
        for ((release, window), verdicts) in windows {
            if let Some(judged) = self.releases.iter().find(|judged| judged.number == release) {
                closed(&labels_only(judged, window, &verdicts));
            }
        }
        if batch != 0 {
            if self.answered.len() >= BATCHES_MAX {
                self.answered.pop_front();
            }
            self.answered.push_back(answer);
        }
        answer
    }

    /// The same for JSON as the `labels` topic takes it, `{"labels":{"id":"truth"}}`; `None` when it is something else.
    pub fn tell_json(&mut self, text: &[u8], closed: &mut impl FnMut(&Window)) -> Option<Truth> {
        use serde_json::Value;
        let message: BTreeMap<String, BTreeMap<String, Value>> = serde_json::from_slice(text).ok()?;
        let labels = message.get("labels").filter(|_| message.len() == 1)?;
        let mut classes: Vec<String> = Vec::new();
        let mut truths = Vec::with_capacity(labels.len());
        for (id, truth) in labels {
            let class = truth.as_str().map_or_else(|| truth.to_string(), str::to_owned);
            let at = classes.iter().position(|known| *known == class).unwrap_or_else(|| {
                classes.push(class);
                classes.len() - 1
            });
            truths.push((hash(id.as_bytes()), u16::try_from(at).ok()?));
        }
        let classes: Vec<&str> = classes.iter().map(String::as_str).collect();
        Some(self.tell(0, &classes, truths, closed))
    }
}

/// A window of the release that carries nothing but these (predicted, true) classes.
fn labels_only(judged: &Judged, window: u32, verdicts: &[(u16, u16)]) -> Box<Window> {
    let profile = &judged.profile;
    let start = WallMs((judged.base.saturating_add(u64::from(window))).saturating_mul(u64::from(profile.window_ms)));
    let mut window = Box::new(Window::new(profile.release, start, profile.window_ms, profile.grids()));
    let mut performance = Performance::new(None, profile.classes.len());
    for &(predicted, truth) in verdicts {
        performance.judge(predicted.into(), truth.into());
    }
    window.labelled = verdicts.len() as u32;
    window.correct = verdicts.iter().filter(|(predicted, truth)| predicted == truth).count() as u32;
    window.performance = Some(performance);
    window
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use driftline_shared::units::hash_of_number;

    const SPAN: u64 = 60_000;

    fn id(n: u64) -> u64 {
        hash_of_number(n)
    }

    /// Ten samples, two a window, of which the model called the even ones c0 and the odd ones c1.
    fn memory(max: u32) -> (Memory, Arc<Profile>) {
        let profile = testing::profile("v1", 2, 2);
        let mut memory = Memory::new(max);
        for n in 0..10 {
            memory.remember(&profile, Id::Given(id(n)), WallMs(1_000 * SPAN + n / 2 * SPAN), (n % 2) as usize, false);
        }
        (memory, profile)
    }

    fn tell(memory: &mut Memory, batch: u64, truths: &[(u64, u16)]) -> (Truth, Vec<(u64, u32, u32)>) {
        let mut windows = Vec::new();
        let truths = truths.iter().map(|&(n, class)| (id(n), class)).collect();
        let answer = memory.tell(batch, &["c0", "c1", "other"], truths, &mut |w: &Window| {
            assert!(w.is_labels_only());
            windows.push((w.start.0 / SPAN, w.labelled, w.correct));
        });
        (answer, windows)
    }

    fn answer(counted: u32, repeated: u32, unknown: u32, refused: u32) -> Truth {
        Truth { batch: 0, counted, repeated, unknown, refused }
    }

    #[test]
    fn truth_is_counted_in_the_window_of_its_sample_and_only_once() {
        let (mut memory, _) = memory(100);
        let (found, windows) = tell(&mut memory, 0, &[(0, 0), (1, 0), (9, 1), (77, 0), (4, 2), (9, 0)]);
        assert_eq!(found, answer(3, 1, 1, 1));
        assert_eq!(windows, [(1_000, 2, 1), (1_004, 1, 1)]);
        // Once more, and with another truth: known already.
        assert_eq!(tell(&mut memory, 0, &[(0, 1), (9, 1)]), (answer(0, 2, 0, 0), vec![]));
        // The one with an unknown class can still be told.
        assert_eq!(tell(&mut memory, 0, &[(4, 0)]), (answer(1, 0, 0, 0), vec![(1_002, 1, 1)]));
    }

    #[test]
    fn only_the_newest_samples_are_remembered() {
        let (mut memory, profile) = memory(4);
        assert_eq!(size_of::<Entry>(), 16);
        assert_eq!(tell(&mut memory, 0, &[(5, 0), (6, 0), (9, 1)]).0, answer(2, 0, 1, 0));
        // An id that comes again means the newer sample.
        memory.remember(&profile, Id::Given(id(8)), WallMs(2_000 * SPAN), 1, false);
        assert_eq!(tell(&mut memory, 0, &[(8, 1)]).1, [(2_000, 1, 1)]);
    }

    #[test]
    fn samples_of_another_release_count_for_that_release() {
        let (mut memory, _) = memory(100);
        let other = testing::profile("v2", 2, 3);
        memory.remember(&other, Id::Given(id(50)), WallMs(3_000 * SPAN), 2, false);
        let mut releases = Vec::new();
        let truths = vec![(id(50), 0), (id(9), 1)];
        memory.tell(0, &["c2", "c1"], truths, &mut |w: &Window| releases.push((w.release, w.correct)));
        assert_eq!(releases.len(), 2);
        assert!(releases.contains(&(other.release, 1)));
        // Forgotten with the release.
        for i in 0..RELEASES_MAX {
            memory.remember(
                &testing::profile("v3", 2, 2),
                Id::Given(id(100 + i as u64)),
                WallMs(3_000 * SPAN),
                0,
                false,
            );
        }
        assert_eq!(tell(&mut memory, 0, &[(8, 0)]).0, answer(0, 0, 1, 0));
    }

    #[test]
    fn a_batch_that_comes_again_is_answered_again() {
        let (mut memory, _) = memory(100);
        let (first, _) = tell(&mut memory, 7, &[(0, 0)]);
        assert_eq!(memory.answered(7), Some(first));
        assert_eq!(memory.answered(8), None);
    }

    #[test]
    fn json_tells_truth_too_and_other_json_is_refused() {
        let (mut memory, _) = memory(100);
        let mut tell = |text: &str| memory.tell_json(text.as_bytes(), &mut |_: &Window| {});
        assert_eq!(tell(r#"{"labels":{"0":"c0","1":"c0","2":3}}"#), Some(answer(2, 0, 0, 1)));
        for bad in ["{}", "{\"labels\":[]}", "{\"other\":{}}", "{", "{\"labels\":{\"1\":"] {
            assert_eq!(tell(bad), None, "{bad}");
        }
    }

    #[test]
    fn samples_with_names_are_remembered_over_a_restart() {
        let (mut memory, profile) = memory(7);
        memory.remember(&profile, Id::Numbered(id(50)), WallMs(3_000 * SPAN), 0, false);
        tell(&mut memory, 0, &[(9, 1)]);
        let saved = memory.save();
        let mut next = Memory::new(6);
        assert_eq!(next.restore(&profile, &saved), Some(6));
        let (found, windows) = tell(&mut next, 0, &[(3, 0), (4, 0), (9, 1), (50, 0)]);
        assert_eq!(found, answer(1, 1, 2, 0), "3 is too old, 9 was told before, and 50 is another sample's number now");
        assert_eq!(windows, [(1_002, 1, 1)]);
        assert_eq!(next.restore(&profile, &saved), None, "only at the start");
        // Of another release, or damaged in any place.
        assert_eq!(Memory::new(6).restore(&testing::profile("v2", 2, 2), &saved), None);
        for at in 0..saved.len() {
            let mut bytes = saved.clone();
            bytes[at] ^= 1;
            assert_eq!(Memory::new(6).restore(&profile, &bytes), None, "{at}");
            assert_eq!(Memory::new(6).restore(&profile, &saved[..at]), None, "{at}");
        }
        assert_eq!(Memory::new(6).save(), Vec::<u8>::new());
    }

    #[test]
    fn a_clock_that_goes_back_still_finds_its_windows() {
        let profile = testing::profile("v1", 2, 2);
        let mut memory = Memory::new(10);
        memory.remember(&profile, Id::Given(id(1)), WallMs(1_000 * SPAN), 0, false);
        memory.remember(&profile, Id::Given(id(2)), WallMs(5 * SPAN), 0, false);
        assert_eq!(tell(&mut memory, 0, &[(1, 0), (2, 0)]).1, [(5, 1, 1), (1_000, 1, 1)]);
        // Set to where no number of windows reaches; what was before is remembered too.
        let far = 2 * u64::from(u32::MAX);
        memory.remember(&profile, Id::Given(id(3)), WallMs(6 * SPAN), 0, false);
        memory.remember(&profile, Id::Given(id(4)), WallMs(far * SPAN), 0, false);
        assert_eq!(tell(&mut memory, 0, &[(3, 0), (4, 0)]).1, [(6, 1, 1), (far, 1, 1)]);
    }
}
