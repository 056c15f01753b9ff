//! What commands show: tables and sentences for people, serde structs with stable keys for programs
//! (docs/cli.md, "JSON"). Pure: every function turns messages into text or values, none prints.

pub mod doctor;
pub mod event;
pub mod files;
pub mod follow;
pub mod image;
pub mod install;
pub mod kernel;
pub mod outcome;
pub mod ports;
pub mod table;
pub mod time;
pub mod version;
pub mod vm;
pub mod workspace;

/// The text, or nothing if it is empty: empty means absent on the wire.
pub(crate) fn non_empty(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

/// A count of bytes with one decimal.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut scaled = count as f64;
    let mut unit = 0;
    while scaled >= 1024.0 && unit + 1 < UNITS.len() {
        scaled /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{count} B") } else { format!("{scaled:.1} {}", UNITS[unit]) }
}

/// MiB as people say them.
pub fn mebibytes(count: u64) -> String {
    banger_proto::size::MiB::new(count).map_or_else(|_| format!("{count} MiB"), |size| size.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_naturally() {
        assert_eq!((bytes(0), bytes(1023), bytes(1536)), ("0 B".into(), "1023 B".into(), "1.5 KiB".into()));
        assert_eq!(bytes(3 << 30), "3.0 GiB");
        assert_eq!((mebibytes(2048), mebibytes(700), mebibytes(0)), ("2 GiB".into(), "700 MiB".into(), "0 MiB".into()));
    }
}
