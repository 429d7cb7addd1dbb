//! What is watched of a sample that is more than a row of readings: a stretch of a signal, or an image.
//!
//! The model takes the sample as it is; baselines, windows, guards and detectors see a few numbers per channel that people can name.
//! The same functions make the training rows and the device's, so that both mean the same.

use driftline_shared::manifest::{Pixels, Sampled};

/// Weights of red, green and blue in what the eye calls bright (ITU-R BT.709).
const LUMA: [f32; 3] = [0.2126, 0.7152, 0.0722];
/// What is watched of each channel of a signal.
const OF_SIGNAL: [&str; 5] = ["mean", "rms", "peak", "kurtosis", "crossings"];
/// What is watched of an image beside its channels.
const OF_IMAGE: [&str; 3] = ["brightness", "contrast", "sharpness"];
/// Names of three channels.
const COLOURS: [&str; 3] = ["red", "green", "blue"];

/// How many numbers the model takes of a sample.
pub fn raw_len(sampled: &Sampled) -> usize {
    match sampled {
        Sampled::Signal { channels, length, .. } => channels.len().saturating_mul(*length as usize),
        Sampled::Image { width, height, channels, .. } => {
            (*width as usize).saturating_mul(*height as usize).saturating_mul(usize::from(*channels))
        }
    }
}

/// Names of what is watched, in the order of [`values`].
pub fn names(sampled: &Sampled) -> Vec<String> {
    match sampled {
        Sampled::Signal { channels, .. } => {
            channels.iter().flat_map(|c| OF_SIGNAL.map(|what| format!("{}.{what}", c.as_str()))).collect()
        }
        Sampled::Image { channels, .. } => {
            let colours = if *channels == 3 { &COLOURS[..] } else { &[] };
            let of_colours = colours.iter().flat_map(|c| ["mean", "spread"].map(|what| format!("{c}.{what}")));
            of_colours.chain(OF_IMAGE.map(str::to_owned)).collect()
        }
    }
}

/// What is watched of one sample; NaN where it has no value.
pub fn values(sampled: &Sampled, raw: &[f32], out: &mut Vec<f32>) {
    out.clear();
    match sampled {
        Sampled::Signal { channels, planar, .. } => {
            let many = channels.len().max(1);
            for channel in 0..many {
                let length = raw.len() / many;
                let reading = |at: usize| raw[if *planar { channel * length + at } else { at * many + channel }];
                out.extend(signal(length, reading));
            }
        }
        Sampled::Image { width, height, channels, planar, pixels } => {
            let (area, many) = (*width as usize * *height as usize, usize::from(*channels));
            let full = if *pixels == Pixels::Byte { 255.0 } else { 1.0 };
            let value = |at: usize, c: usize| {
                raw.get(if *planar { c * area + at } else { at * many + c }).copied().unwrap_or(f32::NAN) / full
            };
            if many == 3 {
                for c in 0..3 {
                    let (mean, spread) = mean_and_spread(area, |at| value(at, c));
                    out.extend([mean, spread]);
                }
            }
            let luma = |at: usize| if many == 3 { (0..3).map(|c| LUMA[c] * value(at, c)).sum() } else { value(at, 0) };
            let (brightness, contrast) = mean_and_spread(area, luma);
            out.extend([brightness, contrast, sharpness(*width as usize, *height as usize, luma)]);
        }
    }
}

/// Mean, rms and peak of what is left without the mean, kurtosis (3 for a Gaussian) and the share of neighbours with another sign.
fn signal(length: usize, reading: impl Fn(usize) -> f32) -> [f32; 5] {
    let known = || (0..length).map(&reading).filter(|v| v.is_finite()).map(f64::from);
    let n = known().count() as f64;
    if n == 0.0 {
        return [f32::NAN; 5];
    }
    let mean = known().sum::<f64>() / n;
    let moment = |power: i32| known().map(|v| (v - mean).powi(power)).sum::<f64>() / n;
    let (variance, peak) = (moment(2), known().map(|v| (v - mean).abs()).fold(0.0, f64::max));
    let kurtosis = if variance > 0.0 { moment(4) / (variance * variance) } else { f64::NAN };
    let crossings = known().zip(known().skip(1)).filter(|(a, b)| (a - mean) * (b - mean) < 0.0).count() as f64;
    [mean, variance.sqrt(), peak, kurtosis, crossings / (n - 1.0).max(1.0)].map(|v| v as f32)
}

fn mean_and_spread(n: usize, value: impl Fn(usize) -> f32) -> (f32, f32) {
    let n_f = n.max(1) as f64;
    let mean = (0..n).map(|at| f64::from(value(at))).sum::<f64>() / n_f;
    let variance = (0..n).map(|at| (f64::from(value(at)) - mean).powi(2)).sum::<f64>() / n_f;
    (mean as f32, variance.sqrt() as f32)
}

/// Root mean square of the Laplacian: how much a pixel differs from its four neighbours. Blur makes it small.
fn sharpness(width: usize, height: usize, luma: impl Fn(usize) -> f32) -> f32 {
    let mut sum = 0.0;
    for y in 1..height.saturating_sub(1) {
        for x in 1..width.saturating_sub(1) {
            let at = y * width + x;
            let around = luma(at - 1) + luma(at + 1) + luma(at - width) + luma(at + width);
            sum += f64::from(around - 4.0 * luma(at)).powi(2);
        }
    }
    let inner = width.saturating_sub(2) * height.saturating_sub(2);
    if inner == 0 { f32::NAN } else { (sum / inner as f64).sqrt() as f32 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use driftline_shared::list::Text;

    fn of(sampled: &Sampled, raw: &[f32]) -> Vec<f32> {
        let mut out = vec![9.0];
        values(sampled, raw, &mut out);
        assert_eq!(out.len(), names(sampled).len());
        out
    }

    #[test]
    fn a_sine_has_the_figures_of_a_sine() {
        let channels = ["x", "y"].iter().map(|c| Text::cut(c)).collect();
        let mut sampled = Sampled::Signal { channels, length: 1_000, hop: 500, planar: true };
        let x = (0..1_000).map(|i| 2.0 + 3.0 * (i as f32 * 0.1 * std::f32::consts::PI).sin());
        let raw: Vec<f32> = x.chain((0..1_000).map(|_| 7.0)).collect();
        assert_eq!(raw_len(&sampled), raw.len());
        let found = of(&sampled, &raw);
        // Of a sine of amplitude 3: rms 3/√2, peak 3 (its samples reach it), kurtosis 1.5, two crossings a period of 20.
        for (found, wanted) in found.iter().zip([2.0, 2.1213, 3.0, 1.5, 0.1]) {
            assert!((found - wanted).abs() < 0.005, "{found} for {wanted}");
        }
        assert_eq!(found[5..8], [7.0, 0.0, 0.0]);
        assert!(found[8].is_nan(), "a constant has no kurtosis");
        if let Sampled::Signal { planar, .. } = &mut sampled {
            *planar = false;
        }
        let turned: Vec<f32> = (0..1_000).flat_map(|i| [raw[i], raw[1_000 + i]]).collect();
        assert_eq!(of(&sampled, &turned)[..8], found[..8], "reading by reading is the same");
        assert!(of(&sampled, &vec![f32::NAN; 2_000]).iter().all(|v| v.is_nan()));
    }

    #[test]
    fn an_image_has_colours_light_and_edges() {
        let image = |channels, pixels| Sampled::Image { width: 8, height: 4, channels, planar: true, pixels };
        let flat = of(&image(3, Pixels::Byte), &[[255.0; 32], [0.0; 32], [0.0; 32]].concat());
        assert_eq!(flat[..6], [1.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
        assert!((flat[6] - LUMA[0]).abs() < 1e-6 && flat[7].abs() < 1e-6 && flat[8].abs() < 1e-6, "{flat:?}");
        let board: Vec<f32> = (0..32).map(|at| ((at % 8 + at / 8) % 2) as f32).collect();
        let found = of(&image(1, Pixels::Unit), &board);
        assert_eq!(found, [0.5, 0.5, 4.0], "each pixel of a chessboard differs from all four neighbours by 1");
    }
}
