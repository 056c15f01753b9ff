//! Every command: one file each with its arguments (whose comments are the help) and one `run` function.
//! This file and the group files only list and dispatch.

pub mod completion;
pub mod doctor;
pub mod image;
pub mod kernel;
pub mod system;
pub(crate) mod upload;
pub mod version;
pub mod vm;

use clap::Subcommand;

use crate::args::Deferred;
use crate::context::Context;
use crate::error::CommandResult;

/// What to do.
#[derive(Debug, Subcommand)]
// Made once, by the parser.
#[allow(clippy::large_enum_variant)]
pub enum Command {
    #[command(subcommand)]
    Vm(Deferred<vm::VmCommand>),
    Ps(Deferred<vm::list::ListArgs>),
    #[command(subcommand)]
    Image(Deferred<image::ImageCommand>),
    #[command(subcommand)]
    Kernel(Deferred<kernel::KernelCommand>),
    #[command(subcommand)]
    System(Deferred<system::SystemCommand>),
    Doctor(Deferred<doctor::DoctorArgs>),
    Version(Deferred<version::VersionArgs>),
    Completion(Deferred<completion::CompletionArgs>),
}

/// Runs it.
///
/// # Errors
/// Of the command.
pub async fn run(context: &Context, command: Command) -> CommandResult {
    match command {
        Command::Vm(Deferred(command)) => vm::run(context, command).await,
        Command::Ps(Deferred(args)) => vm::list::run(context, args).await,
        Command::Image(Deferred(command)) => image::run(context, command).await,
        Command::Kernel(Deferred(command)) => kernel::run(context, command).await,
        Command::System(Deferred(command)) => system::run(context, command).await,
        Command::Doctor(Deferred(args)) => doctor::run(context, args).await,
        Command::Version(Deferred(args)) => version::run(context, args).await,
        Command::Completion(Deferred(args)) => completion::run(context, &args),
    }
}
