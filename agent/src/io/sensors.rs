//! What Linux knows of the device, as samples: hwmon, thermal zones, industrial I/O, load and memory.
//!
//! Readings are columns by name, in SI units or °C: `hwmon.coretemp.package_id_0`, `thermal.cpu`, `iio.bme280.pressure`, `load1`,
//! `memory_available`. A sensor that is not there is a missing reading, and is looked for again by its name: the number of its directory may be
//! another one's by then.

use super::report::{Counters, Trouble};
use super::source::Player;
use crate::source::{Chunk, Columns, Known, SourceError, Wanted};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Most readings of a device.
const READINGS_MAX: usize = 1024;
/// A sensor that is not there is looked for again after so long.
const LOOK_AGAIN: Duration = Duration::from_secs(10);
/// How names begin of what may come and go.
const SENSORS: [&str; 3] = ["hwmon.", "thermal.", "iio."];
/// Longest text of a sensor.
const TEXT_BYTES_MAX: u64 = 8192;

/// One reading.
#[derive(Debug, Clone, PartialEq)]
struct Reading {
    name: String,
    from: From,
}

#[derive(Debug, Clone, PartialEq)]
enum From {
    /// A file with a number, its offset and its scale, as long as the file beside it says that it is this sensor's.
    File { path: PathBuf, offset: f64, scale: f64, owner: PathBuf, named: Option<String> },
    /// It is not there.
    Gone,
    /// A word of /proc/loadavg.
    Load(usize),
    /// A line of /proc/meminfo, in bytes.
    Memory(&'static str),
}

/// The device's sensors, or those that a model wants.
#[derive(Debug)]
pub(super) struct Sensors {
    root: PathBuf,
    readings: Vec<Reading>,
    /// Which of them could not be read the last time.
    missing: Vec<usize>,
    /// When they were looked for.
    looked: Instant,
    counters: Arc<Counters>,
}

fn text(path: &Path) -> Option<String> {
    use std::io::Read;
    let mut text = String::new();
    fs::File::open(path).ok()?.take(TEXT_BYTES_MAX).read_to_string(&mut text).ok()?;
    Some(text.trim().to_owned())
}

fn number(path: &Path) -> Option<f64> {
    text(path)?.parse().ok()
}

/// A name of a column: lower case, with _ for what is no letter or digit.
fn word(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' }).collect()
}

/// Names in a folder that begin so, in order.
fn below(folder: &Path, prefix: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let fits = |path: &PathBuf| path.file_name().and_then(|n| n.to_str()).is_some_and(|n| n.starts_with(prefix));
    let mut found: Vec<PathBuf> = entries.map(|e| e.path()).filter(fits).take(READINGS_MAX).collect();
    // By number: hwmon10 comes after hwmon9.
    found.sort_by_key(|p| (p.as_os_str().len(), p.clone()));
    found
}

/// The file that says whose a directory is, and what it says.
fn named(folder: &Path, file: &str) -> (PathBuf, Option<String>) {
    let owner = folder.join(file);
    let named = text(&owner);
    (owner, named)
}

fn file_name(path: &Path) -> &str {
    path.file_name().and_then(|n| n.to_str()).unwrap_or_default()
}

impl Sensors {
    /// Everything there is.
    pub(super) fn all(root: &Path) -> Self {
        let mut readings = Vec::new();
        let mut add = |name: String, from: From| {
            let same = readings
                .iter()
                .filter(|r: &&Reading| r.name == name || r.name.starts_with(&format!("{name}#")))
                .count();
            let name = if same == 0 { name } else { format!("{name}#{}", same + 1) };
            if readings.len() < READINGS_MAX {
                readings.push(Reading { name, from });
            }
        };
        for (at, name) in ["load1", "load5", "load15"].into_iter().enumerate() {
            add(name.into(), From::Load(at));
        }
        for (name, key) in
            [("memory_total", "MemTotal"), ("memory_available", "MemAvailable"), ("swap_free", "SwapFree")]
        {
            add(name.into(), From::Memory(key));
        }
        // Documentation/hwmon/sysfs-interface: milli units, but µW of power and plain rpm.
        for chip in below(&root.join("sys/class/hwmon"), "hwmon") {
            let (owner, named) = named(&chip, "name");
            let chip_name = word(named.as_deref().unwrap_or(file_name(&chip)));
            for (kind, scale) in
                [("temp", 1e-3), ("in", 1e-3), ("curr", 1e-3), ("power", 1e-6), ("humidity", 1e-3), ("fan", 1.0)]
            {
                for input in below(&chip, kind).into_iter().filter(|p| file_name(p).ends_with("_input")) {
                    let channel = file_name(&input).trim_end_matches("_input").to_owned();
                    let label = text(&chip.join(format!("{channel}_label"))).unwrap_or(channel);
                    add(
                        format!("hwmon.{chip_name}.{}", word(&label)),
                        From::File { path: input, offset: 0.0, scale, owner: owner.clone(), named: named.clone() },
                    );
                }
            }
        }
        for zone in below(&root.join("sys/class/thermal"), "thermal_zone") {
            let (owner, named) = named(&zone, "type");
            let name = format!("thermal.{}", word(named.as_deref().unwrap_or(file_name(&zone))));
            add(name, From::File { path: zone.join("temp"), offset: 0.0, scale: 1e-3, owner, named });
        }
        // Documentation/ABI/testing/sysfs-bus-iio: value = (raw + offset) · scale; temperatures in m°C, humidity in m%.
        for device in below(&root.join("sys/bus/iio/devices"), "iio:device") {
            let (owner, named) = named(&device, "name");
            let device_name = word(named.as_deref().unwrap_or(file_name(&device)));
            for file in below(&device, "in_") {
                let name = file_name(&file);
                let Some(channel) =
                    name.strip_prefix("in_").and_then(|n| n.strip_suffix("_raw").or(n.strip_suffix("_input")))
                else {
                    continue;
                };
                let of = |what: &str, or: f64| number(&device.join(format!("in_{channel}_{what}"))).unwrap_or(or);
                let raw = name.ends_with("_raw");
                let unit = if channel.starts_with("temp") || channel.starts_with("humidity") { 1e-3 } else { 1.0 };
                let (offset, scale) = if raw { (of("offset", 0.0), of("scale", 1.0)) } else { (0.0, 1.0) };
                let (path, scale) = (file.clone(), scale * unit);
                let from = From::File { path, offset, scale, owner: owner.clone(), named: named.clone() };
                add(format!("iio.{device_name}.{}", word(channel)), from);
            }
        }
        let (root, looked, counters) = (root.to_owned(), Instant::now(), Arc::default());
        Self { root, readings, missing: Vec::new(), looked, counters }
    }

    /// Those that a model wants, in its order.
    pub(super) fn wanted(root: &Path, wanted: &Wanted, counters: Arc<Counters>) -> Result<Self, SourceError> {
        let all = Self::all(root);
        let mut names = all.names();
        // A sensor may come later; a model for something else would wait for ever.
        let may_come = |name: &&String| !names.contains(name) && SENSORS.iter().any(|s| name.starts_with(s));
        let to_come: Vec<String> = wanted.inputs.iter().filter(may_come).cloned().collect();
        names.extend(to_come);
        let columns = Columns::find(&names, wanted, "this device")?;
        if !columns.ignored.is_empty() {
            tracing::info!("readings of this device that the model does not use: {}", columns.ignored.join(", "));
        }
        let readings = wanted.inputs.iter().map(|name| Reading { name: name.clone(), from: all.find(name) }).collect();
        Ok(Self { readings, counters, ..all })
    }

    fn find(&self, name: &str) -> From {
        self.readings.iter().find(|r| r.name == name).map_or(From::Gone, |r| r.from.clone())
    }

    fn look_again(&mut self) {
        let now = Self::all(&self.root);
        for at in &self.missing {
            let reading = &mut self.readings[*at];
            reading.from = now.find(&reading.name);
        }
        self.looked = now.looked;
    }

    /// Names of the readings.
    pub(super) fn names(&self) -> Vec<String> {
        self.readings.iter().map(|r| r.name.clone()).collect()
    }

    /// Names of those that are not there now.
    pub(super) fn absent(&mut self) -> Vec<String> {
        self.read(&mut Vec::new());
        self.missing.iter().map(|at| self.readings[*at].name.clone()).collect()
    }

    /// All readings now; NaN for one that is not there.
    pub(super) fn read(&mut self, values: &mut Vec<f32>) {
        let load = text(&self.root.join("proc/loadavg")).unwrap_or_default();
        let memory = text(&self.root.join("proc/meminfo")).unwrap_or_default();
        let before = values.len();
        values.extend(self.readings.iter().map(|reading| {
            let value = match &reading.from {
                From::File { path, offset, scale, owner, named } => {
                    // Of a directory that another sensor has by now, nothing is taken.
                    (text(owner) == *named).then(|| number(path)).flatten().map(|raw| (raw + offset) * scale)
                }
                From::Gone => None,
                From::Load(at) => load.split_whitespace().nth(*at).and_then(|word| word.parse().ok()),
                From::Memory(key) => memory.lines().find_map(|line| {
                    let kib: f64 =
                        line.strip_prefix(key)?.strip_prefix(':')?.trim().trim_end_matches(" kB").parse().ok()?;
                    Some(kib * 1024.0)
                }),
            };
            value.map_or(f32::NAN, |v| v as f32)
        }));
        let gone: Vec<usize> = (0..self.readings.len()).filter(|at| values[before + at].is_nan()).collect();
        self.counters.troubles.add_many(Trouble::ReadingMissing, gone.len() as u64);
        if gone != self.missing {
            let name = |at: &usize| self.readings[*at].name.as_str();
            let names: Vec<&str> = gone.iter().map(name).collect();
            match names.as_slice() {
                [] => tracing::info!("all sensors can be read again"),
                gone => tracing::warn!("sensors cannot be read and count as missing: {}", gone.join(", ")),
            }
            self.missing = gone;
        }
        if !self.missing.is_empty() && self.looked.elapsed() >= LOOK_AGAIN {
            self.look_again();
        }
    }
}

impl Player for Sensors {
    /// One reading, however many are asked for: several at the same moment would say no more.
    fn fill(&mut self, chunk: &mut Chunk, _: usize) -> Result<bool, SourceError> {
        self.read(&mut chunk.values);
        chunk.rows.push(Known::default());
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(root: &Path, name: &str, text: &str) {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn sensors_are_columns_in_plain_units_and_may_vanish() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        put(root, "proc/loadavg", "0.50 0.25 0.10 1/100 1234\n");
        put(root, "proc/meminfo", "MemTotal:  1000 kB\nMemAvailable:   500 kB\n");
        put(root, "sys/class/hwmon/hwmon0/name", "coretemp\n");
        put(root, "sys/class/hwmon/hwmon0/temp1_input", "41500\n");
        put(root, "sys/class/hwmon/hwmon0/temp1_label", "Package id 0\n");
        put(root, "sys/class/hwmon/hwmon0/fan1_input", "1200\n");
        put(root, "sys/class/thermal/thermal_zone0/type", "cpu-thermal\n");
        put(root, "sys/class/thermal/thermal_zone0/temp", "39000\n");
        put(root, "sys/bus/iio/devices/iio:device0/name", "adc\n");
        put(root, "sys/bus/iio/devices/iio:device0/in_voltage0_raw", "100\n");
        put(root, "sys/bus/iio/devices/iio:device0/in_voltage0_scale", "0.5\n");
        put(root, "sys/bus/iio/devices/iio:device0/in_voltage0_offset", "10\n");
        let mut all = Sensors::all(root);
        let mut values = Vec::new();
        all.read(&mut values);
        let found: Vec<(String, f32)> = all.names().into_iter().zip(values).filter(|(_, v)| !v.is_nan()).collect();
        let wanted = [
            ("load1", 0.5),
            ("load5", 0.25),
            ("load15", 0.1),
            ("memory_total", 1_024_000.0),
            ("memory_available", 512_000.0),
            ("hwmon.coretemp.package_id_0", 41.5),
            ("hwmon.coretemp.fan1", 1200.0),
            ("thermal.cpu_thermal", 39.0),
            ("iio.adc.voltage0", 55.0),
        ];
        assert_eq!(found, wanted.map(|(name, value)| (name.to_owned(), value)));
        let inputs = vec!["thermal.cpu_thermal".to_owned(), "load1".to_owned()];
        let wanted = Wanted { inputs, label: None, classes: vec![], id: None, time: None, sampled: None };
        let counters = Arc::<Counters>::default();
        let mut two = Sensors::wanted(root, &wanted, counters.clone()).unwrap();
        fs::remove_file(root.join("sys/class/thermal/thermal_zone0/temp")).unwrap();
        let mut values = Vec::new();
        two.read(&mut values);
        assert!(values[0].is_nan() && values[1] == 0.5, "{values:?}");
        // Another sensor takes its directory, and it comes back in another one.
        put(root, "sys/class/thermal/thermal_zone0/type", "battery\n");
        put(root, "sys/class/thermal/thermal_zone0/temp", "20000\n");
        values.clear();
        two.read(&mut values);
        assert!(values[0].is_nan(), "{values:?}");
        assert_eq!(counters.troubles.counted()["readings_missing"], 2);
        put(root, "sys/class/thermal/thermal_zone1/type", "cpu-thermal\n");
        put(root, "sys/class/thermal/thermal_zone1/temp", "38000\n");
        two.look_again();
        values.clear();
        two.read(&mut values);
        assert_eq!(values, [38.0, 0.5]);
        // One that is not there at the start may come.
        let later = Wanted { inputs: vec!["hwmon.late.temp1".into(), "load1".into()], ..wanted.clone() };
        let mut later = Sensors::wanted(root, &later, counters.clone()).unwrap();
        put(root, "sys/class/hwmon/hwmon7/name", "late\n");
        put(root, "sys/class/hwmon/hwmon7/temp1_input", "1000\n");
        later.read(&mut Vec::new());
        later.look_again();
        values.clear();
        later.read(&mut values);
        assert_eq!(values, [1.0, 0.5]);
        let other = Wanted { inputs: vec!["fan9".into()], ..wanted };
        let error = Sensors::wanted(root, &other, counters).unwrap_err();
        assert!(error.to_string().contains("this device has no column fan9"), "{error}");
    }
}
