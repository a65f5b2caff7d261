//! Spans of time and sizes in podman's words.

/// `2 minutes`, as podman rounds it.
pub(crate) fn span(seconds: i64) -> String {
    let seconds = seconds.max(0);
    let (amount, unit) = match seconds {
        0 => return "Less than a second".to_owned(),
        1 => return "1 second".to_owned(),
        2..60 => (seconds, "seconds"),
        60..120 => return "About a minute".to_owned(),
        120..3600 => (seconds / 60, "minutes"),
        3600..7200 => return "About an hour".to_owned(),
        7200..172_800 => (seconds / 3600, "hours"),
        172_800..1_209_600 => (seconds / 86_400, "days"),
        1_209_600..5_184_000 => (seconds / 604_800, "weeks"),
        5_184_000..63_072_000 => (seconds / 2_592_000, "months"),
        _ => (seconds / 31_536_000, "years"),
    };
    format!("{amount} {unit}")
}

/// A size with decimal units and three digits: `4.86 MB`.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    let mut amount = bytes as f64;
    let mut unit = 0;
    while amount >= 1000.0 && unit + 1 < UNITS.len() {
        amount /= 1000.0;
        unit += 1;
    }
    let digits = match amount {
        _ if unit == 0 => 0,
        amount if amount >= 100.0 => 0,
        amount if amount >= 10.0 => 1,
        _ => 2,
    };
    format!("{amount:.digits$} {}", UNITS[unit])
}

/// RFC 3339 of nanoseconds since 1970, in UTC.
pub(crate) fn rfc3339(ns: i64) -> String {
    jiff::Timestamp::from_nanosecond(ns.into()).map_or_else(|_| String::new(), |time| time.to_string())
}

/// The same in Go's own form, as podman's lists have it.
pub(crate) fn go(ns: i64) -> String {
    let time = jiff::Timestamp::from_nanosecond(ns.into());
    time.map_or_else(|_| String::new(), |time| time.strftime("%Y-%m-%d %H:%M:%S%.f +0000 UTC").to_string())
}

/// Nanoseconds since 1970.
pub(crate) fn now_ns() -> i64 {
    i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_podmans() {
        assert_eq!(go(1_795_453_704_937_988_301), "2026-11-23 17:08:24.937988301 +0000 UTC");
        assert_eq!(rfc3339(1_795_453_704_937_988_301), "2026-11-23T17:08:24.937988301Z");
    }

    #[test]
    fn spans_and_sizes_are_podmans() {
        for (seconds, text) in [
            (0, "Less than a second"),
            (5, "5 seconds"),
            (90, "About a minute"),
            (600, "10 minutes"),
            (10_000, "2 hours"),
        ] {
            assert_eq!(span(seconds), text);
        }
        for (bytes, text) in [(5, "5 B"), (4_860_000, "4.86 MB"), (187_000_000, "187 MB"), (12_345, "12.3 kB")] {
            assert_eq!(size(bytes), text);
        }
    }
}
