//! Kernels over gRPC.

use banger_proto::failure::{Classified, Failure, Kind};
use banger_proto::names::{KernelName, VmName};
use banger_proto::v1::kernel_service_server::KernelService;
use banger_proto::v1::{
    DeleteKernelRequest, GetKernelRequest, ImportKernel, ImportKernelRequest, Kernel, ListKernelsRequest,
    ListKernelsResponse, PullKernelRequest, import_kernel_request::Part,
};
use tonic::{Request, Response, Status, Streaming};

use super::upload::{Upload, UploadError};
use super::{Api, Events, parse, refuse, stream};
use crate::image::Refresh;
use crate::kernel::{AvailableKernel, ImportedKernel, KernelArtifacts};
use crate::operation::{Description, WhenUnattended};
use crate::reporter::Reporter;

/// The kernel is not as asked for.
#[derive(Debug, thiserror::Error)]
enum KernelError {
    #[error("there is no kernel {name:?}")]
    NotFound { name: KernelName },
    #[error("the kernel {:?} is used by the VMs {}", name.as_str(), super::names(users))]
    InUse { name: KernelName, users: Vec<VmName> },
    /// One of the catalog could be had again.
    #[error("the kernel {:?} is the only one that these images boot with: {}", name.as_str(), images.join(", "))]
    Needed { name: KernelName, images: Vec<String> },
}

impl Classified for KernelError {
    fn kind(&self) -> Kind {
        match self {
            Self::NotFound { .. } => Kind::NotFound,
            Self::InUse { .. } | Self::Needed { .. } => Kind::Conflict,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::NotFound { .. } => vec!["Run `banger kernel list` to see what is there.".into()],
            Self::InUse { users, .. } => vec![format!("Run `banger vm delete {}` first.", super::words(users))],
            Self::Needed { images, .. } => vec![format!("Run `banger image delete {}` first.", images[0])],
        }
    }
}

#[tonic::async_trait]
impl KernelService for Api {
    type PullStream = Events;
    type ImportStream = Events;

    async fn pull(&self, request: Request<PullKernelRequest>) -> Result<Response<Events>, Status> {
        let request = request.into_inner();
        let name: KernelName = parse::name(&request.name).map_err(|error| refuse(&error))?;
        let refresh = if request.refresh { Refresh::Always } else { Refresh::IfAbsent };
        let description =
            Description { kind: "kernel.pull", subject: name.to_string(), when_unattended: WhenUnattended::Cancel };
        let stores = self.stores.clone();
        Ok(stream(self.operations().begin(description, move |reporter| async move {
            let kernel = stores.kernels.ensure(&name, refresh, &reporter).await;
            kernel.map(|kernel| kernel.name.to_string()).map_err(|error| Failure::from_error(&error))
        })))
    }

    async fn import(&self, request: Request<Streaming<ImportKernelRequest>>) -> Result<Response<Events>, Status> {
        let mut requests = request.into_inner();
        let first = requests.message().await?.and_then(|request| request.part);
        let Some(Part::Start(start)) = first else { return Err(refuse(&UploadError::NoStart)) };
        let name: KernelName = parse::name(&start.name).map_err(|error| refuse(&error))?;
        let description =
            Description { kind: "kernel.import", subject: name.to_string(), when_unattended: WhenUnattended::Cancel };
        let stores = self.stores.clone();
        let job = move |reporter| import(stores, name, start, requests, reporter);
        Ok(stream(self.operations().begin(description, job)))
    }

    async fn list(&self, request: Request<ListKernelsRequest>) -> Result<Response<ListKernelsResponse>, Status> {
        let present = self.stores.kernels.list();
        let mut kernels: Vec<Kernel> = present.iter().map(render).collect();
        if request.into_inner().include_available {
            let absent = |available: &AvailableKernel| present.iter().all(|kernel| kernel.name != available.name);
            kernels.extend(self.stores.kernels.available().into_iter().filter(absent).map(render_available));
        }
        kernels.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(Response::new(ListKernelsResponse { kernels }))
    }

    async fn get(&self, request: Request<GetKernelRequest>) -> Result<Response<Kernel>, Status> {
        let name: KernelName = parse::name(&request.into_inner().name).map_err(|error| refuse(&error))?;
        match self.stores.kernels.get(&name) {
            Some(kernel) => Ok(Response::new(render(&kernel))),
            None => Err(refuse(&KernelError::NotFound { name })),
        }
    }

    async fn delete(&self, request: Request<DeleteKernelRequest>) -> Result<Response<Kernel>, Status> {
        let name: KernelName = parse::name(&request.into_inner().name).map_err(|error| refuse(&error))?;
        let images: Vec<String> = self
            .stores
            .images
            .list()
            .into_iter()
            .filter(|image| image.kernel == name && !self.stores.kernels.in_catalog(&name))
            .map(|image| image.name.to_string())
            .collect();
        if self.stores.kernels.get(&name).is_some() && !images.is_empty() {
            return Err(refuse(&KernelError::Needed { name, images }));
        }
        match self.vms().unless_kernel_used(&name, self.stores.kernels.delete(&name)).await {
            Ok(deleted) => Ok(Response::new(render(&deleted.map_err(|error| refuse(&error))?))),
            Err(users) => Err(refuse(&KernelError::InUse { name, users })),
        }
    }
}

/// Receives files and makes a kernel of them.
async fn import(
    stores: std::sync::Arc<crate::artifacts::Stores>,
    name: KernelName,
    start: ImportKernel,
    mut requests: Streaming<ImportKernelRequest>,
    reporter: Reporter,
) -> Result<String, Failure> {
    reporter.stage("upload", format!("receiving {}", start.described));
    let mut upload = Upload::below(&stores.kernels.staging()).map_err(|error| Failure::from_error(&error))?;
    loop {
        let next = tokio::select! {
            next = requests.message() => next.map_err(|source| UploadError::Client { source }),
            () = reporter.cancellation().cancelled() => Err(UploadError::Cancelled),
        };
        let Some(request) = next.map_err(|error| Failure::from_error(&error))? else { break };
        let Some(Part::Piece(piece)) = request.part else { continue };
        upload.take(&piece, &reporter).map_err(|error| Failure::from_error(&error))?;
    }
    let imported = ImportedKernel {
        name,
        release: start.release,
        files: upload.path().to_owned(),
        described: start.described,
        refresh: if start.refresh { Refresh::Always } else { Refresh::IfAbsent },
    };
    let kernel = stores.kernels.import(imported, &reporter).await.map_err(|error| Failure::from_error(&error))?;
    Ok(kernel.name.to_string())
}

fn render(kernel: &KernelArtifacts) -> Kernel {
    Kernel {
        name: kernel.name.to_string(),
        release: kernel.release.clone(),
        source: kernel.source.clone(),
        size_bytes: kernel.size_bytes,
        created_unix_ms: kernel.created_unix_ms,
        directory: kernel.directory.to_string_lossy().into_owned(),
        available_only: false,
        description: kernel.description.clone(),
    }
}

fn render_available(kernel: AvailableKernel) -> Kernel {
    Kernel { name: kernel.name.to_string(), description: kernel.description, available_only: true, ..Kernel::default() }
}
