//! Driftline's own figures: what the dashboard shows, from raw samples; and for what only another tool defines, that tool's.
//!
//! Numbers are counted on the cells a baseline would get from the reference. PSI and KL have half a sample in every cell (Jeffreys),
//! Jensen-Shannon is in base 2. From shares there is nothing to add half a sample to, so empty cells stay empty.

use super::edges::{self, Bins};
use super::float;
use super::input::Input;
use super::params::Params;
use super::scipy::base;
use super::tables::Lambda;
use super::{Answer, Metric, Refusal, deepchecks, deequ, evidently, scipy, series};
use crate::baseline;
use driftline_shared::drift::distance::{self, Base, Convention, Edges, ZeroPolicy};

/// Answers as Driftline.
pub fn answer(metric: Metric, input: &Input, params: &Params<'_>) -> Result<Answer, Refusal> {
    use distance::Metric as Counted;
    // Missing values and infinities are counted apart on a device and are in no figure.
    let cleaned = input.pair.as_ref().map(|pair| Input { pair: Some(pair.cleaned(true)), ..input.clone() });
    let input = cleaned.as_ref().unwrap_or(input);
    match metric {
        Metric::Psi => on_cells(Counted::Psi, input, params),
        Metric::Js => on_cells(Counted::Js, input, params),
        Metric::Kl => on_cells(Counted::Kl, input, params),
        Metric::Hellinger => on_cells(Counted::Hellinger, input, params),
        Metric::TotalVariation => on_cells(Counted::TotalVariation, input, params),
        Metric::KsD if input.pair.is_none() => on_cells(Counted::KsD, input, params),
        // Numbers by their cells, as everything else here; Deequ compares their distribution functions.
        Metric::LInfinity | Metric::LInfinityRobust if input.pair.is_some() => l_infinity(metric, input, params),
        Metric::LInfinity | Metric::LInfinityRobust => deequ::l_infinity(metric, input, params),
        Metric::EmdScaled | Metric::CramersV => deepchecks::answer(metric, input, params),
        Metric::WassersteinNorm | Metric::Z | Metric::Mmd => evidently::answer(metric, input, params),
        // Expected counts are the reference's scaled to the current total, as the statistic on cells has it.
        Metric::Chisquare => evidently::answer(metric, input, params),
        Metric::G => evidently::scaled(Lambda::G, &input.counts()?),
        Metric::Adwin | Metric::PageHinkley => series::answer(metric, input, params),
        _ => scipy::answer(metric, input, params),
    }
}

fn l_infinity(metric: Metric, input: &Input, params: &Params<'_>) -> Result<Answer, Refusal> {
    let simple = on_cells(distance::Metric::LInfinity, input, params)?;
    let robust = on_cells(distance::Metric::LInfinityRobust, input, params)?;
    let of = |answer: &Answer| answer.number("value").unwrap_or(f64::NAN);
    let (asked, figures) = match metric {
        Metric::LInfinity => (of(&simple), &simple),
        _ => (of(&robust), &robust),
    };
    let all = [("robust", of(&robust)), ("simple", of(&simple)), ("value", asked)];
    Ok(Answer::new(&all, figures.stated.clone()))
}

fn on_cells(metric: distance::Metric, input: &Input, params: &Params<'_>) -> Result<Answer, Refusal> {
    use distance::Metric as Counted;
    let own = if let Counted::Psi | Counted::Kl = metric { ZeroPolicy::Jeffreys } else { ZeroPolicy::Keep };
    let base = match metric {
        Counted::Js => base(params, Base::Two)?,
        Counted::Kl | Counted::Psi => base(params, Base::E)?,
        _ => Base::E,
    };
    let zero = match metric {
        Counted::Psi | Counted::Kl | Counted::Js | Counted::Hellinger => evidently::zero(params, own)?,
        _ => own,
    };
    let convention = Convention { metric, base, zero, edges: Edges::Given };
    if let Some((p, q)) = &input.shares {
        let zero = if zero == ZeroPolicy::Jeffreys { ZeroPolicy::Keep } else { zero };
        let convention = Convention { zero, ..convention };
        if p.iter().sum::<f64>() == 0.0 || q.iter().sum::<f64>() == 0.0 {
            return Ok(Answer::value(f64::NAN, convention.into()));
        }
        return Ok(Answer::value(convention.of_shares(p, q), convention.into()));
    }
    if let Some(counts) = input.given_counts() {
        return Ok(Answer::value(convention.of(&counts.reference, &counts.current), convention.into()));
    }
    let numeric = evidently::kind(params)?.unwrap_or(true);
    let rules = [("baseline", Edges::Baseline), ("sturges", Edges::SturgesJoint), ("doane", Edges::DoaneReference)];
    let rule = params.word(&["edges", "bins"], &rules)?.unwrap_or(Edges::Baseline);
    let pair = input.pair_or_cells()?;
    if !numeric || !pair.reference.is_numeric() {
        let counts = pair.counts();
        let convention = Convention { edges: Edges::Categories, ..convention };
        return Ok(Answer::value(convention.of(&counts.reference, &counts.current), convention.into()));
    }
    let (reference, current) = pair.numbers()?;
    let (r, c) = (float::sorted(reference), float::sorted(current));
    let counts = match rule {
        Edges::Baseline => {
            let narrow = as_read(&r, &c)?;
            let edges: Vec<f64> = baseline::edges(&narrow).iter().map(|&e| f64::from(e)).collect();
            (right_closed(&r, &edges), right_closed(&c, &edges))
        }
        _ => {
            let joint = if rule == Edges::SturgesJoint { [reference, current].concat() } else { reference.to_vec() };
            let bins = if rule == Edges::SturgesJoint { Bins::Sturges } else { Bins::Doane };
            let edges = edges::edges(&joint, false, bins)?;
            let count = |sorted: &[f64]| {
                let mut counts = edges::histogram(sorted, &edges);
                counts.push(sorted.len() as f64 - counts.iter().sum::<f64>());
                counts
            };
            (count(&r), count(&c))
        }
    };
    let convention = Convention { edges: rule, ..convention };
    Ok(Answer::value(convention.of(&counts.0, &counts.1), convention.into()))
}

/// The sorted reference as devices read it, in 32 bits; an error where that would be other numbers.
fn as_read(reference: &[f64], current: &[f64]) -> Result<Vec<f32>, Refusal> {
    let outside = |v: &&f64| v.abs() > f64::from(f32::MAX);
    if let Some(v) = reference.iter().chain(current).find(outside) {
        return Err(Refusal::input(format!(
            "{v:e} is beyond the 32-bit numbers that baselines are cut in, at most {:e}; scale the values, or use edges sturges",
            f32::MAX
        )));
    }
    let narrow: Vec<f32> = reference.iter().map(|&v| v as f32).collect();
    if reference.first() != reference.last() && narrow.first() == narrow.last() {
        return Err(Refusal::input(
            "the reference's values are all the same as 32-bit numbers, which baselines are cut in; shift and scale the values, \
             or use edges sturges",
        ));
    }
    Ok(narrow)
}

/// Counts in (edge, next], the outer cells without end.
fn right_closed(sorted: &[f64], edges: &[f64]) -> Vec<f64> {
    let ends = edges.iter().map(|&e| float::at_most(sorted, e)).chain([sorted.len()]);
    let mut from = 0;
    ends.map(|to| {
        let count = (to - from) as f64;
        from = to;
        count
    })
    .collect()
}
