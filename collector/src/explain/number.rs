//! Numbers, times and durations as people read them. No clock: what is "now" is an argument. Times are UTC and say so.

use super::{Lang, say};
use driftline_shared::units::WallMs;

/// A value with at most `digits` significant digits and no needless zeros; thousands separated.
pub fn significant(value: f64, digits: i32) -> String {
    if value == 0.0 || !value.is_finite() {
        return if value == 0.0 { "0".into() } else { "–".into() };
    }
    let magnitude = value.abs().log10().floor() as i32;
    if !(-4..15).contains(&magnitude) {
        return format!("{value:.*e}", (digits - 1).max(0) as usize);
    }
    let decimals = (digits - 1 - magnitude).max(0) as usize;
    let scale = 10f64.powi((magnitude + 1 - digits).max(0));
    let text = format!("{:.decimals$}", if scale > 1.0 { (value / scale).round() * scale } else { value });
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text };
    let (whole, fraction) = text.split_once('.').map_or((text.as_str(), None), |(w, f)| (w, Some(f)));
    let grouped = group(whole);
    fraction.map_or(grouped.clone(), |f| format!("{grouped}.{f}"))
}

/// Whole numbers with separated thousands.
pub fn count(n: u64) -> String {
    group(&n.to_string())
}

fn group(digits: &str) -> String {
    let (sign, digits) = digits.strip_prefix('-').map_or(("", digits), |rest| ("−", rest));
    let mut text = String::from(sign);
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(c);
    }
    text
}

/// A value and its unit.
pub fn with_unit(value: &str, unit: &str) -> String {
    match unit {
        "" => value.to_owned(),
        "%" => format!("{value} %"),
        _ => format!("{value} {unit}"),
    }
}

/// A signed change with its unit: `+6.1 °C`.
pub fn change(value: f64, unit: &str) -> String {
    let sign = if value < 0.0 { "−" } else { "+" };
    with_unit(&format!("{sign}{}", significant(value.abs(), 2)), unit)
}

/// A share of 0..1 as whole percent; what is not nothing is never shown as 0.
pub fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if percent > 0.0 && percent < 1.0 { "<1%".into() } else { format!("{percent:.0}%") }
}

/// A duration in at most two units.
pub fn duration(lang: Lang, ms: u64) -> String {
    let s = ms / 1000;
    let one = |n: u64, unit: &str| say(lang, unit, &[("count", &n.to_string())]);
    let two = |n: u64, unit: &str, m: u64, smaller: &str| {
        if m == 0 { one(n, unit) } else { format!("{} {}", one(n, unit), one(m, smaller)) }
    };
    match s {
        0..60 => one(s, "unit-s"),
        60..3_600 => two(s / 60, "unit-min", if s < 600 { s % 60 } else { 0 }, "unit-s"),
        3_600..86_400 => two(s / 3_600, "unit-h", s % 3_600 / 60, "unit-min"),
        _ => two(s / 86_400, "unit-d", s % 86_400 / 3_600, "unit-h"),
    }
}

/// When something was, as a time of day (with the date when it was another day) and how long ago.
pub fn when(lang: Lang, at: WallMs, now: WallMs) -> String {
    let day = |t: WallMs| t.0 / 86_400_000;
    let clock = clock(at);
    let ago = duration(lang, now.0.saturating_sub(at.0));
    let id = if day(at) == day(now) { "when-today" } else { "when-earlier" };
    say(lang, id, &[("date", &date(at)), ("clock", &clock), ("ago", &ago)])
}

/// `09:40:05` UTC.
pub fn clock(at: WallMs) -> String {
    let s = at.0 / 1000 % 86_400;
    format!("{:02}:{:02}:{:02}", s / 3_600, s / 60 % 60, s % 60)
}

/// `2026-11-23`, by the civil-from-days algorithm (Hinnant 2013).
pub fn date(at: WallMs) -> String {
    let days = (at.0 / 86_400_000) as i64 + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_true() {
        for (value, digits, text) in [
            (6.04, 2, "6"),
            (6.14, 2, "6.1"),
            (61.27, 3, "61.3"),
            (0.0123, 2, "0.012"),
            (1234.0, 2, "1,200"),
            (123_456.0, 3, "123,000"),
            (-2.0, 2, "−2"),
            (0.0, 2, "0"),
            (1.0e-9, 2, "1.0e-9"),
        ] {
            assert_eq!(significant(value, digits), text, "{value}");
        }
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(change(6.04, "°C"), "+6 °C");
        assert_eq!(percent(0.004), "<1%");
    }

    #[test]
    fn times_are_read_as_written() {
        // date -u -d @1795300000 gives Sat Nov 21 22:26:40 2026.
        let at = WallMs(1_795_300_000_000);
        assert_eq!(date(at), "2026-11-21");
        assert_eq!(clock(at), "22:26:40");
        assert_eq!(when(Lang::En, at, WallMs(at.0 + 25_000)), "Today 22:26:40 UTC (25 s ago)");
        assert_eq!(duration(Lang::En, 11_520_000), "3 h 12 min");
        assert_eq!(duration(Lang::Ko, 90_000), "1분 30초");
    }
}
