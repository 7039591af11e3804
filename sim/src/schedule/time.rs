//! Durations as text: exact, in the unit that suits a person.

use quorate_core::Duration;

/// The units that are printed, the longest first, in nanoseconds.
const PRINTED: [(&str, u64); 4] = [("s", 1_000_000_000), ("ms", 1_000_000), ("us", 1_000), ("ns", 1)];
/// The units that are understood besides.
const READ: [(&str, u64); 2] = [("h", 3_600_000_000_000), ("min", 60_000_000_000)];

/// Writes a duration as one exact decimal number with the longest unit that leaves something before the point, such
/// as `1.5s`, `200ms` or `50us`.
pub(super) fn write(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    let (unit, size) = PRINTED
        .into_iter()
        .find(|&(_, size)| nanos >= u128::from(size))
        .unwrap_or(PRINTED[0]);
    let (whole, rest) = (nanos / u128::from(size), nanos % u128::from(size));
    if rest == 0 {
        return format!("{whole}{unit}");
    }
    let digits = size.ilog10() as usize;
    let fraction = format!("{rest:0digits$}");
    format!("{whole}.{}{unit}", fraction.trim_end_matches('0'))
}

/// Reads what [`write`] writes, and any other exact decimal number with a unit; `None` if it is none, finer than a
/// nanosecond, or beyond centuries.
pub(super) fn read(text: &str) -> Option<Duration> {
    let unit_at = text.find(|c: char| c.is_ascii_alphabetic())?;
    let (number, unit) = text.split_at(unit_at);
    let (_, size) = PRINTED.into_iter().chain(READ).find(|&(name, _)| name == unit)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) {
        return None;
    }
    let fraction = fraction.trim_end_matches('0');
    // Nothing that comes to whole nanoseconds has more digits: an hour is 3.6 x 10^12 ns.
    if fraction.len() > 13 {
        return None;
    }
    let scale = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    let part = fraction.parse().unwrap_or(0_u128) * u128::from(size);
    if !part.is_multiple_of(scale) {
        return None;
    }
    let part = u64::try_from(part / scale).ok()?;
    let nanos = whole.parse::<u64>().ok()?.checked_mul(size)?.checked_add(part)?;
    Some(Duration::from_nanos(nanos))
}

#[cfg(test)]
mod tests {
    use super::*;
    use quickcheck::quickcheck;

    #[test]
    fn the_unit_suits() {
        let written = [
            0,
            1,
            999,
            1_000,
            1_500,
            50_000,
            1_000_001,
            200_000_000,
            1_500_000_000,
            120_000_000_000,
        ]
        .map(|nanos| write(Duration::from_nanos(nanos)));
        let expected = [
            "0s",
            "1ns",
            "999ns",
            "1us",
            "1.5us",
            "50us",
            "1.000001ms",
            "200ms",
            "1.5s",
            "120s",
        ];
        assert_eq!(written, expected);
    }

    #[test]
    fn people_may_write_it_in_other_ways() {
        let nanos = |text| read(text).map(|time| time.as_nanos());
        assert_eq!(nanos("2min"), Some(120_000_000_000));
        assert_eq!(nanos("0.25min"), Some(15_000_000_000));
        assert_eq!(nanos("1500ms"), Some(1_500_000_000));
        assert_eq!(nanos("1.50s"), Some(1_500_000_000));
        assert_eq!(nanos("24h"), Some(86_400_000_000_000));
        assert_eq!(nanos("0.000000001s"), Some(1));
        assert_eq!(nanos("584h"), Some(2_102_400_000_000_000));
    }

    #[test]
    fn what_is_no_time_is_refused() {
        let bad = [
            "",
            "s",
            "1",
            "1 s",
            "-1s",
            "+1s",
            "1.s",
            ".5s",
            "1.2.3s",
            "1e3s",
            "1S",
            "1sec",
            "0.5ns",
            "1.0000000001s",
            "1.00000000000000000000001h",
            "99999999999999999999s",
            "18446744074s",
            "5124096h",
            "\u{663}s",
            "1\u{b5}s",
        ];
        for text in bad {
            assert_eq!(read(text), None, "{text}");
        }
    }

    quickcheck! {
        fn every_duration_comes_back(nanos: u64) -> bool {
            [nanos, nanos % 10_000_000_000, nanos / 1_000_000 * 1_000_000]
                .map(Duration::from_nanos)
                .into_iter()
                .all(|time| read(&write(time)) == Some(time))
        }
    }
}
