//! Moments and durations. The clock is passed in, so that rendering stays pure.

use jiff::Timestamp;

/// RFC 3339 in UTC with milliseconds; nothing for 0, which means "never" on the wire.
pub fn rfc3339(unix_ms: i64) -> Option<String> {
    if unix_ms == 0 {
        return None;
    }
    Timestamp::from_millisecond(unix_ms).ok().map(|moment| format!("{moment:.3}"))
}

/// How long ago, in one unit.
pub fn ago(unix_ms: i64, now_ms: i64) -> String {
    if unix_ms == 0 {
        return "-".into();
    }
    let seconds = now_ms.saturating_sub(unix_ms).max(0) / 1000;
    match seconds {
        0..60 => format!("{seconds}s ago"),
        60..3600 => format!("{}m ago", seconds / 60),
        3600..86_400 => format!("{}h ago", seconds / 3600),
        _ => format!("{}d ago", seconds / 86_400),
    }
}

/// Milliseconds since 1970.
pub fn now_ms() -> i64 {
    Timestamp::now().as_millisecond()
}

/// A duration in seconds with one decimal.
pub fn seconds(elapsed: std::time::Duration) -> String {
    format!("{:.1} s", elapsed.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_render_the_same_everywhere() {
        assert_eq!(rfc3339(0), None);
        assert_eq!(rfc3339(1_700_000_000_123).as_deref(), Some("2023-11-14T22:13:20.123Z"));
        let now = 1_700_000_000_000;
        assert_eq!(ago(now - 5_000, now), "5s ago");
        assert_eq!(ago(now - 125_000, now), "2m ago");
        assert_eq!(ago(now - 7_300_000, now), "2h ago");
        assert_eq!(ago(now - 200_000_000, now), "2d ago");
        assert_eq!(ago(now + 5_000, now), "0s ago");
    }
}
