//! An image from files that the client sends: received, then handed to the store as what they are.

use std::sync::Arc;

use banger_proto::failure::{Classified, Failure};
use banger_proto::v1::{ImageFiles, ImportImage, ImportImageRequest, import_image_request::Part};
use tonic::Streaming;

use super::container;
use crate::api::parse;
use crate::api::upload::{Upload, UploadError};
use crate::artifacts::Stores;
use crate::image::{
    ContainerOptions, ContainerSource, Files, ImageArtifacts, Refresh, RegisterError, Registered, RootfsFile,
};
use crate::kernel::ImportedKernel;
use crate::reporter::Reporter;

fn fail<E: Classified>(error: E) -> Failure {
    Failure::from_error(&error)
}

/// The whole job; returns the image's id.
///
/// # Errors
/// Of the transfer or of the store.
pub(super) async fn run(
    stores: Arc<Stores>,
    start: ImportImage,
    mut requests: Streaming<ImportImageRequest>,
    reporter: Reporter,
) -> Result<String, Failure> {
    let options =
        container::options(&start.name, &start.described, super::refresh(start.refresh), start.options.clone())
            .map_err(fail)?;
    reporter.stage("upload", format!("receiving {}", start.described));
    let mut upload = Upload::below(&stores.images.staging()).map_err(fail)?;
    loop {
        let next = tokio::select! {
            next = requests.message() => next.map_err(|source| UploadError::Client { source }),
            () = reporter.cancellation().cancelled() => Err(UploadError::Cancelled),
        };
        let Some(request) = next.map_err(fail)? else { break };
        let Some(Part::Piece(piece)) = request.part else { continue };
        upload.take(&piece, &reporter).map_err(fail)?;
    }
    let image = store(&stores, &start, options, &upload, &reporter).await?;
    Ok(image.id.to_string())
}

async fn store(
    stores: &Stores,
    start: &ImportImage,
    options: ContainerOptions,
    upload: &Upload,
    reporter: &Reporter,
) -> Result<ImageArtifacts, Failure> {
    let images = &stores.images;
    let at = |name: &str| upload.path().join(name);
    let tag = Some(start.tag.clone()).filter(|tag| !tag.is_empty());
    let files = |path| Files { path, tag, described: start.described.clone() };
    match start.files() {
        ImageFiles::DockerArchive => {
            let source = ContainerSource::Archive(files(at("archive.tar")));
            images.pull_container(source, options, reporter).await.map_err(fail)
        }
        ImageFiles::OciLayout | ImageFiles::Unspecified => {
            let source = ContainerSource::Layout(files(upload.path().to_owned()));
            images.pull_container(source, options, reporter).await.map_err(fail)
        }
        ImageFiles::Bundle => {
            images.import_bundle(at("bundle"), options.name, options.refresh, reporter).await.map_err(fail)
        }
        ImageFiles::Rootfs => {
            let file = RootfsFile::Taken(at("rootfs.ext4"));
            register(stores, (start, file), options, upload, reporter).await
        }
        ImageFiles::RootfsInPlace => {
            let file = RootfsFile::InPlace(start.described.clone().into());
            register(stores, (start, file), options, upload, reporter).await
        }
    }
}

/// A user's root filesystem, with its own kernel if one came along; that goes again if the image is refused.
async fn register(
    stores: &Stores,
    (start, rootfs): (&ImportImage, RootfsFile),
    options: ContainerOptions,
    upload: &Upload,
    reporter: &Reporter,
) -> Result<ImageArtifacts, Failure> {
    let ContainerOptions { name, kernel, refresh, .. } = options;
    if refresh == Refresh::IfAbsent && stores.images.get(&name).is_some() {
        return Err(fail(RegisterError::Exists { name }));
    }
    let own = match &start.own_kernel {
        None => None,
        Some(own) => {
            let imported = ImportedKernel {
                // Both kinds of names follow one rule.
                name: parse::name(name.as_str()).map_err(fail)?,
                release: own.release.clone(),
                files: upload.path().to_owned(),
                described: own.described.clone(),
                refresh,
            };
            Some(stores.kernels.import(imported, reporter).await.map_err(fail)?)
        }
    };
    let registered = Registered {
        name,
        rootfs,
        kernel: own.as_ref().map_or(kernel, |own| own.name.clone()),
        init_path: Some(start.init_path.clone()).filter(|path| !path.is_empty()),
        has_sshd: start.has_sshd,
        described: start.described.clone(),
        refresh,
    };
    stores.images.register(registered, reporter).await.map_err(|error| {
        let mut failure = fail(error);
        if let Some(own) = &own
            && let Err(error) = stores.kernels.discard(own)
        {
            failure.left_behind.push(Failure::from_error(&error).to_string());
        }
        failure
    })
}
