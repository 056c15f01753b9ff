//! `banger vm workspace resolve`.

use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use banger_sync::watch::Side;
use clap::{Args, ValueEnum};

use crate::context::Context;
use crate::error::CommandResult;
use crate::follow::control::{self, Ask};
use crate::follow::record;
use crate::interrupt::Interrupts;

/// Settle conflicts of a followed workspace
///
///     banger vm workspace status box
///     banger vm workspace resolve box --prefer host src/main.c
///     banger vm workspace resolve box --prefer guest notes.txt
///
/// `host` replaces the guest's version of these files with yours; `guest` puts the guest's version into your working tree,
/// unless you have edited the file since. Paths are as `status` lists them, from the top of the repository.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct ResolveArgs {
    /// VM: name, id, or a beginning of either
    #[arg(value_name = "VM", add = crate::completer::vms())]
    pub vm: String,
    /// Whose version counts
    #[arg(long, value_name = "SIDE")]
    pub prefer: Preferred,
    /// Files in conflict
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,
}

/// Whose version counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Preferred {
    /// Yours
    Host,
    /// The guest's
    Guest,
}

impl From<Preferred> for Side {
    fn from(side: Preferred) -> Self {
        match side {
            Preferred::Host => Self::Host,
            Preferred::Guest => Self::Guest,
        }
    }
}

/// Runs it.
///
/// # Errors
/// There is no session, or one of them cannot be settled; those before it are.
pub async fn run(context: &Context, args: ResolveArgs) -> CommandResult {
    let mut interrupts = Interrupts::install()?;
    let found = record::the_one(&context.paths()?, &args.vm)?;
    for path in &args.paths {
        let ask = Ask::Prefer { host: args.prefer == Preferred::Host, path: path.as_os_str().as_bytes().to_vec() };
        let settling = control::ask(&found.place, &ask);
        let settled = interrupts.guard("settling a conflict", settling).await;
        settled.map_err(|error| error.context(format!("cannot settle {}", path.display())))?;
        context.ui.status(&format!("settled: {}", path.display()));
    }
    Ok(0)
}
