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

use crate::context::Context;
use crate::error::CommandResult;

/// What to do.
#[derive(Debug, Subcommand)]
// Made once, by the parser.
#[allow(clippy::large_enum_variant)]
pub enum Command {
    #[command(subcommand)]
    Vm(vm::VmCommand),
    Ps(vm::list::ListArgs),
    #[command(subcommand)]
    Image(image::ImageCommand),
    #[command(subcommand)]
    Kernel(kernel::KernelCommand),
    #[command(subcommand)]
    System(system::SystemCommand),
    Doctor(doctor::DoctorArgs),
    Version(version::VersionArgs),
    Completion(completion::CompletionArgs),
}

/// Runs it.
///
/// # Errors
/// Of the command.
pub async fn run(context: &Context, command: Command) -> CommandResult {
    match command {
        Command::Vm(command) => vm::run(context, command).await,
        Command::Ps(args) => vm::list::run(context, args).await,
        Command::Image(command) => image::run(context, command).await,
        Command::Kernel(command) => kernel::run(context, command).await,
        Command::System(command) => system::run(context, command).await,
        Command::Doctor(args) => doctor::run(context, args).await,
        Command::Version(args) => version::run(context, args).await,
        Command::Completion(args) => completion::run(context, &args),
    }
}
