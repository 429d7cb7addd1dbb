//! The packed form of an [`Embedding`]: about 280 bytes for sixteen windows of 60 samples.
//!
//! | bytes | field |
//! |---|---|
//! | varint | samples `n` |
//! | 1 | shift `s`: sums are sent in whole 2^s, rounded to the nearest |
//! | 1 | width `w` of a number in bits, at most [`WIDTH_MAX`] |
//! | 32·w | the numbers in two's complement, least significant bit first |
//!
//! A sum of n cosines varies by about 90·√n when nothing changes. The sender's 2^s is a fifth of that, so rounding adds a third of a
//! per cent to the variance.

use super::pack::take;
use crate::embedding::{COORDINATES, Embedding, ONE, SAMPLES_MAX};
use bincode::de::{Decoder, read::Reader};
use bincode::enc::{Encoder, write::Writer};
use bincode::error::{DecodeError, EncodeError};
use bincode::{Decode, Encode};

/// Widest number.
const WIDTH_MAX: u32 = 32;
/// Largest shift: beyond it nothing would be left of any sum.
const SHIFT_MAX: u32 = 30;
const BYTES_MAX: usize = COORDINATES * WIDTH_MAX as usize / 8;

/// The shift for so many samples.
fn shift(n: u32) -> u32 {
    4 + n.max(1).ilog2() / 2
}

pub(super) fn encode<E: Encoder>(embedding: &Embedding, encoder: &mut E) -> Result<(), EncodeError> {
    let (n, shift) = (embedding.n(), shift(embedding.n()));
    let rounded = |sum: i32| (i64::from(sum) + (1 << (shift - 1))) >> shift;
    let most = embedding.sums().iter().map(|&sum| rounded(sum)).fold(0, |most: u64, v| most | (v ^ (v >> 63)) as u64);
    let width = 65 - most.leading_zeros();
    if width > WIDTH_MAX {
        return Err(EncodeError::Other("an embedding sums too many samples"));
    }
    n.encode(encoder)?;
    let writer = encoder.writer();
    writer.write(&[shift as u8, width as u8])?;
    let (mut pending, mut bits) = (0u64, 0);
    for &sum in embedding.sums() {
        pending |= (rounded(sum) as u64 & ((1 << width) - 1)) << bits;
        bits += width;
        while bits >= 8 {
            writer.write(&[pending as u8])?;
            pending >>= 8;
            bits -= 8;
        }
    }
    Ok(())
}

pub(super) fn decode<D: Decoder>(decoder: &mut D) -> Result<Embedding, DecodeError> {
    let n = u32::decode(decoder)?;
    let [shift, width] = take(decoder)?.map(u32::from);
    if shift > SHIFT_MAX || width == 0 || width > WIDTH_MAX {
        return Err(DecodeError::Other("an embedding has impossible numbers"));
    }
    let mut bytes = [0u8; BYTES_MAX];
    let used = COORDINATES * width as usize / 8;
    decoder.claim_bytes_read(used)?;
    decoder.reader().read(&mut bytes[..used])?;
    let mut sums = [0i32; COORDINATES];
    let (mut pending, mut bits, mut next) = (0u64, 0, bytes.iter());
    for sum in &mut sums {
        while bits < width {
            pending |= u64::from(next.next().copied().unwrap_or(0)) << bits;
            bits += 8;
        }
        // The sign is in the number's highest bit.
        let number = (pending << (64 - width)) as i64 >> (64 - width);
        pending >>= width;
        bits -= width;
        // Rounding may have left the possible range by half a step.
        let most = i64::from(ONE) * i64::from(n.min(SAMPLES_MAX));
        *sum = (number << shift).clamp(-most, most) as i32;
    }
    Embedding::from_parts(n, sums).ok_or(DecodeError::Other("an embedding has impossible sums"))
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use crate::random::Random;
    use crate::units::{ReleaseId, Seq, Stream, WallMs};
    use crate::window::Window;
    use crate::wire::{FRAME_BYTES_MAX, Frame, pack};
    use proptest::prelude::*;
    use std::vec;

    fn sent(embedding: &Embedding) -> (Embedding, usize) {
        let mut window = Window::<4>::new(ReleaseId(1), WallMs(0), 60_000, core::iter::empty());
        window.embedding = Some(embedding.clone());
        let mut buffer = vec![0; FRAME_BYTES_MAX];
        let len = pack::write(Stream(1), Seq(1), [&window].into_iter(), &mut buffer).unwrap();
        let frame = Frame::parse(&buffer[..len]).unwrap();
        let mut windows = pack::Windows::open(frame.payload).unwrap();
        let got: Window<4> = windows.next().unwrap().unwrap();
        assert_eq!(windows.next::<4>(), Ok(None));
        (got.embedding.unwrap(), len)
    }

    fn embedding(n: u32, seed: u64) -> Embedding {
        let mut random = Random::new(seed);
        let sums = core::array::from_fn(|_| {
            let mean = random.unit() - 0.5;
            (0..n.min(2_000)).map(|_| ((mean + 0.5 * random.normal()).clamp(-1.0, 1.0) * f64::from(ONE)) as i32).sum()
        });
        Embedding::from_parts(n, sums).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn sums_come_back_within_half_a_step(n in 1u32..2_000, seed: u64) {
            let before = embedding(n, seed);
            let (after, _) = sent(&before);
            prop_assert_eq!(after.n(), n);
            let step = 1i32 << shift(n);
            for (a, b) in before.sums().iter().zip(after.sums()) {
                prop_assert!((a - b).abs() <= step / 2, "{} {} {}", a, b, step);
            }
        }

        #[test]
        fn damage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..1200)) {
            let config = crate::wire::bincode_config();
            struct Only;
            impl<C> Decode<C> for Only {
                fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
                    decode(decoder).map(|_| Self)
                }
            }
            let _ = bincode::decode_from_slice::<Only, _>(&bytes, config);
        }
    }

    #[test]
    fn sixteen_windows_take_no_more_than_a_window() {
        let (_, len) = sent(&embedding(960, 1));
        assert!(len <= 330, "{len} bytes");
        let (same, _) = sent(&Embedding::default());
        assert_eq!(same, Embedding::default());
    }
}
