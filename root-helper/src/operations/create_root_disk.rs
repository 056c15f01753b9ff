//! A copy-on-write store for one VM over one build of an image. The devices come with the launch.

use banger_proto::failure::{Classified, Kind};
use banger_proto::names::{BuildId, ImageName, VmId};

use crate::error::StepError;
use crate::ledger::{Intent, RootDisk};
use crate::world::World;

/// What it is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The image.
    pub image: ImageName,
    /// Which build of it.
    pub build: BuildId,
    /// Size of the store.
    pub copy_on_write_mib: u64,
}

/// It cannot be created.
#[derive(Debug, thiserror::Error)]
#[error("cannot create the root disk of the VM {vm}")]
pub struct CreateRootDiskError {
    /// Which VM.
    pub vm: VmId,
    /// Which step and why.
    pub source: StepError,
}

impl Classified for CreateRootDiskError {
    fn kind(&self) -> Kind {
        self.source.kind()
    }
}

/// Creates it; content if the same exists.
///
/// # Errors
/// [`CreateRootDiskError`]; nothing is left then.
pub fn perform(world: &mut World, vm: &VmId, wanted: Wanted) -> Result<(), CreateRootDiskError> {
    let failed = |source| CreateRootDiskError { vm: vm.clone(), source };
    if world.holdings(vm).root_disk.is_some() {
        // The policy let it pass: it is the same one.
        return Ok(());
    }
    let origin = world.host.identify_image(&wanted.image, &wanted.build).map_err(failed)?;
    let Wanted { image, build, copy_on_write_mib } = wanted;
    let disk = RootDisk { image, build, origin, copy_on_write_mib };
    world.begin(vm, Intent::CreateRootDisk, |holdings| holdings.root_disk = Some(disk)).map_err(failed)?;
    match world.host.create_store(vm, copy_on_write_mib) {
        Ok(()) => world.end(vm, |_| ()).map_err(failed),
        Err(error) => {
            // The first error is the answer; if this fails too, the entry stays and teardown will try again.
            if world.host.remove_store(vm).is_ok() {
                let _ = world.end(vm, |holdings| holdings.root_disk = None);
            }
            Err(failed(error))
        }
    }
}
