//! Container images: found in a registry or in files, fetched once, flattened into a root filesystem.
//!
//! ```text
//!  registry ──┐                                      ┌─ layer ─ layer ─ layer ─▶ flatten ─▶ rootfs.ext4
//!  oci:DIR  ──┼─▶ manifest ─▶ configuration + layers ┤      (each as soon as it is here)
//!  archive  ──┘                                      └─ cache: blobs by digest
//! ```
//! Everything that arrives is compared with its digest and bounded before it is believed. No container is
//! run, nothing is unpacked outside one filesystem file, and no credential is read or kept here: requests
//! carry them. [`crate::image`] decides what becomes of the result.

pub mod archive;
pub mod cache;
pub mod digest;
mod download;
pub mod flatten;
pub mod layer;
pub mod layout;
pub mod manifest;
pub mod reference;
pub mod registry;
pub mod settings;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use futures::stream::BoxStream;

use digest::Digest;
use layer::StoredLayer;
use manifest::Configuration;

/// An image whose manifest is here and whose layers are coming.
pub struct Incoming {
    /// What it is, with its digest, for people and for finding it again.
    pub source: String,
    /// Of the manifest; of the configuration where there is no manifest.
    pub digest: Digest,
    /// What it says about itself.
    pub configuration: Configuration,
    /// Lowest first; the first failure is the last item.
    pub layers: BoxStream<'static, Result<StoredLayer, registry::PullError>>,
}
