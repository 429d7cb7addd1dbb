//! Closed windows on their way to the collector: numbered, kept until acknowledged, given up only for want of room.
//!
//! Rules: a frame never changes once it has a number; at most [`IN_FLIGHT_MAX`] numbers of a stream from the lowest unacknowledged
//! one are out; numbers that will never come are declared by a gap. Windows wait unnumbered, and share a frame, until one may be
//! sent or is to be put on the disk. Only frames that were never sent give way, oldest first: of a frame that was sent nobody here
//! knows whether the collector has stored it. Under pressure two neighbours become one frame of wider windows ([`coarsen`]) before
//! any is evicted. The same holds for what earlier starts left, if they sent nothing of it: before anything of a stream leaves whose frames may
//! be on the disk, the disk says so ([`Entry::Sends`]). What may have been sent is not merged, and a start gives up the oldest of it where it
//! is more than there is room for.
//!
//! What is kept here is in memory, and with [`Spool::durable`] also on the disk: every frame is handed out as an [`Entry`] for the
//! [`journal`], and what an earlier start left comes back as a stream of its own, which is delivered first.

pub mod coarsen;
pub mod fault;
pub mod journal;
pub mod names;
mod pressure;
pub mod record;

use bytes::Bytes;
use driftline_shared::units::{ReleaseId, Seq, Stream, WallMs};
use driftline_shared::window::Window;
use driftline_shared::wire::messages::{Gap, GapReason};
use driftline_shared::wire::{self, FRAME_BYTES_MAX, IN_FLIGHT_MAX, Kind, WINDOWS_PER_FRAME_MAX, pack};
use journal::{Entry, PENDING_MAX, Recovered};
pub use pressure::Room;
use record::{Class, Record};
use std::cmp::Reverse;
use std::collections::{BTreeSet, VecDeque};

/// Bytes of a frame that are no windows: envelope, stream, number and count, rounded up.
const FRAME_OVERHEAD: usize = 64;

/// Windows between the sketches and the collector.
#[derive(Debug)]
pub struct Spool {
    room: Room,
    /// Encoded windows without a number, at most one frame of them and of one class.
    waiting: VecDeque<Box<[u8]>>,
    waiting_bytes: usize,
    waiting_class: Class,
    /// Length of the shortest window so far.
    slot_ms: u32,
    /// The release that answered at the start.
    release: Option<ReleaseId>,
    /// Whether the clock was compared with the collector's.
    dated: bool,
    /// Frames that do not go together with the next one, by stream and first number.
    apart: BTreeSet<(Stream, u64)>,
    /// The end of the newest window that was handed over.
    closed: WallMs,
    /// What earlier starts left, oldest first, and last the stream of this start.
    lines: VecDeque<Line>,
    drain: Drain,
    frames: usize,
    /// Windows in `waiting` and `lines`.
    kept: u64,
    /// What is to be put on the disk; `None` when nothing is.
    entries: Option<VecDeque<Entry>>,
    scratch: Box<[u8]>,
    counts: Counts,
}

/// The frames of one stream.
#[derive(Debug)]
struct Line {
    stream: Stream,
    /// Numbered and not acknowledged, ascending and without holes.
    records: VecDeque<Record>,
    /// The number that comes next.
    next: u64,
    /// The highest number that may ever have been sent.
    sent: u64,
    leave: Leave,
    /// Where this pass of sending stands.
    cursor: u64,
    /// Whether this pass has still to say which numbers are behind: a collector with an empty store would wait for them for ever.
    settles: bool,
}

/// Whether frames of a stream may leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leave {
    /// The disk takes them for frames that never left.
    No,
    /// It has been told, and nothing was heard yet.
    Asked,
    /// They may.
    Yes,
}

/// What is sent first when windows of earlier starts wait too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Drain {
    /// What is oldest.
    #[default]
    Backlog,
    /// What this start makes; the backlog when nothing of it waits.
    Live,
}

/// Windows by what became of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Handed over.
    pub closed: u64,
    /// Stored by the collector.
    pub acknowledged: u64,
    /// Part of a wider one.
    pub merged: u64,
    /// Given up.
    pub evicted: u64,
}

/// What an acknowledgement changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acknowledged {
    /// So many windows left the spool, at least one frame or gap.
    Progress(u64),
    /// Nothing new.
    Nothing,
    /// It names another stream.
    Foreign,
    /// It names numbers that were never sent.
    NeverSent,
}

impl Spool {
    /// An empty spool in memory.
    pub fn new(stream: Stream, room: Room) -> Self {
        Self {
            room: Room { frames: room.frames.max(IN_FLIGHT_MAX as u32 + 1), ..room },
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            waiting_class: Class::Samples,
            slot_ms: u32::MAX,
            release: None,
            dated: false,
            apart: BTreeSet::new(),
            closed: WallMs(0),
            lines: VecDeque::from([Line {
                stream,
                records: VecDeque::new(),
                next: 1,
                sent: 0,
                leave: Leave::Yes,
                cursor: 1,
                settles: false,
            }]),
            drain: Drain::default(),
            frames: 0,
            kept: 0,
            entries: None,
            scratch: vec![0; FRAME_BYTES_MAX].into(),
            counts: Counts::default(),
        }
    }

    /// The same with what is sent first.
    pub fn with_drain(self, drain: Drain) -> Self {
        Self { drain, ..self }
    }

    /// From now on frames are also handed out for the disk. `recovered` is what was found there; it counts as closed. `active` is
    /// the release that answers, and the length of its windows.
    pub fn durable(&mut self, mut recovered: Vec<Recovered>, active: Option<(ReleaseId, u32)>) {
        self.entries = Some(VecDeque::new());
        self.live_mut().leave = Leave::No;
        if let Some((release, slot_ms)) = active {
            self.release = Some(release);
            self.slot_ms = self.slot_ms.min(slot_ms);
        }
        // The newest first, each before the others: stream numbers are random.
        recovered.sort_by_key(|stream| Reverse(stream.records.last().map(|record| record.closed)));
        for Recovered { stream, after, sent, records } in recovered {
            let next = after + 1;
            // Numbers that the power cut took before they were on the disk may have been sent too.
            let (sent, leave) = if sent { (u64::MAX, Leave::Yes) } else { (0, Leave::No) };
            let mut line = Line { stream, records: VecDeque::new(), next, sent, leave, cursor: next, settles: false };
            for record in records {
                if record.hi < line.next {
                    continue;
                }
                if record.lo > line.next {
                    let gap = self.gap(stream, line.next, record.lo - 1, GapReason::Corrupt);
                    line.records.push_back(gap);
                }
                let windows = u64::from(record.windows);
                self.counts.closed += windows;
                self.kept += windows;
                self.keeps(&record);
                line.next = record.hi + 1;
                line.records.push_back(record);
            }
            line.settles = line.lowest() > 1;
            if !line.records.is_empty() {
                self.lines.push_front(line);
            }
        }
        self.make_room();
    }

    /// Whether frames wait for the disk to know that they leave.
    pub fn waits_for_disk(&self) -> bool {
        self.lines.iter().any(|line| line.leave == Leave::Asked)
    }

    /// The disk does not answer: frames leave all the same.
    pub fn leave_anyway(&mut self) {
        self.lines.iter_mut().filter(|line| line.leave == Leave::Asked).for_each(|line| line.leave = Leave::Yes);
    }

    /// Frames of a stream may leave: the disk knows of it, or has refused to.
    pub fn may_leave(&mut self, stream: Stream) {
        let line = self.lines.iter_mut().find(|line| line.stream == stream && line.leave == Leave::Asked);
        line.into_iter().for_each(|line| line.leave = Leave::Yes);
    }

    /// The life of this spool.
    pub fn stream(&self) -> Stream {
        self.live().stream
    }

    /// Keeps a closed window.
    pub fn append(&mut self, window: &Window) {
        self.counts.closed += 1;
        self.closed = self.closed.max(WallMs(window.start.0.saturating_add(u64::from(window.span_ms))));
        let Some(bytes) = pack::encode(window, &mut self.scratch)
            .ok()
            .filter(|&len| len <= FRAME_BYTES_MAX - FRAME_OVERHEAD)
            .and_then(|len| self.scratch.get(..len))
            .map(Box::<[u8]>::from)
        else {
            // FEATURES_MAX features of CELLS_MAX full cells take half a frame; should that ever change, loss stays counted.
            self.counts.evicted += 1;
            return;
        };
        let class = Class::of(window);
        let full = self.waiting_bytes + bytes.len() > FRAME_BYTES_MAX - FRAME_OVERHEAD;
        if full || (class != self.waiting_class && !self.waiting.is_empty()) {
            self.number();
        }
        self.waiting_class = class;
        self.slot_ms = self.slot_ms.min(window.span_ms);
        self.waiting_bytes += bytes.len();
        self.waiting.push_back(bytes);
        self.kept += 1;
        if self.waiting.len() >= WINDOWS_PER_FRAME_MAX as usize {
            self.number();
        }
    }

    /// Whether windows wait that are neither numbered nor on the disk, and should be.
    pub fn wants_commit(&self) -> bool {
        self.entries.is_some() && !self.waiting.is_empty()
    }

    /// The clock was compared with the collector's: what is closed from now on carries dates that are known.
    pub fn dated(&mut self) {
        self.dated = true;
    }

    /// Numbers what waits, so that it can be put on the disk and, where frames leave the device now, be sent.
    pub fn commit(&mut self, leaves: bool) {
        if self.wants_commit() {
            if leaves {
                self.leave_at_once();
            }
            self.number();
        }
    }

    /// The next thing to put on the disk.
    pub fn next_entry(&mut self) -> Option<Entry> {
        self.entries.as_mut()?.pop_front()
    }

    /// The next frame or gap to send, in order; `None` when all is sent or enough is in flight.
    pub fn next_to_send(&mut self) -> Option<Bytes> {
        if self.numbers_to_send() {
            self.number();
        }
        self.ask();
        let line = self.first_due(|line| line.leave == Leave::Yes)?;
        let line = &mut self.lines[line];
        if std::mem::take(&mut line.settles) {
            let (stream, lowest) = (line.stream, line.lowest());
            return Some(self.gap(stream, 1, lowest - 1, GapReason::Settled).bytes);
        }
        let record = &line.records[line.due()?];
        line.cursor = record.hi + 1;
        line.sent = line.sent.max(record.hi);
        Some(record.bytes.clone())
    }

    /// Whether [`Spool::next_to_send`] has something to do.
    pub fn has_next(&self) -> bool {
        let leaves = self.first_due(|line| line.leave == Leave::Yes).is_some();
        let asks = self.first_due(|_| true).is_some_and(|at| self.lines[at].leave == Leave::No);
        leaves || asks || self.numbers_to_send()
    }

    /// Without a disk nothing else numbers what waits.
    fn numbers_to_send(&self) -> bool {
        self.entries.is_none() && self.live().wants_number() && !self.waiting.is_empty()
    }

    /// The line with something to send that comes first.
    fn first_due(&self, which: impl Fn(&Line) -> bool) -> Option<usize> {
        let due = |line: &Line| line.is_due() && which(line);
        match self.drain {
            Drain::Backlog => self.lines.iter().position(due),
            Drain::Live => self.lines.iter().rposition(due),
        }
    }

    /// Nothing of this stream was handed out for the disk: what is told now stands there before the first frame does.
    fn leave_at_once(&mut self) {
        let live = self.live_mut();
        if live.leave == Leave::No && live.next == 1 {
            live.leave = Leave::Yes;
            let stream = live.stream;
            self.entry(Entry::Sends { stream, waits: false });
        }
    }

    /// Tells the disk that frames of the line that comes first are about to leave.
    fn ask(&mut self) {
        if let Some(at) = self.first_due(|_| true).filter(|&at| self.lines[at].leave == Leave::No) {
            let line = &mut self.lines[at];
            line.leave = Leave::Asked;
            let stream = line.stream;
            self.entry(Entry::Sends { stream, waits: true });
        }
    }

    /// Everything unacknowledged is to be sent again.
    pub fn rewind(&mut self) {
        for line in &mut self.lines {
            line.cursor = line.lowest();
            line.settles = line.cursor > 1;
            if line.leave == Leave::Asked {
                // Asked again, should the answer have been lost.
                line.leave = Leave::No;
            }
        }
    }

    /// Whether something was sent and is not acknowledged.
    pub fn in_flight(&self) -> bool {
        self.lines.iter().any(|line| line.cursor > line.lowest())
    }

    /// The collector has stored every frame up to `through`.
    pub fn acknowledge(&mut self, stream: Stream, through: Seq) -> Acknowledged {
        let Some(at) = self.lines.iter().position(|line| line.stream == stream) else { return Acknowledged::Foreign };
        let live = at + 1 == self.lines.len();
        let line = &mut self.lines[at];
        // Of an earlier start the collector may know more than the disk, which lost it with the power or had refused.
        if through.0 > line.sent {
            if live {
                return Acknowledged::NeverSent;
            }
            line.sent = u64::MAX;
        }
        if line.records.front().is_none_or(|r| r.hi > through.0) {
            return Acknowledged::Nothing;
        }
        let stored = line.records.partition_point(|r| r.hi <= through.0);
        let stored: Vec<Record> = line.records.drain(..stored).collect();
        line.cursor = line.cursor.max(line.lowest());
        if line.records.is_empty() && !live {
            self.lines.remove(at);
        }
        stored.iter().for_each(|record| self.lets_go(record));
        self.apart.retain(|&(of, lo)| of != stream || lo > through.0);
        let windows = stored.iter().map(|record| u64::from(record.windows)).sum();
        self.counts.acknowledged += windows;
        self.kept -= windows;
        self.entry(Entry::Stored(stream, through.0));
        Acknowledged::Progress(windows)
    }

    /// Windows by what became of them.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Windows kept here.
    pub fn windows_waiting(&self) -> u64 {
        self.kept
    }

    /// Numbered windows kept here whose dates nobody had compared when they were closed.
    pub fn undated(&self) -> u64 {
        let records = self.lines.iter().flat_map(|line| &line.records);
        records.filter(|record| !record.dated).map(|record| u64::from(record.windows)).sum()
    }

    fn live(&self) -> &Line {
        self.lines.back().expect("the stream of this start is always there")
    }

    fn live_mut(&mut self) -> &mut Line {
        self.lines.back_mut().expect("the stream of this start is always there")
    }

    fn entry(&mut self, entry: Entry) {
        if let Some(entries) = &mut self.entries {
            // A disk that hangs: the oldest stay in memory alone. What leaves is always told.
            if entries.len() >= PENDING_MAX
                && let Some(at) = entries.iter().position(|entry| !matches!(entry, Entry::Sends { .. }))
            {
                entries.remove(at);
            }
            entries.push_back(entry);
        }
    }

    /// Gives what waits a number.
    fn number(&mut self) {
        let windows = self.waiting.len() as u16;
        let (stream, number) = (self.live().stream, self.live().next);
        let pieces: Vec<Box<[u8]>> = self.waiting.drain(..).collect();
        self.waiting_bytes = 0;
        let Some(bytes) = self.frame(stream, number, number, &pieces) else {
            // `append` keeps the sum below a frame's size.
            self.give_up(u64::from(windows));
            return;
        };
        let (class, dated, closed) = (self.waiting_class, self.dated, self.closed);
        let record = Record { lo: number, hi: number, class, windows, dated, closed, bytes };
        self.entry(Entry::Keep(stream, record.clone()));
        self.keeps(&record);
        let line = self.live_mut();
        line.records.push_back(record);
        line.next += 1;
        self.relieve();
    }

    fn frame(&mut self, stream: Stream, lo: u64, hi: u64, windows: &[Box<[u8]>]) -> Option<Bytes> {
        let back = u32::try_from(hi - lo).ok()?;
        let pieces = windows.iter().map(|w| &**w);
        let len = pack::write_encoded(stream, Seq(hi), back, pieces, &mut self.scratch).ok()?;
        self.scratch.get(..len).map(Bytes::copy_from_slice)
    }

    fn keeps(&mut self, record: &Record) {
        self.frames += usize::from(record.windows > 0);
    }

    fn lets_go(&mut self, record: &Record) {
        self.frames -= usize::from(record.windows > 0);
    }

    fn gap(&mut self, stream: Stream, lo: u64, hi: u64, reason: GapReason) -> Record {
        let gap = Gap { stream, lo: Seq(lo), hi: Seq(hi), reason };
        let len = wire::write(Kind::Gap, &gap, &mut self.scratch).expect("a gap is a few bytes and fits any frame");
        let (class, dated, closed) = (Class::Gap, self.dated, self.closed);
        Record { lo, hi, class, windows: 0, dated, closed, bytes: Bytes::copy_from_slice(&self.scratch[..len]) }
    }

    fn give_up(&mut self, windows: u64) {
        self.counts.evicted += windows;
        self.kept -= windows;
    }
}

impl Line {
    fn lowest(&self) -> u64 {
        self.records.front().map_or(self.next, |r| r.lo)
    }

    /// A gap may span more numbers than the collector's mask has bits; then it waits until nothing lies before it.
    fn room_for(&self, lo: u64, hi: u64) -> bool {
        let lowest = self.lowest();
        hi < lowest + IN_FLIGHT_MAX || lo == lowest
    }

    /// Whether all of it was sent, and what comes next may be.
    fn wants_number(&self) -> bool {
        self.cursor == self.next && self.room_for(self.next, self.next)
    }

    /// Where the record to be sent next stands, if it may be sent.
    fn due(&self) -> Option<usize> {
        let at = self.records.partition_point(|r| r.hi < self.cursor);
        self.records.get(at).filter(|record| self.room_for(record.lo, record.hi)).map(|_| at)
    }

    /// Whether it has something to send. What is settled is said only before a frame.
    fn is_due(&self) -> bool {
        self.due().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use driftline_shared::sketch::Grid;

    fn room(frames: u32) -> Room {
        Room { frames, ..Room::default() }
    }

    fn window(at: u64) -> Window {
        Window::new(ReleaseId(1), WallMs(at * 60_000), 60_000, std::iter::empty::<&Grid>())
    }

    /// What a start leaves on its disk: frames of one window each.
    fn left(stream: u64, frames: u64) -> Recovered {
        left_at(1_000 * stream, stream, frames)
    }

    /// The same, from this minute on.
    fn left_at(minute: u64, stream: u64, frames: u64) -> Recovered {
        let mut spool = Spool::new(Stream(stream), room(100));
        let mut records = Vec::new();
        for at in 0..frames {
            spool.append(&window(minute + at));
            spool.number();
        }
        records.extend(spool.live().records.iter().cloned());
        Recovered { stream: Stream(stream), after: 0, sent: true, records }
    }

    fn streams(spool: &mut Spool) -> Vec<u64> {
        let stream = |frame: &Bytes| {
            let frame = wire::Frame::parse(frame).expect("an own frame");
            pack::Windows::open(frame.payload).expect("windows").stream.0
        };
        std::iter::from_fn(|| spool.next_to_send()).map(|frame| stream(&frame)).collect()
    }

    #[test]
    fn the_backlog_or_what_is_new_goes_first() {
        for (drain, wanted) in [(Drain::Backlog, [1, 1, 2, 9]), (Drain::Live, [9, 2, 1, 1])] {
            let mut spool = Spool::new(Stream(9), room(100)).with_drain(drain);
            spool.durable(vec![left(2, 1), left(1, 2)], None);
            spool.append(&window(5));
            spool.commit(true);
            assert_eq!(streams(&mut spool), wanted);
        }
    }

    #[test]
    fn an_earlier_start_may_have_sent_more_than_its_disk_knows() {
        let mut spool = Spool::new(Stream(9), room(100));
        spool.durable(vec![left(1, 2)], None);
        assert_eq!(streams(&mut spool), [1, 1]);
        // The collector has five frames of it; the power went before the last three were on the disk.
        assert_eq!(spool.acknowledge(Stream(1), Seq(5)), Acknowledged::Progress(2));
        assert_eq!(spool.windows_waiting(), 0);
        // Of this start nobody has seen more than was sent.
        spool.append(&window(7));
        assert_eq!(spool.acknowledge(Stream(9), Seq(1)), Acknowledged::NeverSent);
    }

    #[test]
    fn what_many_starts_leave_is_no_more_than_there_is_room_for() {
        // The smallest room: what may be in flight, and one.
        let mut spool = Spool::new(Stream(9), room(1));
        // Stream numbers say nothing of time: 7 is the oldest, then 2, then 5.
        let mut damaged = left_at(1_000, 7, 30);
        damaged.records.remove(3);
        spool.durable(vec![left_at(2_000, 2, 30), left_at(3_000, 5, 40), damaged], None);
        let counts = spool.counts();
        assert_eq!((counts.closed, counts.evicted, spool.windows_waiting()), (99, 38, 61));
        let kept: Vec<(u64, u64, u64)> = std::iter::from_fn(|| spool.next_entry())
            .map(|entry| match entry {
                Entry::Keep(stream, gap) => (stream.0, gap.lo, gap.hi),
                Entry::Stored(..) | Entry::Sends { .. } => panic!("nothing was acknowledged"),
            })
            .collect();
        assert_eq!(kept, [(7, 1, 3), (7, 5, 30), (2, 1, 9)], "the disk has gaps in their place");
        let mut told = Vec::new();
        for _ in 0..4 {
            let bytes = spool.next_to_send().expect("something to say");
            let frame = wire::Frame::parse(&bytes).expect("an own frame");
            let gap: Gap = frame.read(Kind::Gap).expect("a gap");
            told.push((gap.stream.0, gap.lo.0, gap.hi.0, gap.reason));
        }
        let (evicted, corrupt) = (GapReason::Evicted, GapReason::Corrupt);
        assert_eq!(told, [(7, 1, 3, evicted), (7, 4, 4, corrupt), (7, 5, 30, evicted), (2, 1, 9, evicted)]);
        // What the collector had all the same is acknowledged like everything else.
        assert_eq!(spool.acknowledge(Stream(7), Seq(30)), Acknowledged::Progress(0));
        assert_eq!(spool.acknowledge(Stream(2), Seq(30)), Acknowledged::Progress(21));
        let c = spool.counts();
        assert_eq!(c.closed, c.acknowledged + c.merged + c.evicted + spool.windows_waiting());
    }

    fn entries(spool: &mut Spool) -> Vec<Entry> {
        std::iter::from_fn(|| spool.next_entry()).collect()
    }

    #[test]
    fn what_no_start_has_sent_gets_wider_before_any_is_lost() {
        let mut spool = Spool::new(Stream(9), room(64));
        let kept = [left_at(1_000, 7, 60), left_at(2_000, 2, 60)].map(|left| Recovered { sent: false, ..left });
        spool.durable(kept.into(), Some((ReleaseId(1), 60_000)));
        assert_eq!((spool.counts().closed, spool.counts().merged, spool.counts().evicted), (120, 56, 0));
        let wider = entries(&mut spool);
        assert!(
            wider.len() == 56
                && wider.iter().all(|e| matches!(e, Entry::Keep(_, r) if r.windows == 1 && r.hi == r.lo + 1))
        );
        for at in 0..300 {
            spool.append(&window(at));
            spool.number();
        }
        let counts = spool.counts();
        assert_eq!((counts.closed, counts.evicted), (420, 0), "{counts:?}");
        // Each stream waits until the disk knows that it leaves.
        assert_eq!(spool.next_to_send(), None);
        for stream in [7, 2] {
            let told = entries(&mut spool);
            assert_eq!(told.last(), Some(&Entry::Sends { stream: Stream(stream), waits: true }));
            assert!(!spool.has_next(), "nothing to do until then");
            spool.may_leave(Stream(stream));
            assert!(streams(&mut spool).iter().all(|of| *of == stream));
            entries(&mut spool);
            // Whatever of an earlier start the collector has is acknowledged.
            assert!(matches!(spool.acknowledge(Stream(stream), Seq(70)), Acknowledged::Progress(_)), "{stream}");
            spool.rewind();
            assert_eq!(spool.next_to_send(), None);
        }
        spool.may_leave(Stream(9));
        sent(&mut spool);
        assert_eq!(spool.windows_waiting(), 0);
    }

    #[test]
    fn what_leaves_is_told_before_it_may_stand_on_the_disk() {
        let mut spool = Spool::new(Stream(9), room(64));
        spool.durable(Vec::new(), None);
        spool.append(&window(1));
        assert!(!spool.has_next() && spool.next_to_send().is_none(), "it goes at the device's phase");
        spool.commit(true);
        assert!(spool.next_to_send().is_some(), "a link that works waits for no disk");
        let told = entries(&mut spool);
        assert_eq!(told[0], Entry::Sends { stream: Stream(9), waits: false });
        assert!(matches!(told[1..], [Entry::Keep(..)]));
        // Without a link it came to the disk first.
        let mut spool = Spool::new(Stream(9), room(64));
        spool.durable(Vec::new(), None);
        spool.append(&window(1));
        spool.commit(false);
        assert_eq!(spool.next_to_send(), None);
        assert_eq!(entries(&mut spool)[1..], [Entry::Sends { stream: Stream(9), waits: true }]);
        spool.rewind();
        assert_eq!(spool.next_to_send(), None);
        assert_eq!(entries(&mut spool).len(), 1, "asked again after the link was lost");
        spool.may_leave(Stream(9));
        assert!(spool.next_to_send().is_some());
    }

    /// First number, last number, and the windows' (first slot, slots).
    type Sent = (u64, u64, Vec<(u64, u32)>);

    /// Frames and gaps in the order in which they are sent, each acknowledged.
    fn sent(spool: &mut Spool) -> Vec<Sent> {
        let mut all = Vec::new();
        while let Some(bytes) = spool.next_to_send() {
            let frame = wire::Frame::parse(&bytes).expect("an own frame");
            let hi = if frame.kind == Kind::Gap {
                let gap: Gap = frame.read(Kind::Gap).expect("a gap");
                all.push((gap.lo.0, gap.hi.0, Vec::new()));
                gap.hi
            } else {
                let mut windows = pack::Windows::open(frame.payload).expect("windows");
                let mut slots = Vec::new();
                while let Some(window) = windows.next::<256>().expect("own windows") {
                    slots.push((window.start.0 / 60_000, window.span_ms / 60_000));
                }
                all.push((windows.seq.0 - u64::from(windows.back), windows.seq.0, slots));
                windows.seq
            };
            spool.acknowledge(Stream(9), hi);
        }
        all
    }

    fn filled(room: Room, windows: impl IntoIterator<Item = Window>) -> Spool {
        let mut spool = Spool::new(Stream(9), room);
        for window in windows {
            spool.append(&window);
            spool.number();
            let c = spool.counts();
            assert_eq!(c.closed, c.acknowledged + c.merged + c.evicted + spool.windows_waiting());
        }
        spool
    }

    #[test]
    fn without_room_windows_get_wider_before_any_is_lost() {
        let mut spool = filled(room(64), (0..200).map(window));
        let before = spool.counts();
        assert_eq!((before.closed, before.merged, before.evicted), (200, 136, 0));
        let all = sent(&mut spool);
        let covered: Vec<u64> = all
            .iter()
            .flat_map(|(_, _, slots)| slots)
            .flat_map(|&(start, slots)| start..start + u64::from(slots))
            .collect();
        assert_eq!(covered, (0..200).collect::<Vec<_>>(), "every minute is in one window");
        let widest = all.iter().flat_map(|(_, _, slots)| slots).map(|s| s.1).max();
        assert_eq!(widest, Some(4), "all of them a little, not one of them very much");
        // Every number comes once, with the frame that has its windows.
        let numbers: Vec<u64> = all.iter().flat_map(|&(lo, hi, _)| lo..=hi).collect();
        assert_eq!(numbers, (1..=200).collect::<Vec<_>>());
        assert_eq!(spool.windows_waiting(), 0);
    }

    #[test]
    fn what_cannot_get_wider_is_evicted_oldest_first() {
        // A pause before every window.
        let mut spool = filled(room(64), (0..70).map(|at| window(2 * at)));
        assert_eq!((spool.counts().merged, spool.counts().evicted), (0, 6));
        assert_eq!(sent(&mut spool)[..2], [(1, 6, vec![]), (7, 7, vec![(12, 1)])]);
        // For ever is too long.
        let spool = filled(room(64), (0..6_000).map(window));
        let counts = spool.counts();
        assert!(counts.evicted > 0 && spool.windows_waiting() > 30, "{counts:?}");
    }

    #[test]
    fn each_class_has_its_own_room() {
        let truth = |at| Window { labelled: 1, ..window(2 * at) };
        let bytes = filled(Room::default(), [truth(1)]).live().records[0].bytes.len() as u64;
        let room = Room { truth: 10 * bytes + 9, ..room(1_000) };
        let mixed = (1..50).flat_map(|at| [window(2 * at), truth(at)]);
        let spool = filled(room, mixed);
        assert_eq!(
            (spool.counts().merged, spool.counts().evicted),
            (0, 39),
            "truths beyond ten, and no window of samples"
        );
        assert!(spool.live().records.iter().any(|r| r.class == Class::Samples && r.lo == 1));
    }

    #[test]
    fn a_frame_that_was_sent_is_left_as_it_is() {
        let mut spool = filled(room(64), (0..10).map(window));
        let first: Vec<Bytes> = std::iter::from_fn(|| spool.next_to_send()).collect();
        for at in 10..100 {
            spool.append(&window(at));
            spool.number();
        }
        spool.rewind();
        let again: Vec<Bytes> = std::iter::from_fn(|| spool.next_to_send()).take(first.len()).collect();
        assert_eq!(again, first);
    }

    #[test]
    fn a_full_backlog_of_earlier_starts_does_not_take_what_is_new() {
        let mut spool = Spool::new(Stream(9), room(64));
        spool.durable(vec![left(1, 100)], None);
        for at in 0..300 {
            spool.append(&window(at));
            spool.number();
        }
        let counts = spool.counts();
        assert_eq!((counts.closed, counts.evicted), (400, 36), "of the backlog what there is no room for: {counts:?}");
        assert_eq!(spool.unsent(2).count(), 64, "they get wider beside the backlog");
    }

    #[test]
    fn a_backlog_that_cannot_give_way_takes_nothing_of_what_is_new() {
        let mut spool = Spool::new(Stream(9), room(64));
        let mut truth = filled(room(64), [Window { labelled: 1, ..window(5_000) }]);
        let records = std::mem::take(&mut truth.live_mut().records).into();
        let unsent = Recovered { stream: Stream(2), after: 0, sent: false, records };
        spool.durable(vec![left(1, 63), unsent], Some((ReleaseId(1), 60_000)));
        for at in 0..20 {
            // A pause before each: none can get wider.
            spool.append(&window(10_000 + 2 * at));
            spool.number();
        }
        assert_eq!(spool.counts().evicted, 1, "the unsent one of the backlog");
        assert_eq!(spool.live().records.iter().filter(|r| r.windows > 0).count(), 20);
    }

    #[test]
    fn classes_that_take_turns_share_frames_and_leave_no_trail_of_gaps() {
        use driftline_shared::embedding::Embedding;
        let embedding = |at| Window { embedding: Some(Embedding::default()), ..window(at) };
        // Sixteen windows and the embedding of them, over and over: all that can be merged is.
        let turns = (0..4_000u64).filter(|n| n % 2 == 0 || n % 32 == 31);
        let turns = turns.map(|n| Box::new(if n % 2 == 0 { window(n / 2) } else { embedding(n / 2) }));
        let spool = filled(room(128), turns.map(|window| *window));
        let counts = spool.counts();
        assert_eq!(counts.evicted, 0, "{counts:?}");
        let widest = spool.live().records.iter().map(|r| r.hi - r.lo + 1).max();
        assert!(widest > Some(17), "{widest:?}: beyond the embedding");

        // Pauses keep all apart: what is evicted in turns ends as one gap.
        let bytes = filled(Room::default(), [embedding(1)]).live().records[0].bytes.len() as u64;
        let room = Room { embeddings: 4 * bytes, ..room(64) };
        let spool = filled(room, (0..600).map(|n| if n % 2 == 0 { window(3 * n) } else { embedding(1_000 * n) }));
        let gaps = spool.live().records.iter().filter(|r| r.windows == 0).count();
        assert!(gaps <= 64, "{gaps} gaps beside {} frames", spool.unsent(1).count());
    }
}
