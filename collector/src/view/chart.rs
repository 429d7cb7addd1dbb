//! Pictures: shares per bin and distances per slot, worked out from counts on the baseline's cells.

use super::View;
use crate::explain::number;
use crate::history::{Group, Merged, SLOTS_MAX};
use crate::incident::Incident;
use crate::release::Release;
use crate::rollout::machine::Activity;
use driftline_shared::baseline::FeatureBaseline;
use driftline_shared::drift::distance::Convention;
use driftline_shared::sketch::Cells;
use driftline_shared::units::{Name, WallMs};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Points of a line; longer spans are drawn from merged slots.
const POINTS_MAX: usize = 120;
/// Below so many independent readings a distance says more about chance than about the readings.
const READINGS_MIN: f64 = 30.0;
/// Largest dependence of readings that pictures reckon with.
const PHI_MAX: f64 = 4.0;
/// The line that guides the eye.
const ALERT: f64 = 0.2;
/// Bars of the picture of a shift.
const BINS: usize = 24;
/// About so many ranges are shown of the baseline's cells.
const RANGES: usize = 10;

/// The cumulative share of a feature's values, straight within each cell.
pub(super) struct Cumulative {
    knots: Vec<f64>,
    shares: Vec<f64>,
}

impl Cumulative {
    /// From counts on `edges`; the outer cells reach to the smallest and largest value.
    pub(super) fn new(edges: &[f32], counts: &[u32], min: f32, max: f32) -> Self {
        let total: f64 = counts.iter().map(|&c| f64::from(c)).sum::<f64>().max(1.0);
        let mut knots: Vec<f64> = edges.iter().map(|&e| f64::from(e)).collect();
        let (first, last) = (knots.first().copied().unwrap_or(0.0), knots.last().copied().unwrap_or(0.0));
        knots.insert(0, f64::from(min).min(first));
        knots.push(f64::from(max).max(last));
        let mut shares = vec![0.0];
        let mut sum = 0.0;
        for &count in counts {
            sum += f64::from(count);
            shares.push(sum / total);
        }
        Self { knots, shares }
    }

    /// The share of values up to `x`.
    fn at(&self, x: f64) -> f64 {
        let i = self.knots.partition_point(|&k| k <= x);
        if i == 0 {
            return 0.0;
        }
        let Some(&right) = self.knots.get(i) else { return 1.0 };
        let (left, below, above) = (self.knots[i - 1], self.shares[i - 1], self.shares[i]);
        below + (above - below) * (x - left) / (right - left)
    }

    /// The value with a share `q` of all below it.
    pub(super) fn quantile(&self, q: f64) -> f64 {
        let i = self.shares.partition_point(|&s| s < q).clamp(1, self.knots.len() - 1);
        let (below, above) = (self.shares[i - 1], self.shares[i]);
        let (left, right) = (self.knots[i - 1], self.knots[i]);
        if above > below { left + (right - left) * ((q - below) / (above - below)).clamp(0.0, 1.0) } else { right }
    }
}

/// A numeric feature in training and since an incident's onset.
pub(super) struct Shift<'a> {
    pub(super) feature: &'a FeatureBaseline,
    edges: &'a [f32],
    pub(super) training: Cumulative,
    pub(super) now: Cumulative,
    counts: &'a [u32],
}

/// What a shift needs, when there is a picture of it: a numeric reading with figures on the cells of its baseline.
pub(super) fn shift_of<'a>(release: &'a Release, incident: &'a Incident, name: &str) -> Option<Shift<'a>> {
    let feature = &release.baseline.features[release.feature(name)?];
    let Cells::Edges(edges) = &feature.cells else { return None };
    let figures = incident.moved.get(name)?.now.as_ref()?;
    if edges.is_empty() || figures.counts.len() != feature.cells.len() || figures.counts.iter().all(|&c| c == 0) {
        return None;
    }
    let training = Cumulative::new(edges, &feature.counts, feature.min, feature.max);
    let now = Cumulative::new(edges, &figures.counts, figures.min, figures.max);
    Some(Shift { feature, edges, training, now, counts: &figures.counts })
}

impl Shift<'_> {
    pub(super) fn median_now(&self) -> f64 {
        self.now.quantile(0.5)
    }

    /// The picture: equal bins over the joint middle 99 %, what is beyond in overflow bins.
    pub(super) fn picture(&self, view: &View<'_>, since: WallMs) -> Value {
        let (f, unit) = (self.feature, self.feature.unit.as_str());
        let lo = self.training.quantile(0.005).min(self.now.quantile(0.005));
        let hi = self.training.quantile(0.995).max(self.now.quantile(0.995));
        let width = (hi - lo) / BINS as f64;
        let bin = |from: f64, to: f64, overflow: Option<&str>| {
            let share = |c: &Cumulative| match overflow {
                Some("low") => c.at(to),
                Some(_) => 1.0 - c.at(from),
                None => c.at(to) - c.at(from),
            };
            json!({ "lo": from, "hi": to, "training": share(&self.training), "now": share(&self.now), "overflow": overflow })
        };
        let mut bins = vec![bin(lo - width, lo, Some("low"))];
        bins.extend((0..BINS).map(|i| bin(lo + width * i as f64, lo + width * (i + 1) as f64, None)));
        bins.push(bin(hi, hi + width, Some("high")));
        let (before, after) = (f64::from(f.median), self.median_now());
        let text = |v: f64| number::with_unit(&number::significant(v, 3), unit);
        let sentence = view
            .say("shift-sentence", &[("reading", f.name.as_str()), ("before", &text(before)), ("after", &text(after))]);
        json!({
            "title": view.say("shift-title", &[]),
            "caption": view.say("shift-caption", &[("since", &number::clock(since))]),
            "feature": f.name, "unit": unit, "bins": bins,
            "median_training": before, "median_now": after,
            "arrow": number::change(after - before, unit),
            "n_training": f.rows(), "n_now": self.counts.iter().map(|&c| u64::from(c)).sum::<u64>(),
            "sentence": sentence,
        })
    }

    /// Shares per range of the baseline, about ten of them.
    pub(super) fn ranges(&self, view: &View<'_>) -> Value {
        let (f, unit) = (self.feature, self.feature.unit.as_str());
        let total = f.rows().max(1) as f64;
        let now_total = self.counts.iter().map(|&c| f64::from(c)).sum::<f64>().max(1.0);
        let goal = total / RANGES as f64;
        // (first cell, training, now)
        let mut groups: Vec<(usize, f64, f64)> = Vec::new();
        for (cell, (&was, &is)) in f.counts.iter().zip(self.counts).enumerate() {
            match groups.last_mut() {
                // Half of a cell's share decides on which side it falls.
                Some(group) if group.1 + 0.5 * f64::from(was) < goal => {
                    group.1 += f64::from(was);
                    group.2 += f64::from(is);
                }
                _ => groups.push((cell, f64::from(was), f64::from(is))),
            }
        }
        let expected = 1.0 / groups.len().max(1) as f64;
        let edge = |i: usize| number::significant(f64::from(self.edges[i]), 4);
        let bars: Vec<Value> = groups
            .iter()
            .enumerate()
            .map(|(i, &(first, was, is))| {
                let next = groups.get(i + 1).map(|g| g.0);
                let label = match (first, next) {
                    (0, Some(next)) => format!("≤ {}", edge(next - 1)),
                    (_, Some(next)) => format!("{} – {}", edge(first - 1), edge(next - 1)),
                    (0, None) => "–".into(),
                    (_, None) => format!("> {}", edge(first - 1)),
                };
                let (share, was) = (is / now_total, was / total);
                let label = number::with_unit(&label, unit);
                json!({ "label": label, "share": share, "before": expected, "hot": share > 2.0 * was })
            })
            .collect();
        json!({
            "title": view.say("ranges-title", &[("expected", &number::percent(expected))]),
            "caption": view.say("ranges-caption", &[]),
            "bars": bars,
        })
    }
}

/// The base-2 Jensen-Shannon distance to the baseline less what chance adds to it: about (K − 1)/(8 ln 2)·(phi/n + 1/N) of the
/// divergence (second-order expansion of the plug-in estimate), where phi says how much neighbouring readings repeat each other.
/// `None` for too few readings.
fn distance(feature: &FeatureBaseline, counts: &[u32]) -> Option<f64> {
    let phi = if matches!(feature.cells, Cells::Edges(_)) { feature.phi.location } else { feature.phi.share };
    // The picture stays even where the training series was so dependent that hardly a window would count as evidence.
    let n = counts.iter().map(|&c| f64::from(c)).sum::<f64>() / phi.clamp(1.0, PHI_MAX);
    if n < READINGS_MIN || counts.len() != feature.counts.len() {
        return None;
    }
    let js = Convention::JS.of(&feature.counts, counts);
    let by_chance = (feature.counts.len() - 1) as f64 / (8.0 * std::f64::consts::LN_2)
        * (1.0 / n + 1.0 / feature.rows().max(1) as f64);
    Some((js * js - by_chance).max(0.0).sqrt())
}

impl View<'_> {
    /// Shares per category, where the reading that names the incident has categories.
    pub(super) fn shares(&self, incident: &Incident) -> Option<Value> {
        let release = self.began_on(incident)?;
        let feature = &release.baseline.features[release.feature(&incident.primary)?];
        let now = incident.main().now.as_ref()?;
        let sum = |counts: &[u32]| counts.iter().map(|&c| f64::from(c)).sum::<f64>().max(1.0);
        if matches!(feature.cells, Cells::Edges(_)) || now.counts.len() != feature.cells.len() {
            return None;
        }
        let (before, after) = (sum(&feature.counts), sum(&now.counts));
        let bars = feature.counts.iter().zip(&now.counts).zip(0u8..).filter(|((was, is), _)| **was > 0 || **is > 0);
        let bars: Vec<Value> = bars
            .map(|((&was, &is), k)| {
                let (was, is) = (f64::from(was) / before, f64::from(is) / after);
                let label = self.category(Some(release), &incident.primary, k);
                json!({ "label": label, "share": is, "before": was, "hot": is > 2.0 * was })
            })
            .collect();
        let (title, caption) = (self.say("shares-title", &[]), self.say("shares-caption", &[]));
        Some(json!({ "title": title, "caption": caption, "bars": bars }))
    }

    /// A feature's current distance from training, over all devices in the newest closed slots of a release.
    pub(super) fn distance_now(&self, release: &Release, feature: usize, group: &Group) -> Option<f64> {
        let slots: Vec<_> = self.core.history.slots(release.id, group).collect();
        let mut sum = Merged::default();
        slots.iter().rev().skip(1).take(10).for_each(|(_, merged)| sum.merge(merged));
        distance(&release.baseline.features[feature], sum.sketches.get(feature)?.counts())
    }

    /// How different one reading was over time, a line per cohort, against the baseline of the release that was in use.
    pub(super) fn timeline(&self, model: &Name, reading: &str, cohorts: Option<&[String]>) -> Value {
        let releases: Vec<&Release> = self.releases_of(model).filter(|r| r.feature(reading).is_some()).collect();
        let mut names: Vec<String> =
            releases.iter().flat_map(|r| self.core.history.cohorts(r.id)).map(str::to_owned).collect();
        names.sort();
        names.dedup();
        if let Some(wanted) = cohorts {
            names.retain(|n| wanted.contains(n));
        }
        let lines = names.into_iter().map(|name| {
            let group = Group::Cohort(name.clone());
            (name, releases.iter().map(|r| (*r, group.clone())).collect())
        });
        self.lines(model, reading, &self.say("timeline-title", &[]), lines.collect())
    }

    /// One line per release, over the devices of some groups.
    pub(super) fn compare(&self, model: &Name, reading: &str, releases: &[&Release], groups: &[Group]) -> Value {
        let lines = releases.iter().map(|r| (r.name.to_string(), groups.iter().map(|g| (*r, g.clone())).collect()));
        self.lines(model, reading, &self.say("compare-title", &[]), lines.collect())
    }

    fn lines(&self, model: &Name, reading: &str, title: &str, lines: Vec<(String, Vec<(&Release, Group)>)>) -> Value {
        let all_slots = || {
            let groups = lines.iter().flat_map(|(_, parts)| parts);
            groups.flat_map(|(r, group)| {
                let window = u64::from(r.schema.window_ms);
                self.core.history.slots(r.id, group).map(move |(slot, _)| (slot * window, window))
            })
        };
        // What is still being filled would dip at the end of every line; what only an old release still has is before the picture.
        let newest = all_slots().map(|(at, _)| at).max();
        let oldest =
            all_slots().map(|(at, w)| newest.unwrap_or(at).saturating_sub(SLOTS_MAX as u64 * w)).min().unwrap_or(0);
        let span = all_slots().filter(|(at, _)| Some(*at) != newest && *at >= oldest);
        let (first, last, step) = span
            .fold((u64::MAX, 0, 1), |(first, last, step), (at, w)| (first.min(at), last.max(at), u64::max(step, w)));
        let step = if first > last { step } else { step * ((last - first) / step / POINTS_MAX as u64 + 1) };
        let mut parts = Vec::new();
        let series: Vec<Value> = lines
            .iter()
            .map(|(name, sources)| {
                let points = self.points(reading, sources, oldest..newest.unwrap_or(0), step);
                let drawn: Vec<Value> = match (points.keys().next(), points.keys().next_back()) {
                    (Some(&from), Some(&to)) => (from..=to).map(|i| json!([i * step, points.get(&i)])).collect(),
                    _ => Vec::new(),
                };
                if let Some(Some(value)) = points.values().next_back() {
                    let value = format!("{value:.2}");
                    parts.push(self.say("timeline-part", &[("name", name), ("value", &value)]));
                }
                json!({ "name": name, "points": drawn })
            })
            .collect();
        json!({
            "title": title,
            "caption": self.say("timeline-caption", &[("reading", reading)]),
            "sentence": self.say("timeline-sentence", &[("reading", reading), ("parts", &self.list(&parts))]),
            "alert": ALERT,
            "alert_label": self.say("timeline-alert", &[("level", &ALERT.to_string())]),
            "series": series,
            "marks": self.marks(model),
            "spans": self.spans(model, reading),
        })
    }

    /// Distances by step; a step with data of several releases counts each against its own baseline.
    fn points(
        &self,
        reading: &str,
        sources: &[(&Release, Group)],
        span: std::ops::Range<u64>,
        step: u64,
    ) -> BTreeMap<u64, Option<f64>> {
        let mut weighted: BTreeMap<u64, (f64, f64)> = BTreeMap::new();
        for (release, group) in sources {
            let Some(index) = release.feature(reading) else { continue };
            let window = u64::from(release.schema.window_ms);
            let mut sums: BTreeMap<u64, Vec<u32>> = BTreeMap::new();
            for (slot, merged) in
                self.core.history.slots(release.id, group).filter(|(s, _)| span.contains(&(s * window)))
            {
                let Some(sketch) = merged.sketches.get(index) else { continue };
                let sum = sums.entry(slot * window / step).or_insert_with(|| vec![0; sketch.counts().len()]);
                sum.iter_mut().zip(sketch.counts()).for_each(|(a, b)| *a = a.saturating_add(*b));
            }
            for (at, counts) in sums {
                let n: f64 = counts.iter().map(|&c| f64::from(c)).sum();
                let entry = weighted.entry(at).or_default();
                if let Some(distance) = distance(&release.baseline.features[index], &counts) {
                    entry.0 += n * distance;
                    entry.1 += n;
                }
            }
        }
        weighted.into_iter().map(|(at, (sum, n))| (at, (n > 0.0).then(|| sum / n))).collect()
    }

    fn marks(&self, model: &Name) -> Vec<Value> {
        let rollouts = self.core.rollouts.values().filter(|r| r.plan.model == *model);
        rollouts
            .flat_map(|r| {
                let release = self.release_name(Some(r.plan.to));
                r.activity.iter().filter_map(move |(at, what)| match what {
                    Activity::Stage { n, .. } => {
                        let label = self.say("mark-rollout", &[("release", &release), ("stage", &n.to_string())]);
                        Some(json!({ "t_ms": at.0, "label": label, "kind": "rollout" }))
                    }
                    _ => None,
                })
            })
            .collect()
    }

    fn spans(&self, model: &Name, reading: &str) -> Vec<Value> {
        let mine = self.core.book.all().filter(|i| i.model == *model && i.moved.contains_key(reading));
        mine.map(|i| json!({ "from_ms": i.onset.0, "to_ms": i.resolved.map(|r| r.0), "label": i.label() })).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cumulative_share_and_its_inverse_agree() {
        // 2 values in 0..=1, 6 in 1..=3, 2 in 3..=4.
        let c = Cumulative::new(&[1.0, 3.0], &[2, 6, 2], 0.0, 4.0);
        for (x, share) in [(-1.0, 0.0), (0.5, 0.1), (1.0, 0.2), (2.0, 0.5), (3.5, 0.9), (9.0, 1.0)] {
            assert!((c.at(x) - share).abs() < 1e-12, "{x}");
        }
        for q in [0.05, 0.2, 0.5, 0.77, 0.95] {
            assert!((c.at(c.quantile(q)) - q).abs() < 1e-12, "{q}");
        }
    }
}
