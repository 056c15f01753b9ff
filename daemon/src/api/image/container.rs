//! What a request says about a container image → what the store understands.

use banger_proto::failure::{Classified, Kind};
use banger_proto::names::InvalidName;
use banger_proto::v1;

use crate::image::{ContainerOptions, Refresh};
use crate::oci::manifest::{InvalidPlatform, Platform};
use crate::oci::reference::{self, InvalidReference};

/// What a container image boots with unless somebody says.
const DEFAULT_KERNEL: &str = "generic-6.12";
/// What the writer of filesystems can make.
const LARGEST_BYTES: u64 = 1 << 40;

/// A request that does not make sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum InvalidContainer {
    /// The reference, or the name that would follow from it.
    #[error(transparent)]
    Reference(#[from] InvalidReference),
    /// A name breaks its rule.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// The platform.
    #[error(transparent)]
    Platform(#[from] InvalidPlatform),
    /// A size no filesystem has.
    #[error("an image cannot have a root filesystem of {bytes} bytes; at most 1 TiB")]
    Size {
        /// As sent.
        bytes: u64,
    },
}

impl Classified for InvalidContainer {
    fn kind(&self) -> Kind {
        match self {
            Self::Reference(error) => error.kind(),
            Self::Name(_) | Self::Platform(_) | Self::Size { .. } => Kind::Usage,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Reference(error) => error.hints(),
            Self::Platform(_) => vec!["Leave it out, or write `--platform linux/amd64`.".to_owned()],
            Self::Name(_) => vec!["Choose a name with `--name NAME`.".to_owned()],
            Self::Size { .. } => vec!["Write it as in `--size 16G`.".to_owned()],
        }
    }
}

pub(super) fn reference(text: &str) -> Result<oci_client::Reference, InvalidContainer> {
    Ok(reference::parse(text)?)
}

pub(super) fn options(
    name: &str,
    described: &str,
    refresh: Refresh,
    options: Option<v1::ContainerOptions>,
) -> Result<ContainerOptions, InvalidContainer> {
    let options = options.unwrap_or_default();
    let kernel = if options.kernel_name.is_empty() { DEFAULT_KERNEL } else { &options.kernel_name };
    if options.size_bytes > LARGEST_BYTES {
        return Err(InvalidContainer::Size { bytes: options.size_bytes });
    }
    Ok(ContainerOptions {
        name: if name.is_empty() { reference::derive_name(described)? } else { name.parse()? },
        kernel: kernel.parse()?,
        size_bytes: options.size_bytes,
        platform: if options.platform.is_empty() { Platform::default() } else { options.platform.parse()? },
        refresh,
    })
}
