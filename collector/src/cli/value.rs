//! What options may say, and a sentence for what they may not.

use driftline_shared::manifest::Guard;

/// A number of standard deviations.
pub fn tolerance(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number: &f64| number.is_finite() && *number >= 0.0);
    number.ok_or_else(|| "give a finite number of at least 0".to_owned())
}

/// The same of one reading: `temp_c=0.5`.
pub fn tolerance_of(text: &str) -> Result<(String, f64), String> {
    let (name, number) = text.split_once('=').ok_or("write it as reading=sd, such as temp_c=0.5")?;
    Ok((name.to_owned(), tolerance(number)?))
}

/// The unit of a column: `temp_c=°C`.
pub fn unit(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write it as column=unit, such as temp_c=°C")?;
    Ok((key.to_owned(), value.to_owned()))
}

/// A policy by its name.
pub fn guard(text: &str) -> Result<Guard, String> {
    match text {
        "flag" => Ok(Guard::Flag),
        "hold" => Ok(Guard::Hold),
        "fallback" => Ok(Guard::Fallback),
        _ => Err("use flag, hold or fallback".into()),
    }
}

/// `500ms`, `60s`, `5min` or `1h` in milliseconds: the length of a window.
pub fn window_ms(text: &str) -> Result<u32, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let scale: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "min" | "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err("write a duration with its unit, such as 500ms, 60s, 5min or 1h".into()),
    };
    let ms = number.parse::<u64>().ok().and_then(|n| n.checked_mul(scale)).filter(|ms| (100..=86_400_000).contains(ms));
    ms.map(|ms| ms as u32).ok_or_else(|| "a window lasts 100ms to 24h".into())
}

/// Most samples of a window: a hundred a second for a day and some.
const WINDOW_SAMPLES_MAX: u32 = 10_000_000;

/// How many samples a window holds.
pub fn window_samples(text: &str) -> Result<u32, String> {
    let samples = text.parse().ok().filter(|samples| (1..=WINDOW_SAMPLES_MAX).contains(samples));
    samples.ok_or_else(|| format!("a window holds 1 to {WINDOW_SAMPLES_MAX} samples"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tolerance_is_a_finite_number_of_at_least_0() {
        for bad in ["nan", "inf", "-inf", "-0.1", "1e999", "much"] {
            assert!(tolerance(bad).is_err() && tolerance_of(&format!("temp_c={bad}")).is_err(), "{bad}");
        }
        assert_eq!((tolerance("0"), tolerance("0.25")), (Ok(0.0), Ok(0.25)));
        assert_eq!(tolerance_of("temp_c=0.5"), Ok(("temp_c".to_owned(), 0.5)));
        assert!(tolerance_of("0.5").unwrap_err().contains("reading=sd"));
    }

    #[test]
    fn a_window_holds_samples_that_can_come() {
        assert_eq!((window_samples("1"), window_samples("10000000")), (Ok(1), Ok(10_000_000)));
        for bad in ["0", "-1", "10000001", "4000000000", "many"] {
            assert!(window_samples(bad).is_err(), "{bad}");
        }
    }
}
