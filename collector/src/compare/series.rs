//! Detectors on one series: parameters in, positions of detections out.

use super::input::Input;
use super::params::Params;
use super::river::{Adwin, AdwinSettings, Mode, PageHinkley, PageHinkleySettings, detections};
use super::scipy::joint;
use super::stated::Stated;
use super::{Answer, Figure, Metric, Refusal};

/// What river has.
pub const METRICS: &[Metric] = &[Metric::Adwin, Metric::PageHinkley];

/// Answers as river. Two samples are one series, the reference first.
pub fn answer(metric: Metric, input: &Input, params: &Params<'_>) -> Result<Answer, Refusal> {
    let found = |indices, formula: &str| Answer {
        figures: vec![("detections", Figure::Indices(indices))],
        stated: Stated::raw(formula),
    };
    if metric == Metric::Adwin {
        let mut detector = Adwin::new(adwin(params)?)?;
        let series = series(input)?;
        let indices = detections(&series, |x| detector.update(x));
        if detector.undefined() {
            return Err(Refusal::peer("river divides by zero: with max_buckets 1 it compares the window with nothing"));
        }
        return Ok(found(indices, "ADWIN, starting over after each detection"));
    }
    let mut detector = PageHinkley::new(page_hinkley(params)?);
    let series = series(input)?;
    Ok(found(detections(&series, |x| detector.update(x)), "Page-Hinkley, starting over after each detection"))
}

fn series(input: &Input) -> Result<Vec<f64>, Refusal> {
    match (&input.series, &input.pair) {
        (Some(series), _) => Ok(series.numbers()?.0.to_vec()),
        (None, Some(pair)) => Ok(joint(pair)?.0),
        (None, None) => Err(Refusal::input("this metric needs the series x")),
    }
}

fn adwin(params: &Params<'_>) -> Result<AdwinSettings, Refusal> {
    let own = AdwinSettings::default();
    Ok(AdwinSettings {
        delta: params.number(&["delta"])?.unwrap_or(own.delta),
        clock: params.whole(&["clock"])?.unwrap_or(own.clock),
        max_buckets: params
            .whole(&["max_buckets"])?
            .map_or(own.max_buckets, |n| usize::try_from(n).unwrap_or(usize::MAX)),
        min_window_length: params.whole(&["min_window_length"])?.map_or(own.min_window_length, |n| n as f64),
        grace_period: params.whole(&["grace_period"])?.map_or(own.grace_period, |n| n as f64),
    })
}

fn page_hinkley(params: &Params<'_>) -> Result<PageHinkleySettings, Refusal> {
    let own = PageHinkleySettings::default();
    let modes = [("up", Mode::Up), ("down", Mode::Down), ("both", Mode::Both)];
    Ok(PageHinkleySettings {
        min_instances: params.whole(&["min_instances"])?.map_or(own.min_instances, |n| n as f64),
        delta: params.number(&["delta"])?.unwrap_or(own.delta),
        threshold: params.number(&["threshold", "lambda_", "lambda"])?.unwrap_or(own.threshold),
        alpha: params.number(&["alpha"])?.unwrap_or(own.alpha),
        mode: params.word(&["mode"], &modes)?.unwrap_or(own.mode),
    })
}
