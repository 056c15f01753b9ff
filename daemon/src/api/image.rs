//! Images over gRPC.

use std::path::Path;
use std::sync::Arc;

use banger_proto::failure::{Classified, Failure, Kind};
use banger_proto::names::{ImageName, VmName};
use banger_proto::v1::image_service_server::ImageService;
use banger_proto::v1::{
    BuildImageRequest, DeleteImageRequest, ExportImageRequest, ExportImageResponse, GetImageRequest, Image,
    ImportImageRequest, ListImagesRequest, ListImagesResponse, PromoteImageRequest, PruneImageCacheRequest,
    PruneImageCacheResponse, PullImageRequest, import_image_request,
};
use futures::stream::BoxStream;
use tonic::{Request, Response, Status, Streaming};

use super::upload::UploadError;
use super::{Api, Events, parse, refuse, stream};
use crate::catalog::ImageRecipe;
use crate::image::{AvailableImage, ContainerSource, ImageArtifacts, Refresh};
use crate::oci::cache::Prune;
use crate::oci::registry::Credential;
use crate::operation::{Description, WhenUnattended};
use crate::vm::record::BootSource;

mod container;
mod export;
mod import;

/// The image is not as asked for.
#[derive(Debug, thiserror::Error)]
enum ImageError {
    #[error("there is no image {name:?}")]
    NotFound { name: ImageName },
    #[error("the image {:?} is used by the VMs {}", name.as_str(), super::names(users))]
    InUse { name: ImageName, users: Vec<VmName> },
}

impl Classified for ImageError {
    fn kind(&self) -> Kind {
        match self {
            Self::NotFound { .. } => Kind::NotFound,
            Self::InUse { .. } => Kind::Conflict,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::NotFound { .. } => vec!["Run `banger image list` to see what is there.".into()],
            Self::InUse { users, .. } => vec![format!("Run `banger vm delete {}` first.", super::words(users))],
        }
    }
}

#[tonic::async_trait]
impl ImageService for Api {
    type PullStream = Events;
    type ImportStream = Events;
    type BuildStream = Events;
    type PromoteStream = Events;
    type ExportStream = BoxStream<'static, Result<ExportImageResponse, Status>>;

    async fn pull(&self, request: Request<PullImageRequest>) -> Result<Response<Events>, Status> {
        let request = request.into_inner();
        // The catalog comes first: a plain word may be one of its names.
        let named = request.reference.parse().ok().filter(|name| self.stores.images.in_catalog(name));
        let named = named.filter(|_| request.name.is_empty());
        if !request.reference.is_empty() && named.is_none() {
            return self.pull_reference(request);
        }
        let name: ImageName = match named {
            Some(name) => name,
            None => parse::name(&request.name).map_err(|error| refuse(&error))?,
        };
        let refresh = refresh(request.refresh);
        let description =
            Description { kind: "image.pull", subject: name.to_string(), when_unattended: WhenUnattended::Cancel };
        let stores = self.stores.clone();
        Ok(stream(self.operations().begin(description, move |reporter| async move {
            let image = stores.images.ensure(&name, refresh, &reporter).await;
            image.map(|image| image.id.to_string()).map_err(|error| Failure::from_error(&error))
        })))
    }

    async fn import(&self, request: Request<Streaming<ImportImageRequest>>) -> Result<Response<Events>, Status> {
        let mut requests = request.into_inner();
        let first = requests.message().await?.and_then(|request| request.part);
        let Some(import_image_request::Part::Start(start)) = first else { return Err(refuse(&UploadError::NoStart)) };
        let description = Description {
            kind: "image.import",
            subject: start.described.clone(),
            when_unattended: WhenUnattended::Cancel,
        };
        let stores = self.stores.clone();
        let job = move |reporter| import::run(stores, start, requests, reporter);
        Ok(stream(self.operations().begin(description, job)))
    }

    async fn build(&self, request: Request<BuildImageRequest>) -> Result<Response<Events>, Status> {
        let request = request.into_inner();
        let recipe = ImageRecipe::parse(&request.recipe, Path::new(&request.described));
        let recipe = recipe.map_err(|error| refuse(&error))?;
        let description = Description {
            kind: "image.build",
            subject: recipe.name.to_string(),
            when_unattended: WhenUnattended::Cancel,
        };
        let stores = self.stores.clone();
        Ok(stream(self.operations().begin(description, move |reporter| async move {
            let image = stores.images.build(&recipe, &reporter).await;
            image.map(|image| image.id.to_string()).map_err(|error| Failure::from_error(&error))
        })))
    }

    async fn promote(&self, request: Request<PromoteImageRequest>) -> Result<Response<Events>, Status> {
        let name: ImageName = parse::name(&request.into_inner().name).map_err(|error| refuse(&error))?;
        let description =
            Description { kind: "image.promote", subject: name.to_string(), when_unattended: WhenUnattended::Cancel };
        let stores = self.stores.clone();
        Ok(stream(self.operations().begin(description, move |reporter| async move {
            let image = stores.images.promote(&name, &reporter).await;
            image.map(|image| image.id.to_string()).map_err(|error| Failure::from_error(&error))
        })))
    }

    async fn export(&self, request: Request<ExportImageRequest>) -> Result<Response<Self::ExportStream>, Status> {
        let name: ImageName = parse::name(&request.into_inner().name).map_err(|error| refuse(&error))?;
        let Some(image) = self.stores.images.get(&name) else { return Err(refuse(&ImageError::NotFound { name })) };
        Ok(Response::new(export::bundle(image)))
    }

    async fn prune_cache(
        &self,
        request: Request<PruneImageCacheRequest>,
    ) -> Result<Response<PruneImageCacheResponse>, Status> {
        let prune = if request.into_inner().dry_run { Prune::DryRun } else { Prune::Remove };
        let blobs = self.stores.images.blobs().clone();
        let pruned = tokio::task::spawn_blocking(move || blobs.prune(prune)).await.expect("pruning does not panic");
        let pruned = pruned.map_err(|error| refuse(&error))?;
        let stores = &self.stores;
        let old = self.vms().while_nothing_comes_into_use(|used| stores.prune_old_builds(used, prune)).await;
        Ok(Response::new(PruneImageCacheResponse {
            blobs: pruned.blobs,
            bytes: pruned.bytes,
            old_builds: old.builds,
            old_build_bytes: old.bytes,
        }))
    }

    async fn list(&self, request: Request<ListImagesRequest>) -> Result<Response<ListImagesResponse>, Status> {
        let request = request.into_inner();
        let present = self.stores.images.list();
        let used = self.vms().boot_sources();
        let mut images: Vec<Image> = present.iter().map(|image| render(image, &used)).collect();
        if request.include_available {
            let absent = |available: &AvailableImage| present.iter().all(|image| image.name != available.name);
            images.extend(self.stores.images.available().into_iter().filter(absent).map(render_available));
        }
        images.sort_by(|one, other| one.name.cmp(&other.name));
        // The token is the last name of the page before; names are sorted, so a deleted one does no harm.
        images.retain(|image| image.name > request.page_token);
        let size = request.page_size as usize;
        let mut next_page_token = String::new();
        if size > 0 && images.len() > size {
            images.truncate(size);
            next_page_token = images.last().map(|last| last.name.clone()).unwrap_or_default();
        }
        Ok(Response::new(ListImagesResponse { images, next_page_token }))
    }

    async fn get(&self, request: Request<GetImageRequest>) -> Result<Response<Image>, Status> {
        let name: ImageName = parse::name(&request.into_inner().name).map_err(|error| refuse(&error))?;
        match self.stores.images.get(&name) {
            Some(image) => Ok(Response::new(render(&image, &self.vms().boot_sources()))),
            None => Err(refuse(&ImageError::NotFound { name })),
        }
    }

    async fn delete(&self, request: Request<DeleteImageRequest>) -> Result<Response<Image>, Status> {
        let name: ImageName = parse::name(&request.into_inner().name).map_err(|error| refuse(&error))?;
        match self.vms().unless_image_used(&name, self.stores.images.delete(&name)).await {
            Ok(deleted) => Ok(Response::new(render(&deleted.map_err(|error| refuse(&error))?, &[]))),
            Err(users) => Err(refuse(&ImageError::InUse { name, users })),
        }
    }
}

impl Api {
    fn pull_reference(&self, request: PullImageRequest) -> Result<Response<Events>, Status> {
        let parsed = container::reference(&request.reference).map_err(|error| refuse(&error))?;
        let described = request.reference.clone();
        let options = container::options(&request.name, &described, refresh(request.refresh), request.options)
            .map_err(|error| refuse(&error))?;
        let credential = request.credential.map(|sent| Credential {
            registry: sent.registry,
            user: sent.user,
            password: sent.password,
        });
        let source = ContainerSource::Registry { reference: Box::new(parsed), credential };
        let description = Description {
            kind: "image.pull",
            subject: options.name.to_string(),
            when_unattended: WhenUnattended::Cancel,
        };
        let stores = self.stores.clone();
        Ok(stream(self.operations().begin(description, move |reporter| async move {
            let image = stores.images.pull_container(source, options, &reporter).await;
            image.map(|image| image.id.to_string()).map_err(|error| Failure::from_error(&error))
        })))
    }
}

fn refresh(asked: bool) -> Refresh {
    if asked { Refresh::Always } else { Refresh::IfAbsent }
}

fn render(image: &ImageArtifacts, used: &[Arc<BootSource>]) -> Image {
    let vm_count = used.iter().filter(|boot| boot.rootfs == image.rootfs).count();
    Image {
        id: image.id.to_string(),
        name: image.name.to_string(),
        source: image.source.to_string(),
        digest: image.digest.clone(),
        kernel_name: image.kernel.to_string(),
        os_pretty_name: image.os_pretty_name.clone(),
        init: image.init.clone(),
        has_sshd: image.has_sshd,
        size_bytes: image.size_bytes,
        allocated_bytes: image.allocated_bytes,
        created_unix_ms: image.created_unix_ms,
        rootfs_path: image.rootfs.to_string_lossy().into_owned(),
        available_only: false,
        environment: image.environment.clone(),
        working_directory: image.working_directory.clone(),
        user: image.user.clone(),
        shared_bytes: image.shared_bytes(),
        in_place: image.in_place.is_some(),
        vm_count: u32::try_from(vm_count).unwrap_or(u32::MAX),
    }
}

fn render_available(image: AvailableImage) -> Image {
    Image {
        name: image.name.to_string(),
        source: image.description,
        kernel_name: image.kernel.to_string(),
        available_only: true,
        ..Image::default()
    }
}
