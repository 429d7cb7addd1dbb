//! Training samples that are more than rows: stretches of a signal from the rows of a table, images from the files of a folder.
//!
//! What the model takes is read from its own shape, so that nobody has to say it twice.

use super::output::progress;
use super::table::Table;
use anyhow::{Context, Result, bail};
use driftline_agent::derived;
use driftline_agent::inference::{Model, embedding_output, input_width};
use driftline_agent::io::images;
use driftline_agent::projection::{DIRECTIONS_MAX, HeapProjection};
use driftline_agent::signal::Stretch;
use driftline_agent::source::{Chunk, Known};
use driftline_collector::baseline::directions;
use driftline_shared::list::Text;
use driftline_shared::manifest::{
    FORMAT, Pixels, Projection, SAMPLE_VALUES_MAX, SIGNAL_CHANNELS_MAX, Sampled, class_index,
};
use std::collections::BTreeSet;
use std::path::Path;

/// Values of all training samples together: 2 GiB.
const VALUES_MAX: usize = 512 << 20;

/// The model's input without its batch, and without dimensions of one.
fn shape(onnx: &[u8]) -> Result<Vec<usize>> {
    let width =
        input_width(onnx)?.context("the model leaves the size of its input open: export it with fixed sizes")?;
    if width > SAMPLE_VALUES_MAX {
        bail!("the model takes {width} numbers, and {SAMPLE_VALUES_MAX} are the most");
    }
    let tensors = Model::load(onnx, width)?.tensors();
    let [tensor] = &tensors[..] else {
        bail!("the model takes {} tensors, and a signal or an image is one", tensors.len())
    };
    Ok(tensor.shape.iter().skip(1).filter_map(|&n| usize::try_from(n).ok()).collect())
}

/// A signal of these channels as the model takes it.
pub fn signal(onnx: &[u8], names: &[String], hop: u32) -> Result<Sampled> {
    let (dims, many) = (shape(onnx)?, names.len());
    let values: usize = dims.iter().product();
    if many == 0 || many > SIGNAL_CHANNELS_MAX || !values.is_multiple_of(many) || hop == 0 {
        bail!(
            "the model takes {values} numbers, which {many} channels cannot share: name the channels with --features (at most {SIGNAL_CHANNELS_MAX})"
        );
    }
    let length = values / many;
    let inner: Vec<usize> = dims.iter().copied().filter(|&n| n != 1).collect();
    let planar = match inner[..] {
        [first, last] if first == many && last == length => true,
        [first, last] if first == length && last == many => false,
        // One channel, or the model cuts the row itself.
        _ => true,
    };
    let text = |name: &String| Text::whole(name).with_context(|| format!("the column {name} has more than 64 bytes"));
    let channels = names.iter().map(text).collect::<Result<Vec<_>>>()?.into_iter().collect();
    Ok(Sampled::Signal { channels, length: length as u32, hop, planar })
}

/// The samples of a signal in the rows of a table; none goes over a row that was skipped, as on a device, or the end of a device's rows. A
/// sample is of its last row.
pub fn stretches(
    sampled: &Sampled,
    rows: &Table,
    truths: &[Option<u16>],
    skipped: &BTreeSet<usize>,
) -> Result<(Table, Vec<Option<u16>>)> {
    let mut below_header = 0;
    let mut stretch = Stretch::new(sampled).context("no signal")?;
    let (mut table, mut known, mut chunk) = (Table::default(), Vec::new(), Chunk::default());
    let mut values = 0;
    for (at, row) in rows.inputs.iter().enumerate() {
        while skipped.contains(&below_header) {
            below_header += 1;
            stretch.cut();
        }
        below_header += 1;
        if at > 0 && rows.devices.get(at) != rows.devices.get(at - 1) {
            stretch.cut();
        }
        stretch.push(row, Known::default(), &mut chunk);
        if chunk.rows.is_empty() {
            continue;
        }
        values += chunk.values.len();
        if values > VALUES_MAX {
            bail!("the samples would take more than {} MiB: give a larger --signal-hop", VALUES_MAX >> 18);
        }
        table.inputs.push(std::mem::take(&mut chunk.values));
        chunk.clear();
        table.times.extend(rows.times.get(at));
        table.devices.extend(rows.devices.get(at));
        known.push(truths.get(at).copied().flatten());
    }
    if table.inputs.is_empty() {
        bail!(
            "{} rows are fewer than the {} that one sample takes",
            rows.inputs.len(),
            derived::raw_len(sampled) / stretch.channels()
        );
    }
    Ok((table, known))
}

/// An image as the model takes it.
pub fn image(onnx: &[u8], pixels: Pixels) -> Result<Sampled> {
    let dims = shape(onnx)?;
    let (planar, channels, height, width) = match dims[..] {
        [c @ (1 | 3), h, w] => (true, c, h, w),
        [h, w, c @ (1 | 3)] => (false, c, h, w),
        [h, w] => (true, 1, h, w),
        _ => bail!("the model takes {dims:?}, which is no image of one or three channels"),
    };
    Ok(Sampled::Image { width: width as u32, height: height as u32, channels: channels as u8, planar, pixels })
}

/// The images of a folder, and of folders in it that are named after classes.
pub fn images(folder: &Path, sampled: &Sampled, classes: &[String]) -> Result<(Table, Vec<Option<u16>>)> {
    let shown = folder.display();
    let read = || format!("{shown} cannot be read");
    let mut files: Vec<_> = images::files(folder).with_context(read)?.into_iter().map(|file| (file, None)).collect();
    let mut folders: Vec<_> =
        std::fs::read_dir(folder).with_context(read)?.filter_map(|e| e.ok().map(|e| e.path())).collect();
    folders.retain(|path| path.is_dir());
    folders.sort();
    for inner in &folders {
        let name = inner.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let class = class_index(classes.iter().map(String::as_str), &name);
        if class.is_none() {
            eprintln!("note: {name} is no class of the model; its images are used without one");
        }
        files.extend(images::files(inner).with_context(read)?.into_iter().map(|file| (file, class)));
    }
    let bar = progress(files.len() as u64, "images read");
    let (mut table, mut truths, mut bad, mut first) = (Table::default(), Vec::new(), 0, None);
    for (file, class) in &files {
        bar.inc(1);
        match images::pixels(file, sampled) {
            Ok(pixels) => {
                if (table.inputs.len() + 1) * pixels.len() > VALUES_MAX {
                    eprintln!("note: the first {} images are used: more would not fit in memory", table.inputs.len());
                    break;
                }
                table.inputs.push(pixels);
                truths.push(*class);
            }
            Err(why) => {
                bad += 1;
                first.get_or_insert(format!("{} ({why})", file.display()));
            }
        }
    }
    bar.finish_and_clear();
    if let Some(first) = first {
        eprintln!("note: {bad} of {} images were skipped; the first is {first}", files.len());
    }
    if table.inputs.is_empty() {
        bail!(
            "{shown} has no image that can be used: give PNG or JPEG files, in the folder itself or in one folder for each class"
        );
    }
    Ok((table, truths))
}

/// The tensor that is the model's own embedding of a sample, as asked for or by its name.
pub fn embedding(onnx: &[u8], asked: Option<&str>) -> Result<Option<String>> {
    match asked {
        Some("none") => Ok(None),
        Some(tensor) => Ok(Some(tensor.to_owned())),
        None => Ok(embedding_output(onnx)?),
    }
}

/// What is watched of the model's own embedding, from those of the training samples.
pub fn project(tensor: &str, embeddings: &[Vec<f32>]) -> Result<HeapProjection> {
    let (mean, directions) = directions::fit(embeddings, DIRECTIONS_MAX);
    if mean.is_empty() {
        bail!(
            "the tensor {tensor} is no finite number for any of the samples: name another with --embedding, or `none`"
        );
    }
    let name =
        Text::whole(tensor).with_context(|| format!("the name of the tensor {tensor} has more than 256 bytes"))?;
    Ok(Projection { format: FORMAT, tensor: name, mean, directions })
}
