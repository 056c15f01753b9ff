//! The two services, through `systemctl`.

use std::collections::BTreeMap;

use banger_proto::failure::{Classified, Kind};

use super::host::{AskError, Host};

/// systemd did not do it.
#[derive(Debug, thiserror::Error)]
#[error("cannot {attempt}")]
pub struct ServiceError {
    attempt: String,
    units: Vec<String>,
    source: AskError,
}

impl Classified for ServiceError {
    fn kind(&self) -> Kind {
        Kind::Failed
    }

    fn hints(&self) -> Vec<String> {
        self.units.iter().map(|unit| format!("See why with `journalctl -u {unit} -n 50`.")).collect()
    }
}

/// What systemd says of a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// "active", "failed", "inactive", "activating", "unknown" …
    pub state: String,
    /// Its process; 0 if there is none.
    pub pid: u32,
    /// How often systemd has started it again by itself.
    pub restarts: u32,
    /// It starts with the host.
    pub is_enabled: bool,
}

/// A verb on units.
///
/// # Errors
/// [`ServiceError`].
pub fn systemctl(host: &Host, verb: &[&str], units: &[&str]) -> Result<(), ServiceError> {
    let arguments: Vec<&str> = verb.iter().chain(units).copied().collect();
    host.ask("systemctl", &arguments).map(|_| ()).map_err(|source| ServiceError {
        attempt: format!("{} {}", verb.first().copied().unwrap_or_default(), units.join(" and ")).trim_end().to_owned(),
        units: units.iter().map(|unit| (*unit).to_owned()).collect(),
        source,
    })
}

/// What systemd says of a unit; "unknown" where it says nothing.
pub fn observe(host: &Host, unit: &str) -> Observed {
    let properties = "--property=ActiveState,MainPID,NRestarts,UnitFileState";
    parse(&host.ask("systemctl", &["show", properties, unit]).unwrap_or_default())
}

fn parse(text: &str) -> Observed {
    let values: BTreeMap<&str, &str> = text.lines().filter_map(|line| line.split_once('=')).collect();
    let number = |key: &str| values.get(key).and_then(|value| value.parse().ok()).unwrap_or(0);
    Observed {
        state: (*values.get("ActiveState").unwrap_or(&"unknown")).to_owned(),
        pid: number("MainPID"),
        restarts: number("NRestarts"),
        is_enabled: values.get("UnitFileState") == Some(&"enabled"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_is_told_by_four_properties() {
        let active = parse("ActiveState=active\nMainPID=7\nNRestarts=2\nUnitFileState=enabled\n");
        assert_eq!(active, Observed { state: "active".into(), pid: 7, restarts: 2, is_enabled: true });
        assert_eq!(parse(""), Observed { state: "unknown".into(), pid: 0, restarts: 0, is_enabled: false });
    }
}
