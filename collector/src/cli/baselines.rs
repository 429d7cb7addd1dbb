//! `driftline baselines create`: from a model and a table of training rows to a bundle that can be added and rolled out.
//!
//! What the model's metadata says (column names, classes, units, label) need not be said again; everything can be said by
//! options instead. The model runs here on the same runtime as on the device, so what is unsupported shows now. Prints
//! what will be watched and what will not, in words.

use super::columns::Said;
use super::output::progress;
use super::sampled;
use super::table::{Read, Table, context, header, rows};
use super::truth::{KnownRows, Truth};
use super::value;
use anyhow::{Context, Result, bail};
use driftline_agent::bundle::{Bundle, HeapGolden};
use driftline_agent::derived;
use driftline_agent::inference::{self, Model, input_width, metadata};
use driftline_agent::projection;
use driftline_agent::source::Wanted;
use driftline_collector::baseline::{Built, Options, build};
use driftline_collector::explain::some;
use driftline_shared::baseline::TOLERANCE_DEFAULT;
use driftline_shared::list::Text;
use driftline_shared::manifest::{CLASSES_MAX, FORMAT, Guard, Pixels, Sampled, Schema, Task};
use driftline_shared::units::Name;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Golden rows that travel with the model.
const GOLDEN_ROWS: usize = 16;
/// And numbers in all of them: one image can have more, and is one row.
const GOLDEN_VALUES: usize = 100_000;
/// Allowed difference between this machine's answers and the device's.
const GOLDEN_TOLERANCE: f32 = 1e-3;

/// Whether the table's rows are a series in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum RowOrder {
    /// Neighbouring rows were taken one after the other.
    Series,
    /// Rows are independent samples in no particular order.
    Independent,
}

/// What a full pixel is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum FullPixel {
    /// 1.
    Unit,
    /// 255.
    Byte,
}

/// Options of `driftline baselines create`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The ONNX model
    #[arg(long)]
    model: PathBuf,
    /// CSV table of training rows, with a header line; or a folder of PNG and JPEG images, in folders named after their classes where
    /// these are known
    #[arg(long)]
    data: PathBuf,
    /// The rows are readings of a signal: the model takes as many of them as its input is long, and a new sample begins every HOP rows
    #[arg(long, value_name = "HOP", value_parser = clap::value_parser!(u32).range(1..))]
    signal_hop: Option<u32>,
    /// What a full pixel is for a model of images: 1 or 255 [default: unit]
    #[arg(long, value_enum)]
    pixels: Option<FullPixel>,
    /// The model's own embedding of a signal or an image, by the name of its output or of any tensor inside; `none` watches none
    /// [default: an output with "embedding" in its name, where the model has one]
    #[arg(long, value_name = "TENSOR")]
    embedding: Option<String>,
    /// Model name [default: from the model's metadata or file name]
    #[arg(long)]
    name: Option<String>,
    /// Release name, such as v2 [default: from the model's metadata, else v1]
    #[arg(long)]
    release: Option<String>,
    /// Input columns in the model's order [default: from the metadata, else all columns that are not excluded]
    #[arg(long, value_delimiter = ',')]
    features: Vec<String>,
    /// Input columns whose numbers stand for categories [default: from the metadata, else none]
    #[arg(long, value_delimiter = ',')]
    categorical: Vec<String>,
    /// Columns that are no inputs
    #[arg(long, value_delimiter = ',')]
    exclude: Vec<String>,
    /// Column with the true class
    #[arg(long)]
    label: Option<String>,
    /// CSV table of rows with their true class that the model was not trained on, to learn what its scores mean [default: the
    /// training rows]
    #[arg(long)]
    calibration: Option<PathBuf>,
    /// Class names in the order of the model's scores
    #[arg(long, value_delimiter = ',')]
    classes: Vec<String>,
    /// Unit of a column for sentences, such as temp_c=°C; may be given several times
    #[arg(long = "unit", value_parser = value::unit)]
    units: Vec<(String, String)>,
    /// Length of a window on the device, such as 60s or 5min
    #[arg(long, default_value = "60s", value_parser = value::window_ms)]
    window: u32,
    /// Samples that a window will hold on one device
    #[arg(long, default_value_t = 60, value_parser = value::window_samples)]
    window_samples: u32,
    /// What applications get on a device when inputs are not what these rows were [default: the answer, as always]
    #[arg(long, value_parser = value::guard, value_name = "flag|hold|fallback")]
    guard: Option<Guard>,
    /// Whether rows are a series in time
    #[arg(long, value_enum, default_value_t = RowOrder::Series)]
    rows: RowOrder,
    /// Smallest change worth an alarm, in standard deviations
    #[arg(long, default_value_t = TOLERANCE_DEFAULT, value_parser = value::tolerance)]
    tolerance: f64,
    /// The same for one reading, such as temp_c=0.5; may be given several times
    #[arg(long = "tolerance-of", value_name = "READING=SD", value_parser = value::tolerance_of)]
    tolerances: Vec<(String, f64)>,
    /// Column that says when a row was taken (RFC 3339, or seconds or milliseconds since 1970): shows whether the hour matters
    #[arg(long)]
    time_column: Option<String>,
    /// Column that says which device a row came from: shows how much healthy devices differ
    #[arg(long)]
    device_column: Option<String>,
    /// Directory to write the bundle to [default: <name>-<release>.bundle]
    #[arg(long)]
    out: Option<PathBuf>,
}

/// Makes the bundle.
pub fn create(args: &Args) -> Result<ExitCode> {
    let onnx = std::fs::read(&args.model).with_context(|| format!("{} cannot be read", args.model.display()))?;
    let (bundle, built) = bundle(&onnx, args)?;
    let manifest = bundle.manifest();
    let default_out = PathBuf::from(format!("{}-{}.bundle", manifest.model, manifest.release));
    let out = args.out.clone().unwrap_or(default_out);
    bundle.write(&out)?;
    for note in &built.notes {
        eprintln!("note: {note}");
    }
    let watched = built.baseline.features.iter().filter(|f| f.unwatched.is_none()).count();
    println!(
        "{} {}: {watched} of {} readings will be watched, baseline of {} rows, digest {}",
        manifest.model,
        manifest.release,
        built.baseline.features.len(),
        built.baseline.rows,
        bundle.release_id()
    );
    println!("{}", out.display());
    eprintln!("next: driftline models add {}", out.display());
    Ok(ExitCode::SUCCESS)
}

/// What a bundle is made with, beside the model and its rows.
pub struct Recipe {
    /// Model name.
    pub name: Name,
    /// Release name.
    pub release: Name,
    /// Input columns in the model's order.
    pub names: Vec<String>,
    /// Units by column.
    pub units: BTreeMap<String, String>,
    /// Columns whose numbers stand for categories.
    pub categorical: Vec<String>,
    /// Column with the true class.
    pub label: Option<String>,
    /// Class names, when they are given rather than the model's own.
    pub classes: Vec<String>,
    /// Length of a window.
    pub window_ms: u32,
    /// What happens outside the range of the rows.
    pub guard: Option<Guard>,
    /// How the baseline is built.
    pub options: Options,
    /// Readings whose tolerance is another.
    pub tolerances: Vec<(String, f64)>,
    /// What the rows truly were.
    pub truth: Truth,
    /// What a sample is, where it is not a row.
    pub sampled: Option<Sampled>,
    /// The tensor that is the model's own embedding of a sample, where it is watched.
    pub embedding: Option<String>,
}

/// Runs the model over `inputs` and makes a bundle of it and the baseline; `origin` names model and rows in messages.
pub fn make(onnx: &[u8], recipe: Recipe, rows: &Table, origin: [&str; 2]) -> Result<(Bundle, Built)> {
    let inputs = &rows.inputs;
    let meta = metadata(onnx).with_context(|| origin[0].to_owned())?;
    let width = recipe.sampled.as_ref().map_or(recipe.names.len(), derived::raw_len);
    let mut model =
        Model::with_embedding(onnx, width, recipe.embedding.as_deref()).with_context(|| origin[0].to_owned())?;
    let carried = inference::class_names(onnx).with_context(|| origin[0].to_owned())?;
    let task = task(&recipe.classes, &meta, &carried, model.outputs())?;
    let (outputs, embeddings) = answers(&mut model, inputs);
    if !inputs.is_empty() && outputs.iter().all(Vec::is_empty) {
        bail!("{} gives no finite number for any of the rows: check its weights and the columns it gets", origin[0]);
    }
    let mut units: BTreeMap<String, String> = json(&meta, "driftline.units")?.unwrap_or_default();
    units.extend(recipe.units.clone());
    let mut categorical = recipe.categorical;
    if categorical.is_empty() {
        categorical = json(&meta, "driftline.categorical")?.unwrap_or_default();
    }
    // What the model takes, and what is watched of it.
    let projection = recipe.embedding.as_deref().map(|tensor| sampled::project(tensor, &embeddings)).transpose()?;
    let (names, watched) = match &recipe.sampled {
        None => (recipe.names, None),
        Some(sampled) => {
            let of = |(at, raw): (usize, &Vec<f32>)| {
                let mut values = Vec::new();
                derived::values(sampled, raw, &mut values);
                if let Some(projection) = &projection {
                    projection::values(projection, &embeddings[at], &mut values);
                }
                values
            };
            let of_embedding = projection.iter().flat_map(projection::names);
            let names = derived::names(sampled).into_iter().chain(of_embedding).collect();
            (names, Some(inputs.iter().enumerate().map(of).collect::<Vec<_>>()))
        }
    };
    let units: Vec<String> = names.iter().map(|n| units.get(n).cloned().unwrap_or_default()).collect();
    let table = driftline_collector::baseline::Table {
        names: &names,
        units: &units,
        inputs: watched.as_ref().unwrap_or(inputs),
        outputs: &outputs,
        task: &task,
        times: &rows.times,
        devices: &rows.devices,
        categorical: &categorical,
    };
    let given = categorical.iter().map(|name| (name, "be categorical"));
    let mut given = given.chain(recipe.units.keys().map(|name| (name, "have a unit")));
    if let Some((name, what)) = given.find(|(name, _)| !names.contains(name)) {
        bail!("{name} cannot {what}: the readings are {}", names.join(", "));
    }
    let mut built = build(&table, recipe.options).with_context(|| origin[1].to_owned())?;
    for (name, tolerance) in recipe.tolerances {
        let features = &mut built.baseline.features;
        match features.iter_mut().find(|feature| feature.name.as_str() == name) {
            Some(feature) => feature.tolerance = tolerance,
            None => bail!("{name} cannot have a tolerance of its own: no reading is called that"),
        }
    }
    built.baseline.calibration = recipe.truth.calibrate(&mut model, &task, &outputs, &mut built.notes);
    let label =
        recipe.label.map(|l| Text::whole(&l).context("the label's name is longer than 64 bytes")).transpose()?;
    let schema = Schema {
        format: FORMAT,
        task,
        label,
        window_ms: recipe.window_ms,
        guard: recipe.guard,
        sampled: recipe.sampled,
    };
    let golden = golden(inputs, &outputs);
    let bundle = Bundle::create(
        &recipe.name,
        &recipe.release,
        onnx.to_vec(),
        &built.baseline,
        &schema,
        &golden,
        projection.as_ref(),
    )?;
    Ok((bundle, built))
}

/// Makes a bundle in memory from a model's bytes and the table that `args` name.
fn bundle(onnx: &[u8], args: &Args) -> Result<(Bundle, Built)> {
    let origin = [args.model.display().to_string(), args.data.display().to_string()];
    let meta = metadata(onnx).with_context(|| origin[0].clone())?;
    if args.data.is_dir() {
        return of_images(onnx, args, &meta, [&origin[0], &origin[1]]);
    }
    let header = header(&args.data)?;
    if args.pixels.is_some() {
        bail!("--pixels is for a folder of images, and {} is a table: leave it out", origin[1]);
    }
    let context_columns = [&args.time_column, &args.device_column];
    let said = Said {
        exclude: &args.exclude,
        label: args.label.as_deref(),
        context: context_columns.map(|name| name.as_deref()),
    };
    said.check(&header, &origin[1])?;
    let label = args.label.clone().or_else(|| meta.get("driftline.label").cloned());
    let names = input_names(onnx, args, &meta, &header, &said, label.as_deref())?;
    let classes = class_names(args, &meta, inference::class_names(onnx)?)?;
    let wanted = Wanted {
        inputs: names.clone(),
        label: label.clone(),
        classes: classes.clone(),
        id: None,
        time: None,
        sampled: None,
    };
    let read = rows(&args.data, &wanted)?;
    let held_out = args.calibration.as_deref().map(|path| held_out(path, &wanted)).transpose()?;
    let (mut table, mut training, skipped) = context(&args.data, context_columns, &header, read)?;
    let sampled = args.signal_hop.map(|hop| sampled::signal(onnx, &names, hop)).transpose()?;
    if let Some(sampled) = &sampled {
        (table, training) = sampled::stretches(sampled, &table, &training, &skipped)?;
    }
    let held_out = held_out.map(|Read { inputs, truths, skipped }| -> Result<KnownRows> {
        let Some(sampled) = &sampled else { return Ok((inputs, truths)) };
        let rows = Table { inputs, ..Table::default() };
        sampled::stretches(sampled, &rows, &truths, &skipped).map(|(table, truths)| (table.inputs, truths))
    });
    let held_out = held_out.transpose()?;
    let left_out = said.left_out(&header, &names, label.as_deref());
    let truth = Truth { classes, training, held_out };
    let embedding = if sampled.is_some() { sampled::embedding(onnx, args.embedding.as_deref())? } else { None };
    if sampled.is_none() && args.embedding.is_some() {
        bail!("--embedding is for signals and images, and {} has rows: leave it out, or say --signal-hop", origin[1]);
    }
    let recipe = Recipe { names, label, sampled, embedding, ..recipe(args, &meta, truth)? };
    let (bundle, mut built) = make(onnx, recipe, &table, [&origin[0], &origin[1]])?;
    built.notes.extend(left_out);
    Ok((bundle, built))
}

/// Rows to calibrate with: they have to say what they truly were.
fn held_out(path: &Path, wanted: &Wanted) -> Result<Read> {
    let header = header(path)?;
    match wanted.label.iter().chain(&wanted.inputs).find(|name| !header.contains(name)) {
        Some(missing) => {
            bail!(
                "{} has no column {missing}, which --calibration needs: its columns are {}",
                path.display(),
                some(&header)
            )
        }
        None => rows(path, wanted),
    }
}

/// The same from a folder of images.
fn of_images(onnx: &[u8], args: &Args, meta: &BTreeMap<String, String>, origin: [&str; 2]) -> Result<(Bundle, Built)> {
    let of_tables = [
        ("--features", !args.features.is_empty()),
        ("--exclude", !args.exclude.is_empty()),
        ("--label", args.label.is_some()),
        ("--time-column", args.time_column.is_some()),
        ("--device-column", args.device_column.is_some()),
        ("--signal-hop", args.signal_hop.is_some()),
        ("--calibration", args.calibration.is_some()),
        ("--categorical", !args.categorical.is_empty()),
    ];
    if let Some((option, _)) = of_tables.iter().find(|(_, given)| *given) {
        bail!(
            "{option} is for the columns of a table, and {} is a folder of images, in folders named after their classes: leave it out",
            origin[1]
        );
    }
    let pixels = if args.pixels == Some(FullPixel::Byte) { Pixels::Byte } else { Pixels::Unit };
    let sampled = sampled::image(onnx, pixels)?;
    let classes = class_names(args, meta, inference::class_names(onnx)?)?;
    let (table, training) = sampled::images(&args.data, &sampled, &classes)?;
    let recipe = recipe(args, meta, Truth { classes, training, held_out: None })?;
    // Files of a folder have no order in time.
    let options = Options { independent_rows: true, ..recipe.options };
    let embedding = sampled::embedding(onnx, args.embedding.as_deref())?;
    make(onnx, Recipe { sampled: Some(sampled), embedding, options, ..recipe }, &table, origin)
}

/// What the options and the model's metadata say, without the input.
fn recipe(args: &Args, meta: &BTreeMap<String, String>, truth: Truth) -> Result<Recipe> {
    let stem = args.model.file_stem().map_or_else(|| "model".into(), |s| s.to_string_lossy().into_owned());
    let name = args.name.clone().or_else(|| meta.get("driftline.name").cloned()).unwrap_or(stem);
    let release =
        args.release.clone().or_else(|| meta.get("driftline.release").cloned()).unwrap_or_else(|| "v1".into());
    Ok(Recipe {
        name: Name::new(&name).with_context(|| format!("`{name}` cannot name a model"))?,
        release: Name::new(&release).with_context(|| format!("`{release}` cannot name a release"))?,
        names: Vec::new(),
        units: args.units.iter().cloned().collect(),
        categorical: args.categorical.clone(),
        label: None,
        classes: args.classes.clone(),
        window_ms: args.window,
        guard: args.guard,
        options: Options {
            window_samples: args.window_samples,
            independent_rows: args.rows == RowOrder::Independent,
            tolerance: args.tolerance,
        },
        tolerances: args.tolerances.clone(),
        truth,
        sampled: None,
        embedding: None,
    })
}

/// Which columns feed the model, in its order.
fn input_names(
    onnx: &[u8],
    args: &Args,
    meta: &BTreeMap<String, String>,
    header: &[String],
    said: &Said<'_>,
    label: Option<&str>,
) -> Result<Vec<String>> {
    let named = if args.features.is_empty() { json(meta, "driftline.features")? } else { Some(args.features.clone()) };
    // A pipeline over the columns of a table names its inputs after them.
    let named = if named.is_none() { inference::input_names(onnx)? } else { named };
    let names = said.inputs(named, header, label);
    let (table, model) = (args.data.display(), args.model.display());
    if let Some(missing) = names.iter().find(|n| !header.contains(n)) {
        bail!(
            "{table} has no column {missing}, which {model} wants: rename a column, or name the inputs with --features. Its columns are {}",
            some(header)
        );
    }
    match input_width(onnx)?.filter(|_| args.signal_hop.is_none()) {
        Some(width) if width != names.len() => bail!(
            "{model} takes {width} inputs, but {table} offers {} columns: say which are inputs with --features a,b,… or which are not with --exclude a,b,…",
            names.len()
        ),
        _ => Ok(names),
    }
}

fn task(given: &[String], meta: &BTreeMap<String, String>, carried: &[String], outputs: usize) -> Result<Task> {
    let named: Option<Vec<String>> =
        if given.is_empty() { json(meta, "driftline.classes")? } else { Some(given.to_vec()) };
    // What a converter wrote into the model counts where it fits: inner classifiers of a pipeline may name others.
    let named = named.or_else(|| (carried.len() == outputs && outputs > 1).then(|| carried.to_vec()));
    if named.is_none() && outputs == 1 {
        return Ok(Task::Regression(1));
    }
    let classes = named.unwrap_or_else(|| (0..outputs).map(|i| i.to_string()).collect());
    if classes.len() != outputs {
        bail!("the model gives {outputs} scores, but {} classes are named: name each with --classes", classes.len());
    }
    if classes.len() > CLASSES_MAX {
        bail!("the model has {outputs} classes; {CLASSES_MAX} is the most");
    }
    let text = |c: &String| Text::whole(c).with_context(|| format!("the class name {c} is longer than 64 bytes"));
    Ok(Task::Classification(classes.iter().map(text).collect::<Result<Vec<_>>>()?.into_iter().collect()))
}

/// Classes that a table may name; numbers when nothing names the model's.
fn class_names(args: &Args, meta: &BTreeMap<String, String>, carried: Vec<String>) -> Result<Vec<String>> {
    if !args.classes.is_empty() {
        return Ok(args.classes.clone());
    }
    let named: Option<Vec<String>> = json(meta, "driftline.classes")?;
    let numbers = || (0..CLASSES_MAX).map(|i| i.to_string()).collect();
    Ok(named.or(Some(carried).filter(|names| !names.is_empty())).unwrap_or_else(numbers))
}

fn json<T: serde::de::DeserializeOwned>(meta: &BTreeMap<String, String>, key: &str) -> Result<Option<T>> {
    let parse = |text: &String| {
        serde_json::from_str(text).with_context(|| format!("the model's metadata {key} is no JSON of the right form"))
    };
    meta.get(key).map(parse).transpose()
}

/// The model's answers, and its embeddings where they are read; an empty row where it has none.
pub fn answers(model: &mut Model, inputs: &[Vec<f32>]) -> (Vec<Vec<f32>>, Vec<Vec<f32>>) {
    let progress = progress(inputs.len() as u64, "rows through the model");
    let mut out = Vec::new();
    let answer = |row: &Vec<f32>| {
        progress.inc(1);
        let answer = model.answer(row, &mut out).values().map(<[f32]>::to_vec).unwrap_or_default();
        (answer, model.embedding().to_vec())
    };
    let answers = inputs.iter().map(answer).unzip();
    progress.finish_and_clear();
    answers
}

/// Evenly spread rows that the model could answer.
fn golden(inputs: &[Vec<f32>], outputs: &[Vec<f32>]) -> HeapGolden {
    let whole: Vec<usize> =
        (0..inputs.len()).filter(|&i| !outputs[i].is_empty() && inputs[i].iter().all(|v| v.is_finite())).collect();
    let rows = (GOLDEN_VALUES / inputs.first().map_or(1, Vec::len).max(1)).clamp(1, GOLDEN_ROWS);
    let step = whole.len().div_ceil(rows).max(1);
    let picked: Vec<usize> = whole.into_iter().step_by(step).collect();
    HeapGolden {
        inputs: picked.iter().map(|&i| inputs[i].clone()).collect(),
        outputs: picked.iter().map(|&i| outputs[i].clone()).collect(),
        tolerance: GOLDEN_TOLERANCE,
    }
}
