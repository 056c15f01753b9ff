//! net.ipv4.ip_forward, read and written.

use std::fs;

use crate::error::{Step, step};
use crate::request::Switch;

const FILE: &str = "/proc/sys/net/ipv4/ip_forward";

/// True if the host forwards.
pub fn is_on() -> Step<bool> {
    fs::read_to_string(FILE).map(|text| text.trim() != "0").map_err(step(format!("read {FILE}")))
}

/// Makes it so; writes only what differs, because a write resets other settings of every interface.
pub fn set(forwarding: Switch) -> Step<()> {
    let wanted = forwarding == Switch::On;
    if is_on()? == wanted {
        return Ok(());
    }
    fs::write(FILE, if wanted { "1" } else { "0" }).map_err(step(format!("write {FILE}")))
}
