//! Parses and writes times and sizes with their units.

use std::time::Duration;

/// Parses a number with a unit of time, such as `250ms`, `2.5s` or `2 min`.
pub(super) fn parse_time(text: &str) -> Option<Duration> {
    let (number, unit) = split(text)?;
    let unit = TIMES.iter().find(|(name, _)| *name == unit)?.1;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if fraction.is_empty() || fraction.len() > FRACTION_DIGITS {
        return None;
    }
    let whole: u128 = whole.parse().ok()?;
    let fraction: u128 = format!("{fraction:0<FRACTION_DIGITS$}").parse().ok()?;
    let nanos = whole.checked_mul(unit)?.checked_add(fraction * unit / SECOND)?;
    let seconds = u64::try_from(nanos / SECOND).ok()?;
    let below = u32::try_from(nanos % SECOND).ok()?;
    Some(Duration::new(seconds, below))
}

/// Returns the text of a time, in the largest unit that makes it a whole number.
pub(super) fn time_to_text(time: Duration) -> String {
    let nanos = time.as_nanos();
    let fits = |unit: &&(&str, u128)| nanos.is_multiple_of(unit.1);
    let (name, unit) = TIMES.iter().filter(|_| nanos > 0).find(fits).unwrap_or(&SECONDS);
    format!("{}{name}", nanos / unit)
}

/// Parses a whole number with a unit of size, such as `64KiB`.
pub(super) fn parse_size(text: &str) -> Option<i128> {
    let (number, unit) = split(text)?;
    let unit = SIZES.iter().find(|(name, _)| *name == unit)?.1;
    number.parse::<i128>().ok()?.checked_mul(unit)
}

/// Returns the text of a size in KiB, MiB or GiB, or `None` if it is not a whole number of KiB.
pub(super) fn size_to_text(bytes: i128) -> Option<String> {
    let (name, unit) = SIZES.iter().filter(|_| bytes > 0).find(|(_, unit)| bytes % unit == 0)?;
    Some(format!("{}{name}", bytes / unit))
}

/// Splits a text into its number and its unit.
fn split(text: &str) -> Option<(&str, &str)> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, unit) = text.split_at(unit_at);
    Some((number, unit.trim_start()))
}

/// A second in nanoseconds.
const SECOND: u128 = 1_000_000_000;
const SECONDS: (&str, u128) = ("s", SECOND);
/// The units of time in nanoseconds, from the largest.
const TIMES: &[(&str, u128)] =
    &[("h", 3_600 * SECOND), ("min", 60 * SECOND), SECONDS, ("ms", 1_000_000), ("us", 1_000), ("ns", 1)];
/// The units of size in bytes, from the largest.
const SIZES: &[(&str, i128)] = &[("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
/// Maximum number of digits after the point. A second in nanoseconds has as many zeros.
const FRACTION_DIGITS: usize = 9;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_time_is_a_number_and_a_unit() {
        let read = |text: &str| parse_time(text).map(|time| time.as_nanos());

        assert_eq!(read("250ms"), Some(250_000_000));
        assert_eq!(read("2 min"), Some(120 * SECOND));
        assert_eq!(read("1.5h"), Some(5_400 * SECOND));
        assert_eq!(read("0s"), Some(0));
        for wrong in ["", "5", "s", "5 parsecs", "-5s", "1.s", ".5s", "1.2.3s", "5s 3ms", "0.0000000001s"] {
            assert_eq!(read(wrong), None, "{wrong:?}");
        }
        assert_eq!(read(&format!("{}h", u128::MAX)), None);
        assert_eq!(read("99999999999999999999h"), None);
    }

    #[test]
    fn a_size_is_a_whole_number_and_a_unit() {
        assert_eq!(parse_size("64KiB"), Some(65_536));
        assert_eq!(parse_size("3 MiB"), Some(3 << 20));
        for wrong in ["", "64", "KiB", "1.5KiB", "64KB", "-1KiB"] {
            assert_eq!(parse_size(wrong), None, "{wrong:?}");
        }
        assert_eq!(parse_size(&format!("{}GiB", i128::MAX)), None);
        assert_eq!(size_to_text(262_144).as_deref(), Some("256KiB"));
        assert_eq!(size_to_text(0), None);
        assert_eq!(size_to_text(1_000), None);
    }

    proptest! {
        #[test]
        fn the_text_of_a_time_is_the_same_time(time: Duration) {
            prop_assert_eq!(parse_time(&time_to_text(time)), Some(time));
        }
    }
}
