//! Image files of a folder, as a camera leaves them there: decoded within limits, and brought to the model's size.
//!
//! What is there at the start is played in the order of names; then what is new is taken when it appears. Files are never changed
//! or removed. One that is too large for its purpose, damaged or no image is counted and skipped.

use super::source::{Player, log_malformed};
use crate::derived::raw_len;
use crate::source::{Chunk, Known, RowError, SourceError};
use driftline_shared::manifest::{Pixels, Sampled};
use driftline_shared::units::hash;
use image::imageops::FilterType;
use image::{ImageFormat, ImageReader, Limits};
use std::collections::BTreeSet;
use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Largest file.
pub(super) const FILE_BYTES_MAX: u64 = 32 << 20;
/// Most pixels along a side, and most bytes of pixels: what a file of a few bytes may claim.
const SIDE_MAX: u32 = 16_384;
const PIXEL_BYTES_MAX: u64 = 64 << 20;
/// Files of a folder that are looked at.
const FILES_MAX: usize = 100_000;
/// Pause before new files are looked for.
const LOOK: Duration = Duration::from_millis(250);
/// A file is taken when nothing was written to it for so long.
const SETTLED: Duration = Duration::from_millis(100);

/// The pixels of an image file as a model takes them; a sentence where it is no image.
pub fn pixels(path: &Path, sampled: &Sampled) -> Result<Vec<f32>, String> {
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(|e| e.to_string())?;
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|e| e.to_string())?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("it is larger than {FILE_BYTES_MAX} bytes"));
    }
    decode(&bytes, sampled)
}

/// The same from the bytes of a file.
pub fn decode(bytes: &[u8], sampled: &Sampled) -> Result<Vec<f32>, String> {
    let Sampled::Image { width, height, channels, planar, pixels } = sampled else {
        return Err("the model takes no images".into());
    };
    let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(|e| e.to_string())?;
    let mut limits = Limits::default();
    (limits.max_image_width, limits.max_image_height) = (Some(SIDE_MAX), Some(SIDE_MAX));
    limits.max_alloc = Some(PIXEL_BYTES_MAX);
    reader.limits(limits);
    let image = reader.decode().map_err(|e| e.to_string())?;
    let image = if (image.width(), image.height()) == (*width, *height) {
        image
    } else {
        image.resize_exact(*width, *height, FilterType::Triangle)
    };
    let bytes = if *channels == 3 { image.to_rgb8().into_raw() } else { image.to_luma8().into_raw() };
    Ok(arrange(&bytes, *channels, *planar, *pixels))
}

/// The same, or the pixels themselves: bytes, row by row, the channels of a pixel together, exactly as many as the model takes.
pub fn decode_or_raw(bytes: &[u8], sampled: &Sampled) -> Result<Vec<f32>, String> {
    match sampled {
        Sampled::Image { channels, planar, pixels, .. }
            if bytes.len() == raw_len(sampled)
                && !matches!(image::guess_format(bytes), Ok(ImageFormat::Png | ImageFormat::Jpeg)) =>
        {
            Ok(arrange(bytes, *channels, *planar, *pixels))
        }
        _ => decode(bytes, sampled),
    }
}

/// Bytes of pixels, row by row, as a model takes them.
fn arrange(bytes: &[u8], channels: u8, planar: bool, pixels: Pixels) -> Vec<f32> {
    let scale = if pixels == Pixels::Unit { 255.0 } else { 1.0 };
    let value = |byte: &u8| f32::from(*byte) / scale;
    let many = usize::from(channels);
    if planar {
        (0..many).flat_map(|c| bytes.iter().skip(c).step_by(many).map(value)).collect()
    } else {
        bytes.iter().map(value).collect()
    }
}

/// Writes what a model took as a PNG file.
pub fn write(path: &Path, sampled: &Sampled, values: &[f32]) -> std::io::Result<()> {
    let Sampled::Image { width, height, channels, planar, pixels } = sampled else {
        return Err(std::io::Error::other("the model takes no images"));
    };
    let (many, scale) = (usize::from(*channels), if *pixels == Pixels::Unit { 255.0 } else { 1.0 });
    let points = values.len() / many.max(1);
    let place = |at: usize| if *planar { at % many * points + at / many } else { at };
    // A cast keeps what lies beyond a byte at its ends.
    let bytes: Vec<u8> = (0..points * many).map(|at| (values[place(at)] * scale).round() as u8).collect();
    let colour = if *channels == 3 { image::ExtendedColorType::Rgb8 } else { image::ExtendedColorType::L8 };
    image::save_buffer_with_format(path, &bytes, *width, *height, colour, ImageFormat::Png)
        .map_err(std::io::Error::other)
}

/// Image files of a folder in the order of their names.
pub fn files(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let is_image = |path: &PathBuf| {
        let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase();
        matches!(extension.as_str(), "png" | "jpg" | "jpeg")
    };
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder)?.filter_map(|entry| entry.ok().map(|e| e.path())).filter(is_image).collect();
    files.sort();
    files.truncate(FILES_MAX);
    Ok(files)
}

/// Plays a folder.
pub(super) struct Images {
    folder: PathBuf,
    sampled: Sampled,
    /// What was played.
    known: BTreeSet<PathBuf>,
    malformed: u64,
}

impl Images {
    pub(super) fn open(folder: &Path, sampled: Option<&Sampled>) -> Result<Self, SourceError> {
        let path = || folder.display().to_string();
        let sampled = sampled.filter(|s| matches!(s, Sampled::Image { .. })).cloned();
        let sampled = sampled.ok_or_else(|| SourceError::NoImages { path: path() })?;
        files(folder).map_err(|source| SourceError::Read { path: path(), source })?;
        Ok(Self { folder: folder.to_owned(), sampled, known: BTreeSet::new(), malformed: 0 })
    }
}

impl Player for Images {
    fn fill(&mut self, chunk: &mut Chunk, _: usize) -> Result<bool, SourceError> {
        // A folder may be gone for a while, as a disk that is not mounted; what was played of it is not played again.
        let Ok(all) = files(&self.folder) else {
            std::thread::sleep(LOOK);
            return Ok(true);
        };
        if self.known.len() > all.len() {
            self.known.retain(|path| all.binary_search(path).is_ok());
        }
        let settled = |path: &&PathBuf| {
            let modified = std::fs::metadata(path).and_then(|m| m.modified());
            modified.is_ok_and(|at| SystemTime::now().duration_since(at).map_or(true, |age| age >= SETTLED))
        };
        let Some(next) = all.iter().filter(|path| !self.known.contains(*path)).find(settled) else {
            std::thread::sleep(LOOK);
            return Ok(true);
        };
        self.known.insert(next.clone());
        match pixels(next, &self.sampled) {
            Ok(values) => {
                chunk.values.extend(values);
                let name = next.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
                chunk.rows.push(Known { id: Some(hash(name.as_bytes())), ..Known::default() });
            }
            Err(reason) => {
                chunk.malformed += 1;
                self.malformed += 1;
                let path = next.display().to_string();
                log_malformed(self.malformed, self.known.len() as u64, &RowError::Image { path, reason });
            }
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{GrayImage, Luma, Rgb, RgbImage};

    fn sampled(channels: u8, planar: bool, pixels: Pixels) -> Sampled {
        Sampled::Image { width: 4, height: 2, channels, planar, pixels }
    }

    #[test]
    fn images_become_what_the_model_takes() {
        let dir = tempfile::tempdir().unwrap();
        let red = dir.path().join("red.png");
        RgbImage::from_pixel(4, 2, Rgb([255, 51, 0])).save(&red).unwrap();
        let found = pixels(&red, &sampled(3, true, Pixels::Unit)).unwrap();
        assert_eq!(found, [[1.0; 8], [0.2; 8], [0.0; 8]].concat());
        let found = pixels(&red, &sampled(3, false, Pixels::Byte)).unwrap();
        assert_eq!(found, [255.0, 51.0, 0.0].repeat(8));
        let raw = [10, 20, 30, 40, 50, 60, 70, 80].map(|v| [v, v + 1, v + 2]).concat();
        let found = decode_or_raw(&raw, &sampled(3, true, Pixels::Byte)).unwrap();
        assert_eq!((found.len(), &found[..3], &found[8..10]), (24, &[10.0, 20.0, 30.0][..], &[11.0, 21.0][..]));
        assert!(decode_or_raw(&raw[1..], &sampled(3, true, Pixels::Byte)).is_err());
        let file = std::fs::read(&red).unwrap();
        assert_eq!(decode_or_raw(&file, &sampled(1, false, Pixels::Byte)).unwrap().len(), 8);
        let large = dir.path().join("large.jpg");
        GrayImage::from_pixel(400, 300, Luma([200])).save(&large).unwrap();
        let found = pixels(&large, &sampled(1, true, Pixels::Byte)).unwrap();
        assert!(found.len() == 8 && found.iter().all(|v| (v - 200.0).abs() <= 1.0), "{found:?}");
        assert_eq!(files(dir.path()).unwrap().len(), 2);
    }

    #[test]
    fn what_a_model_took_is_an_image_again() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from.png"), dir.path().join("to.png"));
        RgbImage::from_fn(4, 2, |x, y| Rgb([x as u8 * 60, y as u8 * 200, 7])).save(&from).unwrap();
        for (planar, scale) in
            [(true, Pixels::Unit), (false, Pixels::Unit), (true, Pixels::Byte), (false, Pixels::Byte)]
        {
            let sampled = sampled(3, planar, scale);
            write(&to, &sampled, &pixels(&from, &sampled).unwrap()).unwrap();
            assert_eq!(image::open(&to).unwrap().to_rgb8(), image::open(&from).unwrap().to_rgb8(), "{sampled:?}");
        }
        write(&to, &sampled(1, false, Pixels::Byte), &[-5.0, 300.0, f32::NAN, 8.0, 0.0, 1.0, 2.0, 3.0]).unwrap();
        assert_eq!(image::open(&to).unwrap().to_luma8().into_raw()[..4], [0, 255, 0, 8]);
    }

    #[test]
    fn what_is_no_image_or_a_bomb_is_a_sentence() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.png");
        let complaint = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            pixels(&path, &sampled(3, true, Pixels::Unit)).unwrap_err()
        };
        assert!(!complaint(b"no image at all").is_empty());
        assert!(!complaint(b"").is_empty());
        // A file of some hundred bytes whose head claims 60,000 pixels a side.
        GrayImage::from_pixel(8, 8, Luma([0])).save(&path).unwrap();
        let mut bomb = std::fs::read(&path).unwrap();
        bomb[16..24].copy_from_slice(&[0, 0, 0xea, 0x60, 0, 0, 0xea, 0x60]);
        let crc = crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC).checksum(&bomb[12..29]);
        bomb[29..33].copy_from_slice(&crc.to_be_bytes());
        let said = complaint(&bomb);
        assert!(said.to_lowercase().contains("limit") || said.contains("exceed"), "{said}");
        let mut cut = std::fs::read(&path).unwrap();
        cut.truncate(40);
        assert!(!complaint(&cut).is_empty());
    }
}
