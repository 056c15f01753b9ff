//! What a person calls an image in a registry: parsed once; and the name banger gives the result.

use std::str::FromStr;

use banger_proto::failure::{Classified, Kind};
use banger_proto::names::ImageName;
use oci_client::Reference;

/// A reference that means nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidReference {
    /// Not `[registry/]repository[:tag][@digest]`.
    #[error("{text:?} is no image reference: {reason}")]
    Malformed {
        /// As given.
        text: String,
        /// What is wrong.
        reason: String,
    },
    /// No name can be made of it.
    #[error("no name for the image follows from {text:?}")]
    NoName {
        /// As given.
        text: String,
    },
}

impl Classified for InvalidReference {
    fn kind(&self) -> Kind {
        Kind::Usage
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Malformed { .. } => {
                vec!["Write it as in `banger image pull docker.io/library/debian:bookworm`.".to_owned()]
            }
            Self::NoName { .. } => vec!["Choose a name with `--name NAME`.".to_owned()],
        }
    }
}

/// `[registry/]repository[:tag][@digest]`; docker.io and the tag `latest` are understood.
///
/// # Errors
/// [`InvalidReference::Malformed`].
pub fn parse(text: &str) -> Result<Reference, InvalidReference> {
    Reference::from_str(text)
        .map_err(|error| InvalidReference::Malformed { text: text.to_owned(), reason: error.to_string() })
}

/// `docker.io/library/debian:bookworm` → `debian-bookworm`; a tag `latest` and a digest say nothing.
///
/// # Errors
/// [`InvalidReference::NoName`].
pub fn derive_name(text: &str) -> Result<ImageName, InvalidReference> {
    let no_name = || InvalidReference::NoName { text: text.to_owned() };
    let without_digest = text.split('@').next().unwrap_or(text);
    let last = without_digest.rsplit('/').next().unwrap_or(without_digest);
    let (repository, tag) = last.split_once(':').unwrap_or((last, ""));
    let whole = if tag.is_empty() || tag == "latest" { repository.to_owned() } else { format!("{repository}-{tag}") };
    let mut name = String::new();
    for character in whole.to_ascii_lowercase().chars() {
        match character {
            'a'..='z' | '0'..='9' | '.' => name.push(character),
            _ if !name.ends_with('-') => name.push('-'),
            _ => {}
        }
    }
    name.trim_matches(|edge: char| !edge.is_ascii_alphanumeric()).parse().map_err(|_| no_name())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_name_follows_from_repository_and_tag() {
        let digest = format!("localhost:5000/a/tool@sha256:{}", "0".repeat(64));
        for (text, name) in [
            ("docker.io/library/debian:bookworm", "debian-bookworm"),
            ("busybox", "busybox"),
            ("localhost:5000/team/My_App:latest", "my-app"),
            ("alpine:3.20", "alpine-3.20"),
            (digest.as_str(), "tool"),
        ] {
            assert_eq!(derive_name(text).unwrap().as_str(), name, "{text}");
        }
    }

    #[test]
    fn what_is_no_reference_is_refused_with_an_example() {
        for text in ["", "a b", "x:", "../x", "a@sha256:12"] {
            let error = parse(text).unwrap_err();
            assert_eq!(error.kind(), Kind::Usage, "{text}");
            assert!(error.hints()[0].contains("banger image pull"));
        }
    }
}
