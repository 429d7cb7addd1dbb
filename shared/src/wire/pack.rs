//! The packed form of windows: about 24 bytes per feature of a window of 60 samples.
//!
//! Payload of a frame of windows: bincode varints `stream`, `seq`, `windows` (plus [`REACHES_BACK`] when the number of frames follows
//! whose windows are in this one, as parts of wider ones), then each window: `release`, `start`, `span_ms`,
//! `samples`, the three refused counts, `labelled`, `correct`, `features` (plus [`HAS_PERFORMANCE`] when a section as in [`super::scores`]
//! follows the features, and [`HAS_EMBEDDING`] when one as in `embedding.rs` comes last), then per feature
//!
//! | bytes | field |
//! |---|---|
//! | 1 | bits 0-4: width `w` of a count in bits (0-31); bit 5: cells follow; bit 6: missing, not finite and repeats follow |
//! | 1 | bits 0-4: cells `k`; bit 7: they are categories (only with bit 5; else as in the sketch before) |
//! | | bits, least significant first, filled up to a byte: |
//! | k·w | counts |
//! | b each | position in the cell, for every inner cell that has counts: its mean in 2^b parts, b = 2 + ½·log₂ of the mean count, at most 8 |
//! | | end of the bits |
//! | 1 each | how far the values in the bottom and in the top cell lie beyond the edge on average, for those that have counts: `c` for 2^(c/10 - 9) ranges between the outermost edges, within 4 % |
//! | varint ×3 | missing, not finite, repeats (only with bit 6) |
//! | 3+2 | mean as the upper three bytes of an f32, standard deviation as bfloat16 (only with counts) |
//! | 2, 2 | smallest value as bfloat16 if the bottom cell has counts, largest if the top cell has; rounded outwards |
//!
//! Categories have neither positions nor moments. Where an outer cell is empty no value is beyond its edge, and the mean stands for
//! that bound. Counts lose nothing below 2^31, where they stop; a position is rounded to the middle of its part.

use super::{Kind, TooLarge, WINDOWS_PER_FRAME_MAX, bincode_config, embedding, scores, write_with};
use crate::sketch::{Beside, CELLS_MAX, Moments, POSITIONS, Sketch};
use crate::units::{ReleaseId, Seq, Stream, WallMs};
use crate::window::{Refused, Window};
use bincode::{
    Decode, Encode,
    de::{Decoder, read::Reader},
    enc::{Encoder, write::Writer},
    error::{DecodeError, EncodeError},
};

/// Added to the number of windows when the frame stands for those before it too.
const REACHES_BACK: u32 = 1 << 8;
/// Added to the number of features when performance follows them.
pub const HAS_PERFORMANCE: u32 = 1 << 15;
/// Added to it when an embedding comes last.
pub const HAS_EMBEDDING: u32 = 1 << 14;

const HAS_CELLS: u8 = 1 << 5;
const HAS_BESIDE: u8 = 1 << 6;
const CATEGORIES: u8 = 1 << 7;
const WIDTH: u8 = HAS_CELLS - 1;
const COUNT_MAX: u32 = i32::MAX as u32;
/// Counts of up to 31 bits and positions of up to 8, and what [`Bits`] may touch beyond the last.
const PACKED_BYTES_MAX: usize = CELLS_MAX * 5 + 8;
/// Steps of a mean distance beyond the outermost edges: so many per doubling, from 2^-9 ranges.
const BEYOND: (f64, f64) = (10.0, 9.0);

/// Writes a frame of windows and returns its length.
pub fn write<'a, const F: usize>(
    stream: Stream,
    seq: Seq,
    windows: impl ExactSizeIterator<Item = &'a Window<F>>,
    buffer: &mut [u8],
) -> Result<usize, TooLarge> {
    write_each((stream, seq, 0), windows, buffer, |window, rest| {
        bincode::encode_into_slice(window, rest, bincode_config()).ok()
    })
}

/// Writes one window as it stands in a frame and returns its length, so that a spool can keep windows before it knows
/// how many will share a frame.
pub fn encode<const F: usize>(window: &Window<F>, buffer: &mut [u8]) -> Result<usize, TooLarge> {
    bincode::encode_into_slice(window, buffer, bincode_config()).map_err(|_| TooLarge)
}

/// Writes a frame of windows that [`encode`] wrote: the same bytes as [`write`] gives. It stands for `back` numbers before `seq` too.
pub fn write_encoded<'a>(
    stream: Stream,
    seq: Seq,
    back: u32,
    windows: impl ExactSizeIterator<Item = &'a [u8]>,
    buffer: &mut [u8],
) -> Result<usize, TooLarge> {
    write_each((stream, seq, back), windows, buffer, |window, rest| {
        rest.get_mut(..window.len())?.copy_from_slice(window);
        Some(window.len())
    })
}

/// The head of a frame, and then each window as `put` writes it.
fn write_each<T>(
    (stream, seq, back): (Stream, Seq, u32),
    windows: impl ExactSizeIterator<Item = T>,
    buffer: &mut [u8],
    put: impl Fn(T, &mut [u8]) -> Option<usize>,
) -> Result<usize, TooLarge> {
    write_with(Kind::Windows, buffer, |payload| {
        let count = u32::try_from(windows.len()).ok().filter(|&n| n <= WINDOWS_PER_FRAME_MAX)?;
        let mut used = if back == 0 {
            bincode::encode_into_slice((stream, seq, count), payload, bincode_config()).ok()?
        } else {
            bincode::encode_into_slice((stream, seq, count | REACHES_BACK, back), payload, bincode_config()).ok()?
        };
        for window in windows {
            used += put(window, payload.get_mut(used..)?)?;
        }
        Some(used)
    })
}

/// A frame of windows, decoded one window at a time.
#[derive(Debug, Clone)]
pub struct Windows<'a> {
    /// The sender's stream.
    pub stream: Stream,
    /// The frame's number.
    pub seq: Seq,
    /// Numbers before it that it stands for too.
    pub back: u32,
    left: u32,
    rest: &'a [u8],
}

impl<'a> Windows<'a> {
    /// Reads the head of a [`Kind::Windows`] payload.
    pub fn open(payload: &'a [u8]) -> Option<Self> {
        let ((stream, seq, count), mut used): ((Stream, Seq, u32), usize) =
            bincode::decode_from_slice(payload, bincode_config()).ok()?;
        let mut back = 0;
        if count & REACHES_BACK != 0 {
            let (found, more): (u32, usize) = bincode::decode_from_slice(&payload[used..], bincode_config()).ok()?;
            (back, used) = (found, used + more);
        }
        let left = count & !REACHES_BACK;
        let fits = left <= WINDOWS_PER_FRAME_MAX && u64::from(back) < seq.0.max(1);
        fits.then(|| Self { stream, seq, back, left, rest: &payload[used..] })
    }

    /// The next window; `Ok(None)` after the last when nothing follows it.
    #[expect(clippy::should_implement_trait, reason = "generic in the capacity, fallible")]
    pub fn next<const F: usize>(&mut self) -> Result<Option<Window<F>>, super::Malformed> {
        if self.left == 0 {
            return if self.rest.is_empty() { Ok(None) } else { Err(super::Malformed::Payload) };
        }
        let (window, used) =
            bincode::decode_from_slice(self.rest, bincode_config()).map_err(|_| super::Malformed::Payload)?;
        self.left -= 1;
        self.rest = &self.rest[used..];
        Ok(Some(window))
    }
}

impl<const F: usize> Encode for Window<F> {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        (self.release, self.start, self.span_ms, self.samples).encode(encoder)?;
        let performance = self.performance.as_ref().filter(|p| !p.is_empty());
        let flag = |is: bool, flag: u32| if is { flag } else { 0 };
        let flags = flag(performance.is_some(), HAS_PERFORMANCE) | flag(self.embedding.is_some(), HAS_EMBEDDING);
        (self.refused, self.labelled, self.correct, self.sketches.len() as u32 | flags).encode(encoder)?;
        let mut shape = 0;
        self.sketches.iter().try_for_each(|sketch| encode_sketch(sketch, &mut shape, encoder))?;
        performance.map_or(Ok(()), |performance| scores::encode(performance, encoder))?;
        self.embedding.as_ref().map_or(Ok(()), |embedding| embedding::encode(embedding, encoder))
    }
}

impl<C, const F: usize> Decode<C> for Window<F> {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        let (release, start, span_ms, samples) = <(ReleaseId, WallMs, u32, u32)>::decode(decoder)?;
        let (refused, labelled, correct, features) = <(Refused, u32, u32, u32)>::decode(decoder)?;
        let mut sketches = heapless::Vec::new();
        let mut shape = 0;
        for _ in 0..features & !(HAS_PERFORMANCE | HAS_EMBEDDING) {
            let sketch = decode_sketch(&mut shape, decoder)?;
            sketches.push(sketch).map_err(|_| DecodeError::Other("a window has too many features"))?;
        }
        let performance = if features & HAS_PERFORMANCE == 0 { None } else { Some(scores::decode(decoder)?) };
        let embedding = if features & HAS_EMBEDDING == 0 { None } else { Some(embedding::decode(decoder)?) };
        Ok(Self { release, start, span_ms, samples, refused, labelled, correct, performance, embedding, sketches })
    }
}

impl<'de, C, const F: usize> bincode::BorrowDecode<'de, C> for Window<F> {
    fn borrow_decode<D: bincode::de::BorrowDecoder<'de, Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        Self::decode(decoder)
    }
}

/// Bits of a mean position, for both ends: more readings deserve more of them.
fn position_bits(counts: &[u32]) -> u32 {
    let n: u64 = counts.iter().map(|&c| u64::from(c)).sum();
    (2 + (n / counts.len().max(1) as u64).max(1).ilog2() / 2).min(8)
}

/// Numbers of a few bits one after the other, least significant bit first.
struct Bits {
    bytes: [u8; PACKED_BYTES_MAX],
    at: usize,
}

impl Bits {
    const EMPTY: Self = Self { bytes: [0; PACKED_BYTES_MAX], at: 0 };

    /// The eight bytes that hold the next number of at most 32 bits, wherever in the first of them it begins.
    fn word(&self) -> u64 {
        self.bytes[self.at / 8..].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
    }

    fn put(&mut self, value: u32, width: u32) {
        let word = self.word() | u64::from(value) << (self.at % 8);
        if let Some(bytes) = self.bytes[self.at / 8..].first_chunk_mut() {
            *bytes = word.to_le_bytes();
        }
        self.at += width as usize;
    }

    fn take(&mut self, width: u32) -> u32 {
        let value = (self.word() >> (self.at % 8)) & ((1 << width) - 1);
        self.at += width as usize;
        value as u32
    }

    /// Reads bytes up to the one that holds the last of `bits`.
    fn fill<D: Decoder>(&mut self, decoder: &mut D, from: usize, bits: usize) -> Result<(), DecodeError> {
        let (from, to) = (from.div_ceil(8), bits.div_ceil(8));
        decoder.claim_bytes_read(to - from)?;
        decoder.reader().read(&mut self.bytes[from..to])
    }
}

/// `shape` is cells and kind of the sketch before, and then of this one.
fn encode_sketch<E: Encoder>(sketch: &Sketch, shape: &mut u8, encoder: &mut E) -> Result<(), EncodeError> {
    let counts = sketch.counts();
    let width = 32 - counts.iter().fold(0, |all, &c| all | c.min(COUNT_MAX)).leading_zeros();
    let moments = sketch.moments();
    // Categories have no moments whatever they counted; where nothing was counted both kinds look alike.
    let categories = sketch.n() > 0 && moments.n == 0;
    let mine = counts.len() as u8 | if categories { CATEGORIES } else { 0 };
    let has_cells = mine != *shape;
    *shape = mine;
    let beside = (sketch.missing(), sketch.non_finite(), sketch.repeats());
    let has_beside = beside != (0, 0, 0);
    let mut bits = Bits::EMPTY;
    counts.iter().for_each(|&count| bits.put(count.min(COUNT_MAX), width));
    let last = counts.len().saturating_sub(1);
    let mean = |cell: usize| sketch.positions()[cell] as f64 / f64::from(counts[cell]) / f64::from(POSITIONS);
    if !categories {
        let parts = position_bits(counts);
        for (&position, &count) in sketch.positions().iter().zip(counts).take(last).skip(1).filter(|(_, c)| **c > 0) {
            // The same as mean·2^parts, in whole numbers; a position of a full f32 range fits u64 by far.
            let part = (position << parts) / (u64::from(count) * POSITIONS as u64);
            bits.put(part.min((1 << parts) - 1) as u32, parts);
        }
    }
    let used = bits.at.div_ceil(8);
    let writer = encoder.writer();
    writer.write(&[width as u8 | if has_cells { HAS_CELLS } else { 0 } | if has_beside { HAS_BESIDE } else { 0 }])?;
    if has_cells {
        writer.write(&[mine])?;
    }
    writer.write(&bits.bytes[..used])?;
    let outer = |cell: usize| !categories && counts.get(cell).is_some_and(|&c| c > 0);
    let (bottom, top) = (outer(0), last > 0 && outer(last));
    for cell in [(bottom, 0), (top, last)].into_iter().filter_map(|(has, cell)| has.then_some(cell)) {
        writer.write(&[beyond_code(mean(cell))])?;
    }
    if has_beside {
        beside.encode(encoder)?;
    }
    if moments.n > 0 {
        let writer = encoder.writer();
        writer.write(&mean_bytes(moments.mean() as f32))?;
        writer.write(&bfloat16_nearest(moments.sd() as f32).to_le_bytes())?;
        if bottom {
            writer.write(&bfloat16_below(moments.min).to_le_bytes())?;
        }
        if top {
            writer.write(&bfloat16_above(moments.max).to_le_bytes())?;
        }
    }
    Ok(())
}

fn decode_sketch<D: Decoder>(shape: &mut u8, decoder: &mut D) -> Result<Sketch, DecodeError> {
    let [head] = take(decoder)?;
    let width = u32::from(head & WIDTH);
    if head & HAS_CELLS != 0 {
        [*shape] = take(decoder)?;
    }
    let (cells, categories) = (usize::from(*shape & !CATEGORIES), *shape & CATEGORIES != 0);
    if cells > CELLS_MAX {
        return Err(DecodeError::Other("a sketch has too many cells"));
    }
    let mut bits = Bits::EMPTY;
    let counted = cells * width as usize;
    bits.fill(decoder, 0, counted)?;
    let counts: heapless::Vec<u32, CELLS_MAX> = (0..cells).map(|_| bits.take(width)).collect();
    let last = cells.saturating_sub(1);
    let parts = position_bits(&counts);
    let inner = if categories { 0 } else { (1..last).filter(|&cell| counts[cell] > 0).count() };
    bits.fill(decoder, counted, counted + inner * parts as usize)?;
    let mut positions: heapless::Vec<u64, CELLS_MAX> = counts.iter().map(|_| 0).collect();
    let sum = |count: u32, mean: f64| (mean * f64::from(POSITIONS) * f64::from(count) + 0.5) as u64;
    let mut outer = [false; 2];
    if !categories {
        for cell in (1..last).filter(|&cell| counts[cell] > 0) {
            // The middle of the part, in whole positions.
            let part = u64::from(bits.take(parts));
            positions[cell] = ((2 * part + 1) * u64::from(counts[cell]) * POSITIONS as u64) >> (parts + 1);
        }
        outer = [0, last].map(|cell| counts.get(cell).is_some_and(|&c| c > 0));
        outer[1] &= last > 0;
        for (_, cell) in outer.iter().zip([0, last]).filter(|(has, _)| **has) {
            let [code] = take(decoder)?;
            positions[cell] = sum(counts[cell], beyond_of(code));
        }
    }
    let (missing, non_finite, repeats) = if head & HAS_BESIDE != 0 { Decode::decode(decoder)? } else { (0, 0, 0) };
    let n: u64 = counts.iter().map(|&c| u64::from(c)).sum();
    let moments = if n > 0 && !categories { decode_moments(decoder, n, outer)? } else { Moments::default() };
    Ok(Sketch::from_parts(counts, positions, Beside { missing, non_finite, repeats }, moments))
}

fn decode_moments<D: Decoder>(decoder: &mut D, n: u64, [bottom, top]: [bool; 2]) -> Result<Moments, DecodeError> {
    let [low, middle, high] = take(decoder)?;
    let mean = f32::from_le_bytes([0, low, middle, high]);
    let sd = from_bfloat16(u16::from_le_bytes(take(decoder)?));
    let mut bound = |sent: bool| if sent { Ok(from_bfloat16(u16::from_le_bytes(take(decoder)?))) } else { Ok(mean) };
    let (min, max) = (bound(bottom)?, bound(top)?);
    // f32 rounding may put the mean of equal values just outside exact bounds, but never outside rounded ones.
    if !mean.is_finite() || !sd.is_finite() || sd < 0.0 || min.is_nan() || max.is_nan() || min > max {
        return Err(DecodeError::Other("a sketch's moments are impossible"));
    }
    let m2 = f64::from(sd) * f64::from(sd) * n as f64;
    Ok(Moments::new(n, f64::from(mean), m2, min, max))
}

pub(super) fn take<const N: usize, D: Decoder>(decoder: &mut D) -> Result<[u8; N], DecodeError> {
    let mut bytes = [0u8; N];
    decoder.claim_bytes_read(N)?;
    decoder.reader().read(&mut bytes)?;
    Ok(bytes)
}

/// The upper half of an f32, the smallest bfloat16 not below `x`.
fn bfloat16_above(x: f32) -> u16 {
    let bits = x.to_bits();
    // Dropping bits moves towards zero, which is up for negative numbers already.
    let up = if x > 0.0 { bits.saturating_add(0xffff) } else { bits };
    (up >> 16) as u16
}

/// The code of a mean distance, in ranges.
fn beyond_code(ranges: f64) -> u8 {
    if ranges <= 0.0 { 0 } else { libm::round((libm::log2(ranges) + BEYOND.1) * BEYOND.0).clamp(0.0, 255.0) as u8 }
}

fn beyond_of(code: u8) -> f64 {
    if code == 0 { 0.0 } else { libm::exp2(f64::from(code) / BEYOND.0 - BEYOND.1) }
}

/// The upper three bytes of the nearest f32 whose lowest byte is 0, least significant first.
fn mean_bytes(mean: f32) -> [u8; 3] {
    let largest = f32::MAX.to_bits() & !0xff;
    let magnitude = ((mean.to_bits() & 0x7fff_ffff) + 0x80).min(largest | 0x80) & !0xff;
    let [_, low, middle, high] = (magnitude | mean.to_bits() & 0x8000_0000).to_le_bytes();
    [low, middle, high]
}

/// The nearest bfloat16 of a number that is not negative.
fn bfloat16_nearest(x: f32) -> u16 {
    (x.to_bits().saturating_add(0x8000).min(f32::INFINITY.to_bits() - 0x1_0000) >> 16) as u16
}

fn bfloat16_below(x: f32) -> u16 {
    bfloat16_above(-x) ^ 0x8000
}

fn from_bfloat16(half: u16) -> f32 {
    f32::from_bits(u32::from(half) << 16)
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use crate::random::Random;
    use crate::sketch::{Cells, Grid};
    use crate::window::Block;
    use crate::wire::{FRAME_BYTES_MAX, Frame};
    use proptest::prelude::*;
    use std::vec::Vec;
    use std::{boxed::Box, vec};

    type Small = Window<32>;

    fn grids() -> Vec<Grid> {
        let edges = [
            -2.3, -1.6, -1.3, -1.0, -0.8, -0.7, -0.5, -0.4, -0.25, -0.1, 0.0, 0.1, 0.25, 0.4, 0.5, 0.7, 0.8, 1.0, 1.3,
            1.6, 2.3,
        ];
        vec![Grid::new(&Cells::Edges(edges.into_iter().collect())); 20]
    }

    fn window(seed: u64, samples: u32, missing: bool) -> Box<Small> {
        let grids = grids();
        let mut w =
            Box::new(Small::new(ReleaseId(0x0123_4567_89ab_cdef), WallMs(1_795_300_000_000), 60_000, grids.iter()));
        let mut state = seed;
        for _ in 0..samples {
            let values = (0..20).map(|_| {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                let u = (state >> 33) as f32 / (1u64 << 31) as f32;
                // Logistic quantiles: near enough to the normal law the edges stand for.
                if missing && u < 0.1 { f32::NAN } else { 0.5 * libm::logf((u + 1e-6) / (1.0 - u + 1e-6)) }
            });
            w.add(grids.iter(), values);
        }
        w
    }

    #[test]
    fn twenty_features_of_sixty_samples_fit_in_512_bytes() {
        let mut buffer = vec![0; FRAME_BYTES_MAX];
        let len = write(Stream(u64::MAX), Seq(1_000_000), [&*window(7, 60, false)].into_iter(), &mut buffer).unwrap();
        assert!(len <= 512, "{len} bytes");
    }

    #[test]
    fn the_same_readings_make_the_same_bytes_on_every_processor() {
        // Counted in the lanes of vector registers, which differ; tests/nightly runs this on an emulated ARM.
        let (grids, mut random) = (grids(), Random::new(1));
        let (mut window, mut block) = (window(7, 0, false), Block::new(20));
        for row in 0..150 {
            let far = [f32::NAN, f32::INFINITY, f32::MAX, f32::MIN_POSITIVE / 8.0, -0.0];
            block.add((0..20).map(|k| if row == 70 && k < 5 { far[k] } else { random.normal() as f32 }));
            if block.is_full() || row == 149 {
                window.count(grids.iter(), &mut block);
            }
        }
        let mut buffer = vec![0; FRAME_BYTES_MAX];
        let len = write(Stream(1), Seq(1), [&*window].into_iter(), &mut buffer).unwrap();
        assert_eq!((len, &buffer[len - 4..len]), (666, &[19, 232, 159, 51][..]), "length and checksum");
    }

    #[test]
    fn windows_encoded_one_by_one_make_the_same_frame() {
        let windows = [window(1, 60, false), window(2, 7, true)];
        let mut whole = vec![0; FRAME_BYTES_MAX];
        let len = write(Stream(3), Seq(4), windows.iter().map(|w| &**w), &mut whole).unwrap();
        let pieces: Vec<Vec<u8>> = windows
            .iter()
            .map(|w| {
                let mut piece = vec![0; FRAME_BYTES_MAX];
                let len = encode(w, &mut piece).unwrap();
                piece.truncate(len);
                piece
            })
            .collect();
        let mut joined = vec![0; FRAME_BYTES_MAX];
        let joined_len = write_encoded(Stream(3), Seq(4), 0, pieces.iter().map(Vec::as_slice), &mut joined).unwrap();
        assert_eq!(whole[..len], joined[..joined_len]);
    }

    proptest! {
        #[test]
        fn a_window_survives_the_wire(seed: u64, samples in 0u32..300, missing: bool) {
            let sent = window(seed, samples, missing);
            let mut buffer = vec![0; FRAME_BYTES_MAX];
            let len = write(Stream(seed), Seq(9), [&*sent].into_iter(), &mut buffer).unwrap();
            let frame = Frame::parse(&buffer[..len]).unwrap();
            let mut windows = Windows::open(frame.payload).unwrap();
            let got: Small = windows.next().unwrap().unwrap();
            prop_assert_eq!(windows.next::<32>(), Ok(None));
            prop_assert_eq!((windows.stream, windows.seq), (Stream(seed), Seq(9)));
            prop_assert_eq!((got.samples, got.start, got.release), (sent.samples, sent.start, sent.release));
            for (a, b) in got.sketches.iter().zip(&sent.sketches) {
                prop_assert_eq!(a.counts(), b.counts());
                prop_assert_eq!((a.missing(), a.non_finite()), (b.missing(), b.non_finite()));
                prop_assert!((a.moments().mean() - b.moments().mean()).abs() <= b.moments().mean().abs() / 32_768.0 + 1e-6);
                prop_assert!((a.moments().sd() - b.moments().sd()).abs() <= b.moments().sd() / 256.0 + 1e-6);
                prop_assert_eq!(a.repeats(), b.repeats());
                let last = b.counts().len() - 1;
                prop_assert!(b.counts()[0] == 0 || a.moments().min <= b.moments().min);
                prop_assert!(b.counts()[last] == 0 || a.moments().max >= b.moments().max);
                for (k, (&x, &y)) in a.positions().iter().zip(b.positions()).enumerate() {
                    // Inner cells: half of a quarter of the cell at the worst; outer ones: half a step, and 2^-9 ranges.
                    let n = f64::from(b.counts()[k]);
                    let allowed = if k == 0 || k == last { y as f64 * 0.04 + n + 1.0 } else { n * 256.0 / 8.0 + 1.0 };
                    prop_assert!((x as f64 - y as f64).abs() <= allowed, "cell {}: {} for {} of {}", k, x, y, n);
                }
            }
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            if let Some(mut windows) = Windows::open(&bytes) {
                while let Ok(Some(_)) = windows.next::<32>() {}
            }
        }

        #[test]
        fn a_flipped_bit_is_noticed(seed: u64, bit in 0usize..3000) {
            let mut buffer = vec![0; FRAME_BYTES_MAX];
            let len = write(Stream(1), Seq(1), [&*window(seed, 60, false)].into_iter(), &mut buffer).unwrap();
            let bit = bit % (len * 8);
            buffer[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(Frame::parse(&buffer[..len]).is_err());
        }

        #[test]
        fn bounds_are_rounded_outwards(x in any::<f32>().prop_filter("finite", |x| x.is_finite())) {
            prop_assert!(from_bfloat16(bfloat16_above(x)) >= x);
            prop_assert!(from_bfloat16(bfloat16_below(x)) <= x);
        }
    }
}
