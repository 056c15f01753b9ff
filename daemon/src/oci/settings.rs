//! What the administrator says about registries: `registries.toml` in the configuration directory.
//!
//! ```toml
//! [registry."docker.io"]
//! mirrors = ["mirror.example:5000"]      # tried in this order before the registry itself
//! [registry."mirror.example:5000"]
//! plain_http = true                      # no TLS; loopback addresses need not be named
//! ca = "/etc/ssl/mirror.pem"             # trusted besides the system's authorities
//! ```
//! Credentials never stand here; the command line sends them with the request.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use banger_proto::failure::{Classified, Kind};
use serde::Deserialize;

const FILE: &str = "registries.toml";

/// All of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    #[serde(default)]
    registry: BTreeMap<String, RegistrySettings>,
}

/// About one registry, by host and port.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegistrySettings {
    /// Other registries with the same content.
    #[serde(default)]
    pub mirrors: Vec<String>,
    /// Without TLS.
    pub plain_http: Option<bool>,
    /// PEM file of a certificate authority.
    pub ca: Option<PathBuf>,
}

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// Cannot be read.
    #[error("cannot read the registries' settings {path}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// Not what the format asks for.
    #[error("the registries' settings {path} are malformed", path = path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: toml::de::Error,
    },
}

impl Classified for SettingsError {
    fn kind(&self) -> Kind {
        match self {
            Self::Read { .. } => Kind::Failed,
            Self::Malformed { .. } => Kind::Usage,
        }
    }

    fn hints(&self) -> Vec<String> {
        let (Self::Read { path, .. } | Self::Malformed { path, .. }) = self;
        vec![format!("Correct it, or do without it: `mv {0} {0}.off`.", path.display())]
    }
}

impl Settings {
    /// What `<config>/registries.toml` says; nothing if there is no such file.
    ///
    /// # Errors
    /// If the file exists and is unreadable or malformed.
    pub fn load(config: &Path) -> Result<Self, SettingsError> {
        let path = config.join(FILE);
        match std::fs::read_to_string(&path) {
            Ok(text) => toml::from_str(&text).map_err(|source| SettingsError::Malformed { path, source }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(source) => Err(SettingsError::Read { path, source }),
        }
    }

    /// Where to look for what `registry` holds: its mirrors, then itself.
    pub fn hosts(&self, registry: &str) -> Vec<String> {
        let mut hosts = self.registry.get(registry).map(|found| found.mirrors.clone()).unwrap_or_default();
        hosts.push(registry.to_owned());
        hosts
    }

    /// Whether `host` is spoken to without TLS: as set, else only on loopback.
    pub fn is_plain(&self, host: &str) -> bool {
        self.registry.get(host).and_then(|found| found.plain_http).unwrap_or_else(|| is_loopback(host))
    }

    /// The authority trusted for `host` besides the system's.
    pub fn ca(&self, host: &str) -> Option<&Path> {
        self.registry.get(host)?.ca.as_deref()
    }
}

fn is_loopback(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    bare == "localhost" || bare.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_is_plain_by_itself() {
        let settings = Settings::default();
        for host in ["localhost", "localhost:5000", "127.0.0.1:5000", "127.8.0.1", "[::1]:5000"] {
            assert!(settings.is_plain(host), "{host}");
        }
        for host in ["docker.io", "192.168.1.1:5000", "localhost.example:5000", "128.0.0.1"] {
            assert!(!settings.is_plain(host), "{host}");
        }
    }

    #[test]
    fn mirrors_come_before_the_registry_itself() {
        let directory = tempfile::tempdir().unwrap();
        let text =
            "[registry.\"docker.io\"]\nmirrors = [\"m:1\"]\n[registry.\"m:1\"]\nplain_http = true\nca = \"/x\"\n";
        std::fs::write(directory.path().join(FILE), text).unwrap();
        let settings = Settings::load(directory.path()).unwrap();
        assert_eq!(settings.hosts("docker.io"), ["m:1", "docker.io"]);
        assert_eq!(settings.hosts("quay.io"), ["quay.io"]);
        assert!(settings.is_plain("m:1") && settings.ca("m:1") == Some(Path::new("/x")));
        std::fs::write(directory.path().join(FILE), "[registry.x]\ninsecure = true\n").unwrap();
        assert_eq!(Settings::load(directory.path()).unwrap_err().kind(), Kind::Usage);
    }
}
