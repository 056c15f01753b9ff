//! `~/.config/banger/config.toml`: every key optional, unknown keys refused with their position.
//! Only the CLI reads it: what the daemon needs of it travels in requests. [`file_sync`] is one of its tables.

pub mod file_sync;

use std::io;
use std::path::{Path, PathBuf};

use banger_proto::failure::{Classified, Kind};
use banger_proto::names::ImageName;
use banger_proto::size::MiB;
use banger_sync::files::Wanted;
use serde::{Deserialize, Deserializer};

/// The image of a VM for which none is named.
pub const DEFAULT_IMAGE: &str = "debian-bookworm";

/// The user's configuration.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// Image of a VM for which none is named.
    pub default_image: Option<ImageName>,
    /// Sizes of a VM for which none are given.
    pub vm_defaults: VmDefaults,
    /// Files every guest gets.
    pub file_sync: Vec<Wanted>,
}

/// The file as it is written: what needs more than its own words to be checked is still raw.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default, deserialize_with = "image_name")]
    default_image: Option<ImageName>,
    #[serde(default)]
    vm_defaults: VmDefaults,
    #[serde(default)]
    file_sync: Vec<file_sync::Table>,
}

/// Sizes of a VM for which none are given.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VmDefaults {
    /// Virtual CPUs.
    #[serde(default, deserialize_with = "vcpu")]
    pub vcpu: Option<u32>,
    /// Memory: a number of MiB or a text like "4G".
    #[serde(default, deserialize_with = "size")]
    pub memory: Option<MiB>,
    /// Work disk: a number of MiB or a text like "16G".
    #[serde(default, deserialize_with = "size")]
    pub disk_size: Option<MiB>,
}

/// Why the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It cannot be read.
    #[error("cannot read the configuration {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// It says something that is not understood.
    #[error("cannot use the configuration {}: {place}{key}: {message}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// "line 3, column 10: " or empty.
        place: String,
        /// The key, in backticks.
        key: String,
        /// What is wrong.
        message: String,
    },
    /// An entry of `[[file_sync]]` means something that cannot be.
    #[error("cannot use the configuration {}: [[file_sync]] entry {entry}: {problem}", path.display())]
    FileSync {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        entry: usize,
        /// A clause.
        problem: String,
    },
}

impl Classified for ConfigError {
    fn kind(&self) -> Kind {
        match self {
            Self::Read { .. } => Kind::HostNotReady,
            Self::Parse { .. } | Self::FileSync { .. } => Kind::Usage,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Read { path, .. } => vec![format!("Check `ls -l {}`.", path.display())],
            Self::Parse { .. } => vec!["See every key with `banger --help`, section Configuration.".into()],
            Self::FileSync { .. } => vec![
                "Write `host = \"~/…\"` for a file in your home, `guest = \"~/…\"` for its place in root's, `mode = \"0600\"`.".into(),
            ],
        }
    }
}

impl Config {
    /// Reads the file of whoever has this `home`; a missing one is an empty one.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn load(path: &Path, home: Option<&Path>) -> Result<Self, ConfigError> {
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(path, &text, home),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(source) => Err(ConfigError::Read { path: path.to_owned(), source }),
        }
    }

    fn parse(path: &Path, text: &str, home: Option<&Path>) -> Result<Self, ConfigError> {
        let Written { default_image, vm_defaults, file_sync } = toml::from_str(text).map_err(|error| {
            let start = error.span().map(|span| span.start);
            ConfigError::Parse {
                path: path.to_owned(),
                place: start.map(|start| place(text, start)).unwrap_or_default(),
                key: start.and_then(|start| key_at(text, start)).unwrap_or_else(|| "syntax".into()),
                message: error.message().to_owned(),
            }
        })?;
        let file_sync = file_sync::parse(file_sync, home).map_err(|(entry, problem)| ConfigError::FileSync {
            path: path.to_owned(),
            entry,
            problem,
        })?;
        Ok(Self { default_image, vm_defaults, file_sync })
    }

    /// Name of the default image.
    pub fn default_image(&self) -> &str {
        self.default_image.as_ref().map_or(DEFAULT_IMAGE, ImageName::as_str)
    }
}

fn place(text: &str, start: usize) -> String {
    let before = &text[..start.min(text.len())];
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |line| line.chars().count()) + 1;
    format!("line {line}, column {column}: ")
}

/// The dotted key of the line a byte offset lies in.
fn key_at(text: &str, start: usize) -> Option<String> {
    let start = start.min(text.len());
    let line_start = text[..start].rfind('\n').map_or(0, |newline| newline + 1);
    let line = text[line_start..].lines().next()?;
    let table = text[..line_start].lines().rev().find_map(|line| {
        let line = line.trim();
        let name = line.strip_prefix("[[").or_else(|| line.strip_prefix('['))?.split(']').next()?;
        Some(name.trim().to_owned())
    });
    let (name, _) = line.split_once('=')?;
    let name = name.trim();
    Some(match table {
        Some(table) => format!("`{table}.{name}`"),
        None => format!("`{name}`"),
    })
}

fn image_name<'de, D: Deserializer<'de>>(from: D) -> Result<Option<ImageName>, D::Error> {
    let text = String::deserialize(from)?;
    text.parse().map(Some).map_err(serde::de::Error::custom)
}

fn vcpu<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u32>, D::Error> {
    match u32::deserialize(from)? {
        count @ 1..=crate::args::MAX_VCPU => Ok(Some(count)),
        count => Err(serde::de::Error::custom(format!("{count} is not between 1 and {}", crate::args::MAX_VCPU))),
    }
}

fn size<'de, D: Deserializer<'de>>(from: D) -> Result<Option<MiB>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "a size is a whole number of MiB or a text like \"4G\"")]
    enum Spelling {
        Number(u64),
        Text(String),
    }
    let parsed = match Spelling::deserialize(from)? {
        Spelling::Number(mebibytes) => MiB::new(mebibytes),
        Spelling::Text(text) => text.parse(),
    };
    parsed.map(Some).map_err(serde::de::Error::custom)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, String> {
        Config::parse(Path::new("/c/config.toml"), text, Some(Path::new("/home/me"))).map_err(|error| error.to_string())
    }

    #[test]
    fn every_key_is_optional() {
        let config = parse("").unwrap();
        assert_eq!(config.default_image(), "debian-bookworm");
        let config =
            parse("default_image = \"alpine\"\n[vm_defaults]\nvcpu = 2\nmemory = \"4G\"\ndisk_size = 512\n").unwrap();
        assert_eq!(config.default_image(), "alpine");
        assert_eq!(config.vm_defaults.vcpu, Some(2));
        assert_eq!(config.vm_defaults.memory.unwrap().get(), 4096);
        assert_eq!(config.vm_defaults.disk_size.unwrap().get(), 512);
    }

    #[test]
    fn errors_name_file_key_and_position() {
        for (text, wanted) in [
            ("default_imgae = \"x\"", "/c/config.toml: line 1, column 1: `default_imgae`"),
            (
                "[vm_defaults]\nmemory = \"4X\"",
                "/c/config.toml: line 2, column 10: `vm_defaults.memory`: \"4X\" is not a size",
            ),
            ("[vm_defaults]\nmemory = true", "`vm_defaults.memory`: a size is a whole number"),
            ("[vm_defaults]\nvcpu = 0", "line 2, column 8: `vm_defaults.vcpu`: 0 is not between 1 and"),
            ("default_image = \"../x\"", "`default_image`: \"../x\" is not a valid image name"),
            ("= 3", "line 1, column 1"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(wanted), "{text}: {error}");
        }
    }

    #[test]
    fn an_entry_of_file_sync_is_named_by_its_number() {
        let good = "[[file_sync]]\nhost = \"~/.netrc\"\nguest = \"~/.netrc\"\n";
        assert_eq!(parse(good).unwrap().file_sync.len(), 1);
        let bad = format!("{good}[[file_sync]]\nhost = \"/etc/shadow\"\nguest = \"~/shadow\"\n");
        let error = Config::parse(Path::new("/c/config.toml"), &bad, Some(Path::new("/home/me"))).unwrap_err();
        assert_eq!(error.kind(), Kind::Usage);
        assert!(error.to_string().contains("/c/config.toml: [[file_sync]] entry 2: `host` \"/etc/shadow\" is outside"));
        assert!(error.hints()[0].contains("host ="), "{:?}", error.hints());
        let error = parse(&format!("{good}owner = \"me\"\n")).unwrap_err();
        assert!(error.contains("line 4") && error.contains("`file_sync.owner`"), "{error}");
        let error = parse("[[file_sync]]\nhost = \"~/a\"\n").unwrap_err();
        assert!(error.contains("guest"), "{error}");
    }
}
