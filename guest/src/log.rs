//! One line to the kernel log, the only log there is before and beside the image's own.
//!
//! Failures use a level that also reaches the console under `quiet`. Never panics, never blocks:
//! a line that cannot be written is dropped.

use std::io::Write;

/// Something a person should see on the console.
pub fn failure(text: &str) {
    write(3, text);
}

/// A point every boot passes. On the console even under `quiet`, so that `vm logs` of a guest that went
/// silent shows how far it came.
pub fn landmark(text: &str) {
    write(3, text);
}

/// Something worth finding in `dmesg`.
pub fn note(text: &str) {
    write(6, text);
}

fn write(level: u8, text: &str) {
    let line = format!("<{level}>banger-guest: {}\n", text.replace('\n', " "));
    if let Ok(mut kmsg) = std::fs::OpenOptions::new().write(true).open("/dev/kmsg") {
        // One write is one record; the kernel cuts at about a thousand bytes.
        let _ = kmsg.write_all(line.as_bytes());
    }
}
