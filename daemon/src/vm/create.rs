//! Creating a VM: check, resolve, reserve, make, start, wait; and take it all back if it does not work out.
//!
//! Nothing exists before the reservation, and a failure leaves nothing, with one exception: once the VMM was
//! started and the guest then did not answer, the VM is kept, because only there can one find out why.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use banger_proto::failure::{Classified, Failure, Kind};
use banger_proto::install::Subnet;
use banger_proto::names::{ImageName, KernelName, VmId, VmName};

use super::Vms;
use super::boot_source::{BootImage, BootKernel};
use super::driver::{AfterProvision, DriverHandle, LaunchError, Origin, ProvisionError};
use super::host_key::{HostKeyError, make_host_key};
use super::observe::{self, ObserveError};
use super::record::{BootSource, OwnerMaterial, VmRecord, VmSpec};
use super::spec::{self, SpecError};
use super::state::VmState;
use super::wait::{Goal, WaitError};
use super::{address, name, start};
use crate::platform::PlatformError;
use crate::reporter::Reporter;
use crate::store::StoreError;

/// What is asked for, parsed.
#[derive(Debug, Clone)]
pub struct CreateRequest {
    /// `None`: generated.
    pub name: Option<VmName>,
    /// `None`: the default image.
    pub image: Option<ImageName>,
    /// `None`: the one the image asks for.
    pub kernel: Option<KernelName>,
    /// Size and network.
    pub spec: VmSpec,
    /// From its owner.
    pub owner: OwnerMaterial,
    /// Appended to the kernel command line.
    pub kernel_arguments: Vec<String>,
    /// Whether and how to start it.
    pub start: Option<StartOptions>,
}

/// How to start a VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StartOptions {
    /// How far to wait.
    pub goal: Goal,
    /// For each stage; `None`: the default.
    pub patience: Option<Duration>,
}

/// The VM was not created.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// It cannot be made as asked.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// The host cannot be looked at.
    #[error(transparent)]
    Observe(#[from] ObserveError),
    /// Its name is taken.
    #[error("there is already a VM {:?}", name.as_str())]
    NameTaken {
        /// The name.
        name: VmName,
    },
    /// This platform has no such VMs.
    #[error(transparent)]
    Platform(PlatformError),
    /// Every address is in use.
    #[error("every one of the {count} addresses of the network {pool} belongs to a VM already")]
    NoAddress {
        /// The network.
        pool: Subnet,
        /// How many guests it has room for.
        count: usize,
    },
    /// Its image or kernel cannot be had.
    #[error(transparent)]
    Artifact(Failure),
    /// What it would boot from was removed while it was being created.
    #[error("the image {:?} or its kernel was deleted while the VM was being created", image.as_str())]
    ImageGone {
        /// The image.
        image: ImageName,
    },
    /// No host key.
    #[error(transparent)]
    HostKey(#[from] HostKeyError),
    /// It could not be written down.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Its disks were not made.
    #[error(transparent)]
    Provision(#[from] ProvisionError),
    /// Its VMM was not started.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// Its guest is not as far as asked.
    #[error(transparent)]
    Wait(#[from] WaitError),
    /// The user stopped it.
    #[error("creating the VM was cancelled")]
    Cancelled,
}

impl Classified for CreateError {
    fn kind(&self) -> Kind {
        match self {
            Self::Spec(error) => error.kind(),
            Self::Observe(error) => error.kind(),
            Self::NameTaken { .. } | Self::ImageGone { .. } => Kind::Conflict,
            Self::Platform(error) => error.kind(),
            Self::NoAddress { .. } => Kind::HostNotReady,
            Self::Artifact(failure) => failure.kind,
            Self::HostKey(error) => error.kind(),
            Self::Store(error) => error.kind(),
            Self::Provision(error) => error.kind(),
            Self::Launch(error) => error.kind(),
            Self::Wait(error) => error.kind(),
            Self::Cancelled => Kind::Cancelled,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Spec(error) => error.hints(),
            Self::Observe(error) => error.hints(),
            Self::NameTaken { name } => {
                vec![format!("Choose another name, or run `banger vm delete {name}` first.")]
            }
            Self::Platform(error) => error.hints(),
            Self::NoAddress { .. } => vec![
                "Delete VMs you no longer need: `banger vm list` shows them.".into(),
                "Or install with a larger network, `sudo banger system install --owner USER --network CIDR`.".into(),
            ],
            Self::Artifact(failure) => failure.hints.clone(),
            Self::ImageGone { image } => vec![format!("Run `banger image pull {image}` and try again.")],
            Self::HostKey(error) => error.hints(),
            Self::Store(error) => error.hints(),
            Self::Provision(error) => error.hints(),
            Self::Launch(error) => error.hints(),
            Self::Wait(error) => error.hints(),
            Self::Cancelled => Vec::new(),
        }
    }
}

impl CreateError {
    /// For the wire: the chain of an artifact's failure and the causes of a wait's are kept whole.
    pub fn into_failure(self) -> Failure {
        match self {
            Self::Artifact(failure) => failure,
            Self::Wait(error) => start::wait_failure(&error),
            other => Failure::from_error(&other),
        }
    }

    /// The VMM ran, and nobody called it off: the VM is worth looking at.
    fn keeps_the_vm(&self) -> bool {
        match self {
            Self::Wait(error) => !matches!(error, WaitError::Cancelled { .. }),
            _ => false,
        }
    }
}

impl Vms {
    /// Creates a VM and returns its id.
    ///
    /// # Errors
    /// What went wrong, with anything that could not be taken back.
    pub async fn create(&self, request: CreateRequest, reporter: &Reporter) -> Result<VmId, Failure> {
        let start = request.start;
        let handle = self.reserve(request, reporter).await.map_err(CreateError::into_failure)?;
        let id = handle.snapshot().record.id.clone();
        let Err(error) = self.bring_up(&handle, start, reporter).await else { return Ok(id) };

        let keep = error.keeps_the_vm();
        let mut failure = error.into_failure();
        if !keep {
            // A cancelled token would cancel the removal as well.
            let undo = Reporter::silent(reporter.operation_id());
            if let Err(error) = handle.remove(&undo).await {
                if let super::driver::RemoveError::Refused(_) = error {
                    // Somebody else deleted it first, or the daemon ends and the next one does it.
                } else if error.left_behind().is_empty() {
                    failure.left_behind.push(Failure::from_error(&error).to_string());
                } else {
                    failure.left_behind.extend_from_slice(error.left_behind());
                }
            }
        }
        Err(failure)
    }

    /// Everything up to the row.
    async fn reserve(&self, request: CreateRequest, reporter: &Reporter) -> Result<DriverHandle, CreateError> {
        spec::check_spec(&request.spec, &observe::host_limits(&self.host.paths.vms())?)?;
        self.host.platform.check(&request.spec).map_err(CreateError::Platform)?;
        spec::check_kernel_arguments(&request.kernel_arguments)?;
        spec::check_owner(&request.owner)?;
        if let Some(name) = &request.name
            && self.name_taken(name.as_str())
        {
            return Err(CreateError::NameTaken { name: name.clone() });
        }
        let (image, kernel) = tokio::select! {
            resolved = self.resolve(&request, reporter) => resolved?,
            () = reporter.cancellation().cancelled() => return Err(CreateError::Cancelled),
        };
        if reporter.cancellation().is_cancelled() {
            return Err(CreateError::Cancelled);
        }
        // Between the look at the image and the row, nobody may delete it.
        let _in_use = self.artifact_use.read().await;
        if !image.rootfs.exists() || !kernel.vmlinux.exists() {
            return Err(CreateError::ImageGone { image: image.name });
        }
        let reserving = self.reserving.lock().await;
        let name = match &request.name {
            Some(name) if self.name_taken(name.as_str()) => {
                return Err(CreateError::NameTaken { name: name.clone() });
            }
            Some(name) => name.clone(),
            None => self.propose_name(),
        };
        let mut record = new_record(name, request, image, kernel, self.host.platform.vmm_name())?;
        record.address = self.free_address()?;
        self.host.store.insert_vm(record.clone(), reporter.operation_id()).await?;
        let handle = self.spawn_driver(record, Origin::Reserved);
        drop(reserving);
        Ok(handle)
    }

    async fn resolve(
        &self,
        request: &CreateRequest,
        reporter: &Reporter,
    ) -> Result<(BootImage, BootKernel), CreateError> {
        let artifacts = &self.host.artifacts;
        let image = artifacts.image(request.image.as_ref(), reporter).await.map_err(CreateError::Artifact)?;
        let kernel = request.kernel.as_ref().unwrap_or(&image.kernel);
        let kernel = artifacts.kernel(kernel, reporter).await.map_err(CreateError::Artifact)?;
        Ok((image, kernel))
    }

    async fn bring_up(
        &self,
        handle: &DriverHandle,
        start: Option<StartOptions>,
        reporter: &Reporter,
    ) -> Result<(), CreateError> {
        let Some(options) = start else {
            return Ok(handle.provision(reporter, AfterProvision::Finished).await?);
        };
        handle.provision(reporter, AfterProvision::Launch).await?;
        handle.launch(reporter, None).await?;
        Ok(self.wait_and_note(handle, options, reporter).await?)
    }

    /// An address for the next VM, where VMs have addresses.
    fn free_address(&self) -> Result<Option<Ipv4Addr>, CreateError> {
        let Some(pool) = self.host.platform.address_pool() else { return Ok(None) };
        // Also of VMs on their way out: their links may still be there.
        let all = self.snapshots();
        let newest = all.iter().max_by_key(|snapshot| snapshot.record.created_unix_ms);
        let taken: BTreeSet<Ipv4Addr> = all.iter().filter_map(|snapshot| snapshot.record.address).collect();
        let after = newest.and_then(|snapshot| snapshot.record.address);
        let found = address::choose(pool, &taken, after);
        found.map(Some).ok_or_else(|| CreateError::NoAddress { pool, count: pool.guests().count() })
    }

    /// A free name nobody has to think of.
    pub fn propose_name(&self) -> VmName {
        name::propose_name(name::random, |candidate| self.name_taken(candidate))
    }
}

fn new_record(
    name: VmName,
    request: CreateRequest,
    image: BootImage,
    kernel: BootKernel,
    vmm: &str,
) -> Result<VmRecord, CreateError> {
    // Random, not by time: short ids are the beginning and must differ.
    let id = uuid::Uuid::new_v4().simple().to_string().parse().expect("a UUID is 32 hexadecimal digits");
    Ok(VmRecord {
        host_key: make_host_key(name.as_str())?,
        address: None,
        id,
        name,
        state: VmState::Created,
        spec: request.spec,
        boot: Arc::new(BootSource {
            image: image.name,
            image_id: image.id,
            kernel: kernel.name,
            rootfs: image.rootfs,
            rootfs_stamp: image.rootfs_stamp,
            init_path: image.init_path,
            has_sshd: image.has_sshd,
            environment: image.environment,
            working_directory: image.working_directory,
            user: image.user,
            vmlinux: kernel.vmlinux,
            modules_cpio: kernel.modules_cpio,
            modules_ext4: kernel.modules_ext4,
            kernel_arguments: request.kernel_arguments,
        }),
        owner: Arc::new(request.owner),
        vmm: vmm.to_owned(),
        created_unix_ms: crate::clock::unix_ms(),
        started_unix_ms: 0,
        runtime: None,
        boot_id: String::new(),
        reachable_after_ms: 0,
        booted_after_ms: 0,
        last_error: String::new(),
        unclean: false,
        workspace: None,
    })
}
