//! Numbers from /proc and statfs for the host's `status`.

use std::time::Duration;

use banger_proto::guest::v1::Stats;
use rustix::time::{ClockId, clock_gettime};

/// Milliseconds since power-on.
pub fn uptime_ms() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let nanoseconds = u32::try_from(now.tv_nsec).unwrap_or(0);
    u64::try_from(Duration::new(seconds, nanoseconds).as_millis()).unwrap_or(u64::MAX)
}

/// The state right now; what cannot be read is zero.
pub fn observe() -> Stats {
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    Stats {
        memory_total_kib: parse_meminfo(&memory, "MemTotal"),
        memory_available_kib: parse_meminfo(&memory, "MemAvailable"),
        root_free_kib: free_kib("/"),
        work_free_kib: free_kib("/root"),
        uptime_ms: uptime_ms(),
        load_average: load.split(' ').take(3).collect::<Vec<_>>().join(" "),
    }
}

fn parse_meminfo(text: &str, field: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.and_then(|rest| rest.split_whitespace().next()).and_then(|value| value.parse().ok()).unwrap_or(0)
}

fn free_kib(path: &str) -> u64 {
    rustix::fs::statvfs(path).map_or(0, |stat| stat.f_bavail.saturating_mul(stat.f_frsize) / 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meminfo_fields_are_found_by_their_whole_name() {
        let text = "MemTotal:        2030720 kB\nMemAvailable:    1800000 kB\nMemTotalX: 1 kB\n";
        assert_eq!(parse_meminfo(text, "MemTotal"), 2_030_720);
        assert_eq!(parse_meminfo(text, "MemAvailable"), 1_800_000);
        assert_eq!(parse_meminfo(text, "Absent"), 0);
    }
}
