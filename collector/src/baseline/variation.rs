//! How normal data varies: in time (phi), between healthy devices (omega) and by hour of the day (season slots).
//!
//! Formulas and sources: docs/detection.md. Rows are taken in time order within each device, so that neighbours in a block are
//! neighbours in time. A season is kept only where the hour explains more than chance would.

use super::autoregression::{LongRun, long_run, long_run_of_means, without_gaps};
use driftline_shared::baseline::{FeatureBaseline, SEASON_SLOTS_MAX, Season, SeasonSlot};
use driftline_shared::drift::design::COMMON_SHARE;
use driftline_shared::drift::scores::{Family, Scores, Sum};
use driftline_shared::drift::variance;
use driftline_shared::list::List;
use driftline_shared::sketch::{Grid, Sketch};
use driftline_shared::units::WallMs;
use statrs::distribution::{ChiSquared, ContinuousCDF, FisherSnedecor};
use std::collections::BTreeMap;

/// Windows that the variance of means is estimated from, at least; shorter blocks are taken when the table is short.
const BLOCKS_MIN: usize = 10;
/// Below so many blocks their variance is too uncertain to stand alone.
pub const BLOCKS_FEW: usize = 50;
/// Standard errors by which a coarser estimate of φ may lie above a finer one before it is taken for a sign of something slow.
const DOUBT: f64 = 2.0;
/// Fewest devices that say how much devices differ.
pub const DEVICES_MIN: usize = 5;
/// Fewest rows of a device that count for it.
const DEVICE_ROWS_MIN: usize = 20;
const DAY_MS: u64 = 24 * 3_600_000;
/// Days that a table must span for its hours to be told apart, and for working days and weekends.
const DAYS_MIN: (u64, u64) = (3, 14);
/// The hour matters when chance alone would make it seem so less often than this: an F test of hourly means between the slots
/// and between the days of one slot.
const SEASON_ALPHA: f64 = 1e-4;

/// The table's rows by device and time.
#[derive(Debug, Clone, PartialEq)]
pub struct Order {
    /// Row numbers of each device, in time order.
    devices: Vec<Vec<usize>>,
    /// Whether the table said which device a row came from.
    by_device: bool,
    /// Season slots; `None` when the table has no times or spans too few days.
    slots: Option<Slots>,
    /// Whether there are times at all.
    timed: bool,
}

#[derive(Debug, Clone, PartialEq)]
struct Slots {
    /// Slot and day of each row.
    of_row: Vec<(usize, u64)>,
    /// 24 or 48.
    count: usize,
}

impl Order {
    /// `times` and `devices` have one entry per row, or none at all.
    pub fn new(rows: usize, times: &[u64], devices: &[u32]) -> Self {
        let known = devices.iter().max().map_or(1, |&most| most as usize + 1);
        let mut by_device = vec![Vec::new(); known];
        (0..rows).for_each(|row| by_device[devices.get(row).map_or(0, |&d| d as usize)].push(row));
        if times.len() == rows {
            by_device.iter_mut().for_each(|rows| rows.sort_by_key(|&row| times[row]));
        }
        let span = times.iter().max().zip(times.iter().min()).map_or(0, |(last, first)| (last - first) / DAY_MS);
        let count = match span {
            days if days >= DAYS_MIN.1 => Some(SEASON_SLOTS_MAX),
            days if days >= DAYS_MIN.0 => Some(SEASON_SLOTS_MAX / 2),
            _ => None,
        };
        let slots = count.map(|count| {
            let of_row = times.iter().map(|&t| (Season::slot(count, WallMs(t)), t / DAY_MS)).collect();
            Slots { of_row, count }
        });
        Self { devices: by_device, by_device: !devices.is_empty(), slots, timed: !times.is_empty() }
    }

    /// Blocks of each device's neighbouring rows as the variance of means is estimated from: windows, shorter where the table is short.
    pub fn blocks(&self, rows: usize, window: usize) -> Vec<(usize, &[usize])> {
        let n = window.min(rows / BLOCKS_MIN).max(1);
        let of = |(device, rows)| <[usize]>::chunks_exact(rows, n).map(move |block| (device, block));
        self.devices.iter().map(Vec::as_slice).enumerate().flat_map(of).collect()
    }

    fn slot(&self, row: usize) -> usize {
        self.slots.as_ref().and_then(|s| s.of_row.get(row)).map_or(0, |(slot, _)| *slot)
    }
}

/// A block of a device's neighbouring rows, counted by season slot.
struct Block {
    device: usize,
    /// (slot, counts): one entry where there is no season.
    parts: Vec<(usize, Sketch)>,
}

/// Estimates phi, omega and the season of a feature; returns the lag-1 correlation of its blocks' location means.
/// Rows that are `independent` samples have phi 1.
pub fn estimate(feature: &mut FeatureBaseline, values: &[f32], order: &Order, window: usize, independent: bool) -> f64 {
    feature.repeats = repeats(values, order);
    let rows = order.blocks(values.len(), window);
    let n = rows.first().map_or(1, |(_, rows)| rows.len());
    let blocks = blocks(feature, values, order, &rows);
    let mut correlation = 0.0;
    if !independent {
        correlation = estimate_phi(feature, values, order, &blocks, n);
    }
    if let Some(season) = season(feature, values, order) {
        feature.season = Some(season);
        if !independent {
            // What the hours explain is no wobble.
            correlation = estimate_phi(feature, values, order, &blocks, n);
        }
    }
    if order.by_device {
        let scores = Scores::new(feature);
        let shares: Vec<Family> = scores.families().filter(|family| common(&scores, *family)).collect();
        feature.omega = if shares.is_empty() {
            omega(feature, Family::Location, &blocks)
        } else {
            // The mix of classes differs by the one that differs most.
            let of: Option<Vec<f64>> = shares.iter().map(|family| omega(feature, *family, &blocks)).collect();
            of.map(|of| of.into_iter().fold(0.0, f64::max))
        };
        feature.omega_scale = omega(feature, Family::Scale, &blocks);
    }
    correlation
}

/// Sentences about what the table said of devices and hours.
pub fn notes(order: &Order, features: &[FeatureBaseline]) -> Vec<String> {
    let mut notes = Vec::new();
    let watched = || features.iter().filter(|f| f.unwatched.is_none());
    if order.by_device && watched().any(|f| f.omega.is_none()) {
        notes.push(format!(
            "The table has fewer than {DEVICES_MIN} devices with {DEVICE_ROWS_MIN} rows: how much healthy devices differ is assumed, not measured."
        ));
    }
    let seasonal: Vec<&str> = watched().filter(|f| f.season.is_some()).map(|f| f.name.as_str()).collect();
    match (order.timed, order.slots.as_ref().map(|s| s.count)) {
        (true, None) => notes.push(format!(
            "The table spans less than {} days: whether the hour of the day matters cannot be told.",
            DAYS_MIN.0
        )),
        (true, Some(slots)) if !seasonal.is_empty() => notes.push(format!(
            "The hour of the day{} matters for {}: those are compared with the same hours.",
            if slots == SEASON_SLOTS_MAX { " and the weekend" } else { "" },
            seasonal.join(", ")
        )),
        _ => {}
    }
    notes
}

/// Rows of a device whose value equals that of the row before.
fn repeats(values: &[f32], order: &Order) -> u32 {
    let of = |rows: &Vec<usize>| {
        let finite = rows.iter().map(|&row| values[row]).filter(|v| v.is_finite()).collect::<Vec<_>>();
        finite.windows(2).filter(|pair| pair[0].to_bits() == pair[1].to_bits()).count()
    };
    u32::try_from(order.devices.iter().map(of).sum::<usize>()).unwrap_or(u32::MAX)
}

fn blocks(feature: &FeatureBaseline, values: &[f32], order: &Order, blocks: &[(usize, &[usize])]) -> Vec<Block> {
    let grid = Grid::new(&feature.cells);
    let counted = |(device, rows): &(usize, &[usize])| {
        let mut parts: Vec<(usize, Sketch)> = Vec::new();
        for &row in *rows {
            let slot = order.slot(row);
            let at = parts.iter().position(|(known, _)| *known == slot).unwrap_or_else(|| {
                parts.push((slot, Sketch::new(feature.cells.len())));
                parts.len() - 1
            });
            parts[at].1.add(&grid, values[row]);
        }
        Block { device: *device, parts }
    };
    blocks.iter().map(counted).collect()
}

/// Score tables by season slot.
fn tables(feature: &FeatureBaseline) -> Vec<Scores> {
    let slots = feature.season.as_ref().map_or(1, |season| season.slots.len());
    (0..slots).map(|slot| Scores::of_season(feature, slot)).collect()
}

/// A family's score sums, block by block.
fn sums(tables: &[Scores], family: Family, blocks: &[Block]) -> Vec<(usize, Sum)> {
    let of = |block: &Block| {
        let mut sum = Sum::default();
        for (slot, sketch) in &block.parts {
            sum.add(tables[slot % tables.len()].sum(family, sketch));
        }
        (block.device, sum)
    };
    blocks.iter().map(of).filter(|(_, sum)| sum.n > 0.0).collect()
}

/// The long-run variance factor of a score, from the means of blocks of neighbouring rows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OfBlocks {
    /// Bartlett's estimate around each device's own mean: offsets between devices are omega's business.
    pub phi: f64,
    /// Its upper 95 % bound.
    pub upper: f64,
    /// Lag-1 correlation of the blocks' means.
    pub correlation: f64,
    blocks: usize,
}

impl OfBlocks {
    /// Of a standardised score, given its sum in blocks of `n` rows with the device of each.
    pub fn new(sums: &[(usize, Sum)], n: f64) -> Self {
        let known = sums.iter().map(|(_, sum)| sum.n).sum::<f64>() / sums.len().max(1) as f64;
        let (mut phi, mut blocks, mut correlation) = (0.0, 0usize, 0.0);
        for of_device in sums.chunk_by(|a, b| a.0 == b.0) {
            let means: Vec<f64> = of_device.iter().map(|(_, sum)| sum.mean()).collect();
            if means.len() >= 2 {
                let unbiased = means.len() as f64 / (means.len() - 1) as f64;
                phi += variance::phi(&means, known) * unbiased * means.len() as f64;
                blocks += means.len();
                correlation += variance::lag1_autocorrelation(&means) * means.len() as f64;
            }
        }
        let (phi, correlation) = (phi / blocks.max(1) as f64, correlation / blocks.max(1) as f64);
        let phi = without_gaps(phi, known / n);
        let low = ChiSquared::new((blocks.max(2) - 1) as f64).map_or(0.0, |chi| chi.inverse_cdf(0.05));
        Self { phi, upper: variance::upper(phi, blocks, low), correlation, blocks }
    }

    /// phi, given what readings and the means of a few say if they are an autoregressive series. Readings are believed, being many where
    /// blocks are few, as long as the means say no more than [`DOUBT`] standard errors above them, and the blocks no more than that above
    /// what the two give (√(4(L+1)/3W) of Bartlett's estimate with lag L; Priestley, *Spectral analysis and time series*, 1981): further
    /// off, something is slower than the model knows, and one more standard error on they are not believed at all.
    fn beside(&self, readings: Option<LongRun>, means: Option<LongRun>) -> f64 {
        let Some(readings) = readings else { return self.upper };
        let means = means.unwrap_or(readings);
        let doubt = |off: f64| (off - DOUBT).clamp(0.0, 1.0);
        let from_to = |from: f64, to: f64, share: f64| from + (to - from).max(0.0) * share;
        let share = doubt(means.above(&readings));
        let phi = from_to(readings.phi, means.phi, share);
        let upper = from_to(readings.upper(), means.upper(), share).max(1.0);
        if self.blocks < BLOCKS_FEW {
            return self.upper.max(upper);
        }
        let lags = variance::lag(self.blocks) as f64;
        let error = (4.0 * (lags + 1.0) / (3.0 * self.blocks as f64)).sqrt();
        from_to(upper, self.upper, doubt((self.phi / phi - 1.0) / error))
    }
}

fn estimate_phi(feature: &mut FeatureBaseline, values: &[f32], order: &Order, blocks: &[Block], n: usize) -> f64 {
    let tables = tables(feature);
    let families: Vec<Family> = tables[0].families().collect();
    let (mut correlation, mut share) = (0.0, 1.0f64);
    for family in families {
        let found = OfBlocks::new(&sums(&tables, family, blocks), n as f64);
        match family {
            Family::Location => {
                let series = scores(feature, &tables, values, order);
                feature.phi.location = found.beside(long_run(&series), long_run_of_means(&series));
                correlation = found.correlation;
            }
            Family::Scale => feature.phi.scale = found.upper,
            Family::Top => feature.phi.top = found.upper,
            Family::Bottom => feature.phi.bottom = found.upper,
            Family::Missing | Family::Category(_) => share = share.max(found.upper),
            Family::Repeats | Family::Embedding(_) => {}
        }
    }
    feature.phi.share = share;
    raise_phi(feature);
    correlation
}

/// The location score of every reading, by device and in time order; `None` for what is missing.
fn scores(feature: &FeatureBaseline, tables: &[Scores], values: &[f32], order: &Order) -> Vec<Vec<Option<f64>>> {
    let of_cells: Vec<Vec<f64>> =
        tables.iter().map(|table| table.points(Family::Location).iter().map(|(_, g)| g).collect()).collect();
    let grid = Grid::new(&feature.cells);
    let score = |&row: &usize| {
        let of_cell = &of_cells[order.slot(row) % of_cells.len()];
        values[row].is_finite().then(|| of_cell.get(grid.cell(values[row])).copied()).flatten()
    };
    order.devices.iter().map(|rows| rows.iter().map(score).collect()).collect()
}

/// Makes the other families' phi at least what follows from that of the level.
fn raise_phi(feature: &mut FeatureBaseline) {
    let phi = &mut feature.phi;
    // Rare cells are hit too seldom to show how they clump, and squares too unevenly: they repeat at least as those of a
    // Gaussian AR(1) series with this phi of its level, ρ = (φ-1)/(φ+1), for which squares have (1+ρ²)/(1-ρ²).
    phi.scale = phi.scale.max((phi.location * phi.location + 1.0) / (2.0 * phi.location));
    phi.top = phi.top.max(phi.bottom).max(phi.scale);
    phi.bottom = phi.top;
}

/// Whether it is a category that healthy devices, and hours, may have more or less of.
fn common(scores: &Scores, family: Family) -> bool {
    matches!(family, Family::Category(_)) && scores.share(family).is_some_and(|p| p >= COMMON_SHARE)
}

/// Between-device sd of the mean score of a family: the variance of the devices' means less what chance gives them, at its upper
/// 95 % bound. `None` with fewer than [`DEVICES_MIN`] devices.
fn omega(feature: &FeatureBaseline, family: Family, blocks: &[Block]) -> Option<f64> {
    let tables = tables(feature);
    if !tables[0].families().any(|has| has == family) {
        return Some(0.0);
    }
    let phi = match family {
        Family::Scale => feature.phi.scale,
        Family::Category(_) => feature.phi.share,
        _ => feature.phi.location,
    };
    let sums = sums(&tables, family, blocks);
    let devices: Vec<Sum> = sums
        .chunk_by(|a, b| a.0 == b.0)
        .map(|blocks| {
            let mut sum = Sum::default();
            blocks.iter().for_each(|(_, block)| sum.add(*block));
            sum
        })
        .filter(|sum| sum.n >= DEVICE_ROWS_MIN as f64)
        .collect();
    if devices.len() < DEVICES_MIN {
        return None;
    }
    let count = devices.len() as f64;
    let mean = devices.iter().map(Sum::mean).sum::<f64>() / count;
    let spread = devices.iter().map(|d| (d.mean() - mean).powi(2)).sum::<f64>() / (count - 1.0);
    let chance = devices.iter().map(|d| phi / d.n).sum::<f64>() / count;
    let low = ChiSquared::new(count - 1.0).map_or(1.0, |chi| chi.inverse_cdf(0.05));
    Some((spread * (count - 1.0) / low - chance).max(0.0).sqrt())
}

/// Counts by season slot, when the hours' mean location scores, or the shares of a category, differ more between slots than between the
/// days of one slot.
fn season(feature: &FeatureBaseline, values: &[f32], order: &Order) -> Option<Season> {
    let (of_row, slots) = order.slots.as_ref().map(|s| (&s.of_row, s.count))?;
    let scores = Scores::new(feature);
    let families: Vec<Family> =
        scores.families().filter(|family| matches!(family, Family::Location) || common(&scores, *family)).collect();
    if families.is_empty() {
        return None;
    }
    let mut hours: BTreeMap<(usize, u64), Sketch> = BTreeMap::new();
    let grid = Grid::new(&feature.cells);
    for (&value, &(slot, day)) in values.iter().zip(of_row) {
        let sketch = hours.entry((slot, day)).or_insert_with(|| Sketch::new(grid.len()));
        sketch.add(&grid, value);
    }
    let mut means = vec![vec![Vec::new(); slots]; families.len()];
    let mut counted: Vec<Sketch> = (0..slots).map(|_| Sketch::new(grid.len())).collect();
    for ((slot, _), sketch) in &hours {
        for (means, family) in means.iter_mut().zip(&families) {
            means[*slot].extend((sketch.n() > 0).then(|| scores.sum(*family, sketch).mean()));
        }
        counted[*slot].merge(sketch).ok()?;
    }
    let used = means[0].iter().filter(|m| !m.is_empty()).count();
    let alpha = SEASON_ALPHA / families.len() as f64;
    // Slots that training hardly saw would be watched against next to nothing.
    (means.iter().any(|means| slots_differ(means, alpha)) && used * 4 >= slots * 3).then(|| Season {
        slots: counted
            .iter()
            .map(|s| SeasonSlot {
                counts: s.counts().iter().copied().collect::<List<u32, _>>(),
                missing: s.missing() + s.non_finite(),
            })
            .collect(),
    })
}

/// One-way analysis of variance: whether the groups' means differ.
fn slots_differ(groups: &[Vec<f64>], alpha: f64) -> bool {
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len().max(1) as f64;
    let all: Vec<f64> = groups.iter().flatten().copied().collect();
    let used = groups.iter().filter(|g| !g.is_empty()).count();
    if used < 2 || all.len() <= used {
        return false;
    }
    let grand = mean(&all);
    let between: f64 = groups.iter().map(|g| g.len() as f64 * (mean(g) - grand).powi(2)).sum();
    let within: f64 = groups.iter().map(|g| g.iter().map(|x| (x - mean(g)).powi(2)).sum::<f64>()).sum();
    let degrees = ((used - 1) as f64, (all.len() - used) as f64);
    let f = (between / degrees.0) / (within / degrees.1).max(f64::MIN_POSITIVE);
    FisherSnedecor::new(degrees.0, degrees.1).is_ok_and(|law| law.sf(f) < alpha)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Evenly spread values in (-0.5, 0.5), neighbours far apart.
    fn even(i: usize) -> f32 {
        (((i as f64 + 0.5) * 0.618_033_988_749_895).fract() - 0.5) as f32
    }

    fn feature(rows: usize, value: impl Fn(usize) -> f32, times: &[u64], devices: &[u32]) -> FeatureBaseline {
        let values: Vec<f32> = (0..rows).map(value).collect();
        crate::evaluate::series::feature(&values, times, devices, 0.1)
    }

    #[test]
    fn the_readings_are_believed_until_means_or_blocks_say_otherwise() {
        // 100 blocks: a lag of 4, a standard error of √(20/300).
        let error = (20.0f64 / 300.0).sqrt();
        let readings = LongRun { phi: 10.0, error: 0.06 };
        let upper = readings.upper();
        let blocks =
            |off: f64, blocks| OfBlocks { phi: 10.0 * (1.0 + off * error), upper: 20.0, correlation: 0.0, blocks };
        let phi = |off: f64, means: LongRun| blocks(off, 100).beside(Some(readings), Some(means));
        let near = |found: f64, wanted: f64| assert!((found - wanted).abs() < 1e-9, "{found} for {wanted}");
        // Means that say the same: nothing but the blocks counts.
        for (off, share) in [(-3.0, 0.0), (0.0, 0.0), (2.0, 0.0), (2.5, 0.5), (3.0, 1.0), (9.0, 1.0)] {
            near(phi(off, readings), upper + share * (20.0 - upper));
        }
        // Means with errors of 0.1, so that √(0.1² - 0.06²) = 0.08 is that of the difference, and blocks that say little.
        for (off, share) in [(-3.0, 0.0), (2.0, 0.0), (2.5, 0.5), (3.0, 1.0), (9.0, 1.0)] {
            let means = LongRun { phi: 10.0 * (off * 0.08f64).exp(), error: 0.1 };
            near(phi(-9.0, means), upper + share * (means.upper() - upper).max(0.0));
        }
        // Blocks far above the readings, and near means that are believed.
        let means = LongRun { phi: 16.0, error: 0.1 };
        near(phi(0.6 / error, means), means.upper());
        near(blocks(0.0, BLOCKS_FEW - 1).beside(Some(readings), Some(readings)), 20.0);
        let none = OfBlocks { phi: 3.0, upper: 4.0, correlation: 0.0, blocks: 100 };
        near(none.beside(None, None), 4.0);
        // Readings that repeat less than independent ones do not lower it below 1.
        let little = LongRun { phi: 0.4, error: 0.01 };
        near(OfBlocks { phi: 0.4, ..none }.beside(Some(little), None), 1.0);
    }

    #[test]
    fn devices_that_differ_give_omega() {
        let devices: Vec<u32> = (0..6_000).map(|i| (i % 10) as u32).collect();
        // Offsets of -4.5 to 4.5 tenths of the sd 0.289: sd of the offsets 0.3 of it.
        let with = |step: f32| {
            let offset = move |i: usize| ((i % 10) as f32 - 4.5) * step;
            feature(6_000, move |i| even(i / 10 * 7 + i % 10) + offset(i), &[], &devices).omega.expect("ten devices")
        };
        let (same, differ) = (with(0.0), with(0.0289));
        assert!(same < 0.1, "{same}");
        // 0.3 sd, raised to the upper bound for nine degrees of freedom (times 1.64); the mixture's own sd is a little larger.
        assert!((0.35..0.6).contains(&differ), "{differ}");
        assert_eq!(feature(400, even, &[], &devices[..400].iter().map(|d| d % 3).collect::<Vec<_>>()).omega, None);
    }

    #[test]
    fn devices_whose_spread_differs_give_that_of_scale() {
        let devices: Vec<u32> = (0..6_000).map(|i| (i % 10) as u32).collect();
        let with = |step: f32| {
            let wider = move |i: usize| 1.0 + ((i % 10) as f32 - 4.5) * step;
            feature(6_000, move |i| even(i / 10 * 7 + i % 10) * wider(i), &[], &devices)
        };
        let (same, differ) = (with(0.0), with(0.06));
        assert!(same.spread_of_scale() < 0.1, "{:?}", same.omega_scale);
        assert!(
            differ.spread() < 0.1 && differ.spread_of_scale() > 0.2,
            "{:?}, {:?}",
            differ.omega,
            differ.omega_scale
        );
        // Where the table does not say it is taken for that of the level.
        let unknown = FeatureBaseline { omega: Some(0.3), omega_scale: None, ..same };
        assert_eq!(unknown.spread_of_scale(), 0.3);
    }

    #[test]
    fn a_daily_wave_makes_24_slots_and_leaves_phi_small() {
        let times: Vec<u64> = (0..6_000).map(|i| i * 60_000 * 2).collect();
        let wave = |i: usize| even(i) + (i as f32 / 720.0 * std::f32::consts::TAU).sin();
        let with = feature(6_000, wave, &times, &[]);
        let without = feature(6_000, wave, &[], &[]);
        assert_eq!(with.season.as_ref().map(|s| s.slots.len()), Some(24));
        assert!(with.phi.location < 10.0 && without.phi.location > 100.0, "{:?} {:?}", with.phi, without.phi);
        assert_eq!(feature(6_000, even, &times, &[]).season, None, "no wave, no season");
    }
}
