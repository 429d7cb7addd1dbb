//! The packed form of [`Performance`]: only what was counted, so that a binary classifier's window of 60 samples takes about 40 bytes.
//!
//! | bytes | field |
//! |---|---|
//! | 1 | curves |
//! | | per curve: |
//! | 1 | pieces `k` |
//! | varint ×2 | sums over samples of the predicted class, and over others |
//! | ceil(k/8), then varints | which pieces hold samples of the predicted class (lowest bit first), and how many each |
//! | ceil(k/8), then varints | the same for other samples |
//! | 1 | classes `c` of the confusion table; 0 when it is empty |
//! | ceil(c²/8), then varints | which of its cells are not 0, and their counts |

use super::pack::take;
use crate::calibration::{CURVES_MAX, KNOTS_MAX};
use crate::performance::{CHOSEN, CONFUSION_CLASSES_MAX, CONFUSION_MAX, Counts, Performance, REST};
use bincode::de::{Decoder, read::Reader};
use bincode::enc::{Encoder, write::Writer};
use bincode::error::{DecodeError, EncodeError};
use bincode::{Decode, Encode};

pub(super) fn encode<E: Encoder>(performance: &Performance, encoder: &mut E) -> Result<(), EncodeError> {
    encoder.writer().write(&[performance.curves.len() as u8])?;
    for counts in &performance.curves {
        encoder.writer().write(&[counts.pieces.len() as u8])?;
        counts.sums.encode(encoder)?;
        for place in [CHOSEN, REST] {
            sparse(counts.pieces.iter().map(|piece| piece[place]), encoder)?;
        }
    }
    let confusion = performance.confusion.iter().any(|&c| c > 0);
    let classes = if confusion { performance.classes() } else { 0 };
    encoder.writer().write(&[classes as u8])?;
    sparse(performance.confusion.iter().copied().take(classes * classes), encoder)
}

/// Which counts are not 0, then those.
fn sparse<E: Encoder>(counts: impl Iterator<Item = u32> + Clone, encoder: &mut E) -> Result<(), EncodeError> {
    let mut marks = [0u8; CONFUSION_MAX / 8];
    let mut len = 0;
    for count in counts.clone() {
        marks[len / 8] |= u8::from(count > 0) << (len % 8);
        len += 1;
    }
    encoder.writer().write(&marks[..len.div_ceil(8)])?;
    counts.filter(|&c| c > 0).try_for_each(|count| count.encode(encoder))
}

pub(super) fn decode<D: Decoder>(decoder: &mut D) -> Result<Performance, DecodeError> {
    let mut performance = Performance::default();
    let [curves] = take(decoder)?;
    if usize::from(curves) > CURVES_MAX {
        return Err(DecodeError::Other("a window has too many curves"));
    }
    for _ in 0..curves {
        let [pieces] = take(decoder)?;
        if usize::from(pieces) > KNOTS_MAX {
            return Err(DecodeError::Other("a curve has too many pieces"));
        }
        let mut counts = Counts { pieces: heapless::Vec::new(), sums: <[u64; 2]>::decode(decoder)? };
        counts.pieces.resize(pieces.into(), [0, 0]).map_err(|_| DecodeError::Other("a curve has too many pieces"))?;
        for place in [CHOSEN, REST] {
            read_sparse(counts.pieces.iter_mut().map(|piece| &mut piece[place]), pieces.into(), decoder)?;
        }
        performance.curves.push(counts).map_err(|_| DecodeError::Other("a window has too many curves"))?;
    }
    let [classes] = take(decoder)?;
    let classes = usize::from(classes);
    if classes > CONFUSION_CLASSES_MAX {
        return Err(DecodeError::Other("a confusion table has too many classes"));
    }
    let cells = classes * classes;
    performance.confusion.resize(cells, 0).map_err(|_| DecodeError::Other("a confusion table has too many classes"))?;
    read_sparse(performance.confusion.iter_mut(), cells, decoder)?;
    Ok(performance)
}

fn read_sparse<'a, D: Decoder>(
    counts: impl Iterator<Item = &'a mut u32>,
    len: usize,
    decoder: &mut D,
) -> Result<(), DecodeError> {
    let mut marks = [0u8; CONFUSION_MAX / 8];
    let bytes = len.div_ceil(8);
    decoder.claim_bytes_read(bytes)?;
    decoder.reader().read(&mut marks[..bytes])?;
    for (at, count) in counts.enumerate() {
        if marks[at / 8] >> (at % 8) & 1 == 1 {
            *count = u32::decode(decoder)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use crate::calibration::{Calibration, Curve, Knot};
    use crate::units::{ReleaseId, Seq, Stream, WallMs};
    use crate::window::Window;
    use crate::wire::{FRAME_BYTES_MAX, Frame, pack};
    use proptest::prelude::*;
    use std::boxed::Box;
    use std::vec;

    type Small = Window<4>;

    fn calibration(classes: usize, knots: usize) -> Calibration {
        let (of, curves) = Calibration::of(classes).unwrap();
        let knot = |i: usize| Knot { from: i as f32 / knots as f32, p: i as f32 / knots as f32, rows: 100 };
        let curve = |_| Curve((0..knots).map(knot).collect());
        Calibration { of, rows: 1000, held_out: false, curves: (0..curves).map(curve).collect() }
    }

    /// A window without features, whose samples have scores from a seed, and the bytes of its frame.
    fn window(classes: usize, knots: usize, samples: u32, truth: bool, seed: u64) -> (Box<Small>, vec::Vec<u8>) {
        let calibration = calibration(classes, knots);
        let mut window = Box::new(Small::new(ReleaseId(1), WallMs(1_795_300_000_000), 60_000, core::iter::empty()));
        let mut counts = Performance::new(Some(&calibration), classes);
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) as f32 / (1u64 << 31) as f32
        };
        for _ in 0..samples {
            let scores: vec::Vec<f32> = (0..classes).map(|_| next()).collect();
            let top = (0..classes).fold(0, |best, k| if scores[k] > scores[best] { k } else { best });
            counts.add(&calibration, &scores, top);
            if truth {
                counts.judge(top, (next() * classes as f32) as usize);
            }
        }
        (window.samples, window.performance) = (samples, Some(counts));
        let mut buffer = vec![0; FRAME_BYTES_MAX];
        let len = pack::write(Stream(1), Seq(1), [&*window].into_iter(), &mut buffer).unwrap();
        buffer.truncate(len);
        (window, buffer)
    }

    proptest! {
        #[test]
        fn counts_survive_the_wire(classes in 2usize..20, knots in 1usize..=KNOTS_MAX, samples in 1u32..200, truth: bool, seed: u64) {
            let (sent, bytes) = window(classes, knots, samples, truth, seed);
            let frame = Frame::parse(&bytes).unwrap();
            let mut windows = pack::Windows::open(frame.payload).unwrap();
            let got: Small = windows.next().unwrap().unwrap();
            prop_assert_eq!(windows.next::<4>(), Ok(None));
            let (mut sent, got) = (sent.performance.unwrap(), got.performance.unwrap());
            if got.confusion.is_empty() {
                prop_assert!(sent.confusion.iter().all(|&c| c == 0));
                sent.confusion.clear();
            }
            prop_assert_eq!(got, sent);
        }

        #[test]
        fn damaged_counts_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..600), at in 0usize..200, seed: u64) {
            let (_, good) = window(3, 32, 60, true, seed);
            let mut payload = good[8..good.len() - 4].to_vec();
            let at = at % payload.len();
            payload.truncate(at);
            payload.extend(bytes);
            if let Some(mut windows) = pack::Windows::open(&payload) {
                while let Ok(Some(_)) = windows.next::<4>() {}
            }
        }
    }

    #[test]
    fn nothing_counted_takes_no_byte() {
        let (mut with, _) = window(2, 32, 0, false, 1);
        let mut a = vec![0; FRAME_BYTES_MAX];
        let one = pack::encode(&*with, &mut a).unwrap();
        with.performance = None;
        assert_eq!(pack::encode(&*with, &mut a).unwrap(), one);
    }

    /// Bytes that scores add to a window of 60 samples.
    fn added(classes: usize, truth: bool) -> usize {
        let bytes = |samples| window(classes, KNOTS_MAX, samples, truth, 7).1.len();
        bytes(60) - bytes(0)
    }

    #[test]
    fn a_binary_classifiers_scores_take_little_room() {
        let (two, three, truth) = (added(2, false), added(3, false), added(3, true));
        assert!(two <= 64 && three <= 200 && truth <= 220, "{two}, {three} and {truth} bytes");
    }
}
