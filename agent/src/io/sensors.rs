//! What Linux knows of the device, as samples: hwmon, thermal zones, industrial I/O, load and memory.
//!
//! Readings are columns by name, in SI units or °C: `hwmon.coretemp.package_id_0`, `thermal.cpu`, `iio.bme280.pressure`, `load1`,
//! `memory_available`. A sensor that vanishes is a missing reading and is looked for again each time.

use super::source::Player;
use crate::source::{Chunk, Columns, Known, SourceError, Wanted};
use std::fs;
use std::path::{Path, PathBuf};

/// Most readings of a device.
const READINGS_MAX: usize = 1024;
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
    /// A file with a number, its offset and its scale.
    File(PathBuf, f64, f64),
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
    missing: bool,
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
            let chip_name = word(&text(&chip.join("name")).unwrap_or_else(|| file_name(&chip).into()));
            for (kind, scale) in
                [("temp", 1e-3), ("in", 1e-3), ("curr", 1e-3), ("power", 1e-6), ("humidity", 1e-3), ("fan", 1.0)]
            {
                for input in below(&chip, kind).into_iter().filter(|p| file_name(p).ends_with("_input")) {
                    let channel = file_name(&input).trim_end_matches("_input").to_owned();
                    let label = text(&chip.join(format!("{channel}_label"))).unwrap_or(channel);
                    add(format!("hwmon.{chip_name}.{}", word(&label)), From::File(input, 0.0, scale));
                }
            }
        }
        for zone in below(&root.join("sys/class/thermal"), "thermal_zone") {
            let kind = text(&zone.join("type")).unwrap_or_else(|| file_name(&zone).into());
            add(format!("thermal.{}", word(&kind)), From::File(zone.join("temp"), 0.0, 1e-3));
        }
        // Documentation/ABI/testing/sysfs-bus-iio: value = (raw + offset) · scale; temperatures in m°C, humidity in m%.
        for device in below(&root.join("sys/bus/iio/devices"), "iio:device") {
            let device_name = word(&text(&device.join("name")).unwrap_or_else(|| file_name(&device).into()));
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
                add(format!("iio.{device_name}.{}", word(channel)), From::File(file.clone(), offset, scale * unit));
            }
        }
        Self { root: root.to_owned(), readings, missing: false }
    }

    /// Those that a model wants, in its order.
    pub(super) fn wanted(root: &Path, wanted: &Wanted) -> Result<Self, SourceError> {
        let all = Self::all(root);
        let columns = Columns::find(&all.names(), wanted, "this device")?;
        if !columns.ignored.is_empty() {
            tracing::info!("readings of this device that the model does not use: {}", columns.ignored.join(", "));
        }
        let find = |name: &String| all.readings.iter().find(|r| r.name == *name).cloned();
        let readings = wanted.inputs.iter().filter_map(find).collect();
        Ok(Self { readings, ..all })
    }

    /// Names of the readings.
    pub(super) fn names(&self) -> Vec<String> {
        self.readings.iter().map(|r| r.name.clone()).collect()
    }

    /// All readings now; NaN for one that is not there.
    pub(super) fn read(&mut self, values: &mut Vec<f32>) {
        let load = text(&self.root.join("proc/loadavg")).unwrap_or_default();
        let memory = text(&self.root.join("proc/meminfo")).unwrap_or_default();
        let before = values.len();
        values.extend(self.readings.iter().map(|reading| {
            let value = match &reading.from {
                From::File(path, offset, scale) => number(path).map(|raw| (raw + offset) * scale),
                From::Load(at) => load.split_whitespace().nth(*at).and_then(|word| word.parse().ok()),
                From::Memory(key) => memory.lines().find_map(|line| {
                    let kib: f64 =
                        line.strip_prefix(key)?.strip_prefix(':')?.trim().trim_end_matches(" kB").parse().ok()?;
                    Some(kib * 1024.0)
                }),
            };
            value.map_or(f32::NAN, |v| v as f32)
        }));
        let gone: Vec<&str> = self
            .readings
            .iter()
            .zip(&values[before..])
            .filter(|(_, v)| v.is_nan())
            .map(|(r, _)| r.name.as_str())
            .collect();
        if gone.is_empty() == self.missing {
            self.missing = !gone.is_empty();
            match gone.as_slice() {
                [] => tracing::info!("all sensors can be read again"),
                gone => tracing::warn!("sensors cannot be read and count as missing: {}", gone.join(", ")),
            }
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
        let mut two = Sensors::wanted(root, &wanted).unwrap();
        fs::remove_file(root.join("sys/class/thermal/thermal_zone0/temp")).unwrap();
        let mut values = Vec::new();
        two.read(&mut values);
        assert!(values[0].is_nan() && values[1] == 0.5, "{values:?}");
        let error = Sensors::wanted(root, &Wanted { inputs: vec!["fan9".into()], ..wanted }).unwrap_err();
        assert!(error.to_string().contains("this device has no column fan9"), "{error}");
    }
}
