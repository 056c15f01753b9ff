//! `banger image cache …`.

use banger_proto::v1::PruneImageCacheRequest;
use clap::{Args, Subcommand};
use serde::Serialize;

use crate::context::Context;
use crate::error::{CommandResult, OrFail as _};
use crate::view::bytes;

/// What was downloaded for images
///
///     banger image cache prune --dry-run
#[derive(Debug, Subcommand)]
#[command(verbatim_doc_comment, arg_required_else_help = true)]
pub enum CacheCommand {
    Prune(PruneArgs),
}

/// Remove downloaded layers
///
/// Images stay: layers only make the next pull quick.
///
///     banger image cache prune --dry-run
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct PruneArgs {
    /// Only tell what would be freed
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Serialize)]
struct PruneView {
    dry_run: bool,
    blobs: u64,
    bytes: u64,
}

/// Runs it.
///
/// # Errors
/// The daemon's failure.
pub async fn run(context: &Context, command: CacheCommand) -> CommandResult {
    let CacheCommand::Prune(args) = command;
    let client = context.client().await?;
    let request = PruneImageCacheRequest { dry_run: args.dry_run };
    let pruned = client.images().prune_cache(request).await.or_fail()?.into_inner();
    if context.ui.is_json() {
        context.ui.json(&PruneView { dry_run: args.dry_run, blobs: pruned.blobs, bytes: pruned.bytes })?;
    }
    let would = if args.dry_run { "would free" } else { "freed" };
    context.ui.status(&format!("{would} {} in {} layers and configurations", bytes(pruned.bytes), pruned.blobs));
    Ok(0)
}
