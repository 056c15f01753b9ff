//! What `vm run` was asked for, after every check that needs neither repository nor daemon. Pure.

use std::path::PathBuf;

use banger_sync::files::Wanted;
use banger_sync::overlay::ObserveOptions;
use banger_sync::watch::Mode;

use crate::args::GuestPath;
use crate::commands::vm::new_vm::Spec;
use crate::session::Terminal;

/// The whole plan.
#[derive(Debug)]
pub struct Plan {
    /// The VM.
    pub spec: Spec,
    /// The repository, if one was named.
    pub workspace: Option<WorkspacePlan>,
    /// Files of the owner's home it gets.
    pub file_sync: Vec<Wanted>,
    /// Words of the command; empty is a shell.
    pub command: Vec<String>,
    /// For command or shell.
    pub terminal: Terminal,
    /// Whose command or shell; empty: whom the image names, else root's.
    pub user: String,
    /// What becomes of the VM.
    pub ending: Ending,
    /// Work done in the guest goes with it.
    pub discard: bool,
    /// The workspace is kept in step.
    pub watch: Option<Mode>,
}

/// What becomes of the VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It goes on running when the session ends.
    Keep,
    /// `--rm`.
    Delete,
    /// `-d`: there is no session.
    Detach,
}

/// A repository and where it goes.
#[derive(Debug)]
pub struct WorkspacePlan {
    /// A directory in it.
    pub path: PathBuf,
    /// What of it.
    pub options: ObserveOptions,
    /// Where in the guest.
    pub guest_path: GuestPath,
}
