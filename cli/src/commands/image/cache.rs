//! `banger image cache …`.

use banger_proto::v1::PruneImageCacheRequest;
use clap::{Args, Subcommand};
use serde::Serialize;

use crate::context::Context;
use crate::error::{CommandResult, OrFail as _};
use crate::view::bytes;

/// What only makes the next pull quick, or was replaced
///
///     banger image cache prune --dry-run
#[derive(Debug, Subcommand)]
#[command(verbatim_doc_comment, arg_required_else_help = true)]
pub enum CacheCommand {
    Prune(PruneArgs),
}

/// Remove downloaded layers and replaced builds
///
/// Images and kernels stay: layers only make the next pull quick, and builds of an image or kernel that a newer one has
/// replaced are only kept for the VMs that boot from them.
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
    old_builds: u64,
    old_build_bytes: u64,
    total_bytes: u64,
}

impl PruneView {
    fn line(&self) -> String {
        format!(
            "{} {}: {} in {} layers and configurations, {} in {} replaced builds",
            if self.dry_run { "would free" } else { "freed" },
            bytes(self.total_bytes),
            bytes(self.bytes),
            self.blobs,
            bytes(self.old_build_bytes),
            self.old_builds
        )
    }
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
    let view = PruneView {
        dry_run: args.dry_run,
        blobs: pruned.blobs,
        bytes: pruned.bytes,
        old_builds: pruned.old_builds,
        old_build_bytes: pruned.old_build_bytes,
        total_bytes: pruned.bytes + pruned.old_build_bytes,
    };
    if context.ui.is_json() {
        context.ui.json(&view)?;
    }
    context.ui.status(&view.line());
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_and_the_sum_are_told() {
        let view = PruneView {
            dry_run: true,
            blobs: 3,
            bytes: 2 << 20,
            old_builds: 1,
            old_build_bytes: 1 << 20,
            total_bytes: 3 << 20,
        };
        assert_eq!(
            view.line(),
            "would free 3.0 MiB: 2.0 MiB in 3 layers and configurations, 1.0 MiB in 1 replaced builds"
        );
    }
}
