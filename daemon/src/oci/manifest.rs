//! Manifests, indexes and configurations: bytes become the little of them that matters. Pure.
//!
//! Docker's and OCI's forms differ in media types only. Unknown fields are ignored, sizes and digests are
//! checked, lists are bounded.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::digest::{Digest, InvalidDigest};

/// Media types asked for.
pub const ACCEPTED: [&str; 4] = [
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
];
/// Manifests and configurations have at most this many bytes.
pub const MOST_BYTES: u64 = 8 << 20;
const MOST_LAYERS: usize = 512;
/// Compressed bytes of one layer.
const MOST_LAYER_BYTES: u64 = 32 << 30;

/// Why a document cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Not JSON, or not of the expected shape.
    #[error("the {what} is malformed")]
    Malformed {
        /// "manifest", "configuration" …
        what: &'static str,
        /// The cause.
        source: serde_json::Error,
    },
    /// Neither a manifest nor an index.
    #[error("the manifest is neither one of an image nor an index of images")]
    Neither,
    /// A digest of another kind.
    #[error("the manifest contains an unusable digest")]
    Digest(#[from] InvalidDigest),
    /// A size that cannot be.
    #[error("the {what} {digest} claims {size} bytes; at most {most} are accepted")]
    Size {
        /// "layer", "configuration".
        what: &'static str,
        /// Which.
        digest: Digest,
        /// Claimed.
        size: i64,
        /// The limit.
        most: u64,
    },
    /// Layers and their digests do not match in number.
    #[error("the image has {layers} layers, but its configuration describes {described}")]
    Layers {
        /// In the manifest.
        layers: usize,
        /// In the configuration.
        described: usize,
    },
    /// Nothing of that name.
    #[error("the layout has no image with the tag {tag:?}")]
    NoTag {
        /// As given.
        tag: String,
    },
    /// Not made for this machine.
    #[error("the image is not made for {wanted}; it exists for {available}")]
    Platform {
        /// Asked for.
        wanted: Platform,
        /// What there is.
        available: String,
    },
}

/// `linux/amd64`, perhaps with a variant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Platform {
    os: String,
    architecture: String,
    variant: Option<String>,
}

/// Not `os/architecture`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no platform: write it as linux/amd64")]
pub struct InvalidPlatform {
    /// As given.
    pub text: String,
}

impl Default for Platform {
    /// What VMs run here.
    fn default() -> Self {
        Self { os: "linux".to_owned(), architecture: "amd64".to_owned(), variant: None }
    }
}

impl std::str::FromStr for Platform {
    type Err = InvalidPlatform;

    fn from_str(text: &str) -> Result<Self, InvalidPlatform> {
        let words: Vec<&str> = text.split('/').collect();
        let plain = |word: &&str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric());
        match words.as_slice() {
            [os, architecture, rest @ ..] if rest.len() <= 1 && words.iter().all(plain) => Ok(Self {
                os: (*os).to_owned(),
                architecture: (*architecture).to_owned(),
                variant: rest.first().map(|variant| (*variant).to_owned()),
            }),
            _ => Err(InvalidPlatform { text: text.to_owned() }),
        }
    }
}

impl std::fmt::Display for Platform {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}/{}", self.os, self.architecture)?;
        self.variant.as_ref().map_or(Ok(()), |variant| write!(formatter, "/{variant}"))
    }
}

/// What a document turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Document {
    /// One image.
    Image {
        /// Its configuration.
        configuration: Blob,
        /// Lowest first.
        layers: Vec<Blob>,
    },
    /// The manifest of the wanted platform has this digest.
    Index(Digest),
}

/// Something stored under its digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blob {
    /// Its name.
    pub digest: Digest,
    /// Its bytes.
    pub size: u64,
}

/// What an image says about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Configuration {
    /// `KEY=value`.
    pub environment: Vec<String>,
    /// Or empty.
    pub working_directory: String,
    /// Or empty.
    pub user: String,
    /// Digests of the uncompressed layers, lowest first.
    pub diff_ids: Vec<Digest>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawDocument {
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
}

#[derive(Deserialize)]
struct Descriptor {
    digest: String,
    size: i64,
    platform: Option<RawPlatform>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct RawPlatform {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    variant: Option<String>,
}

#[derive(Deserialize)]
struct RawConfiguration {
    os: Option<String>,
    architecture: Option<String>,
    config: Option<RawSettings>,
    rootfs: RawRootfs,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct RawSettings {
    env: Option<Vec<String>>,
    working_dir: Option<String>,
    user: Option<String>,
}

#[derive(Deserialize)]
struct RawRootfs {
    #[serde(default)]
    diff_ids: Option<Vec<Digest>>,
}

/// Parses a manifest or an index.
///
/// # Errors
/// See [`ManifestError`].
pub fn parse_document(bytes: &[u8], platform: &Platform) -> Result<Document, ManifestError> {
    let malformed = |source| ManifestError::Malformed { what: "manifest", source };
    let raw: RawDocument = serde_json::from_slice(bytes).map_err(malformed)?;
    match (raw.config, raw.layers, raw.manifests) {
        (Some(configuration), Some(layers), _) => {
            if layers.len() > MOST_LAYERS {
                return Err(ManifestError::Layers { layers: layers.len(), described: MOST_LAYERS });
            }
            Ok(Document::Image {
                configuration: blob(&configuration, "configuration", MOST_BYTES)?,
                layers: layers.iter().map(|layer| blob(layer, "layer", MOST_LAYER_BYTES)).collect::<Result<_, _>>()?,
            })
        }
        (_, _, Some(manifests)) => choose(&manifests, platform),
        _ => Err(ManifestError::Neither),
    }
}

fn blob(descriptor: &Descriptor, what: &'static str, most: u64) -> Result<Blob, ManifestError> {
    let digest: Digest = descriptor.digest.parse()?;
    match u64::try_from(descriptor.size).ok().filter(|size| *size <= most) {
        Some(size) => Ok(Blob { digest, size }),
        None => Err(ManifestError::Size { what, digest, size: descriptor.size, most }),
    }
}

/// The first entry for the platform; one alone that does not say is taken.
fn choose(manifests: &[Descriptor], wanted: &Platform) -> Result<Document, ManifestError> {
    let matches = |entry: &&Descriptor| {
        entry.platform.as_ref().is_some_and(|platform| {
            platform.os == wanted.os
                && platform.architecture == wanted.architecture
                && (wanted.variant.is_none() || platform.variant == wanted.variant)
        })
    };
    let alone = || manifests.first().filter(|only| manifests.len() == 1 && only.platform.is_none());
    match manifests.iter().find(matches).or_else(alone) {
        Some(entry) => Ok(Document::Index(entry.digest.parse()?)),
        None => {
            let mut available: Vec<String> = manifests
                .iter()
                .filter_map(|entry| entry.platform.as_ref())
                .map(|platform| format!("{}/{}", platform.os, platform.architecture))
                .filter(|text| text != "unknown/unknown")
                .collect();
            available.dedup();
            let available = if available.is_empty() { "no platform".to_owned() } else { available.join(", ") };
            Err(ManifestError::Platform { wanted: wanted.clone(), available })
        }
    }
}

/// The manifest that `index.json` of a layout lists, by its tag if one is wanted.
///
/// # Errors
/// See [`ManifestError`].
pub fn parse_layout_index(bytes: &[u8], tag: Option<&str>, platform: &Platform) -> Result<Digest, ManifestError> {
    const TAG: &str = "org.opencontainers.image.ref.name";
    let malformed = |source| ManifestError::Malformed { what: "index", source };
    let raw: RawDocument = serde_json::from_slice(bytes).map_err(malformed)?;
    let mut manifests = raw.manifests.ok_or(ManifestError::Neither)?;
    if let Some(tag) = tag {
        manifests.retain(|entry| entry.annotations.get(TAG).is_some_and(|name| name == tag));
    }
    match manifests.as_slice() {
        // Whatever it is: its own configuration says for which machine.
        [only] => Ok(only.digest.parse()?),
        [] => Err(ManifestError::NoTag { tag: tag.unwrap_or_default().to_owned() }),
        several => match choose(several, platform)? {
            Document::Index(digest) => Ok(digest),
            Document::Image { .. } => Err(ManifestError::Neither),
        },
    }
}

/// Parses a configuration of an image with `layers` layers.
///
/// # Errors
/// See [`ManifestError`].
pub fn parse_configuration(bytes: &[u8], layers: usize, platform: &Platform) -> Result<Configuration, ManifestError> {
    let malformed = |source| ManifestError::Malformed { what: "configuration", source };
    let raw: RawConfiguration = serde_json::from_slice(bytes).map_err(malformed)?;
    if let (Some(os), Some(architecture)) = (&raw.os, &raw.architecture)
        && !os.is_empty()
        && !architecture.is_empty()
        && (*os != platform.os || *architecture != platform.architecture)
    {
        return Err(ManifestError::Platform { wanted: platform.clone(), available: format!("{os}/{architecture}") });
    }
    let diff_ids = raw.rootfs.diff_ids.unwrap_or_default();
    if diff_ids.len() != layers {
        return Err(ManifestError::Layers { layers, described: diff_ids.len() });
    }
    let settings = raw.config.unwrap_or_default();
    Ok(Configuration {
        environment: settings.env.unwrap_or_default(),
        working_directory: settings.working_dir.unwrap_or_default(),
        user: settings.user.unwrap_or_default(),
        diff_ids,
    })
}
