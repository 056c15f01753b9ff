//! Nothing is lost with a VM: whoever deletes one is told what exists only in it, or gets it as a file first.

use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use banger_proto::failure::Kind;
use banger_proto::v1::{Vm, VmState};
use banger_sync::export::work::{GuestWork, look, mark_exported};
use banger_sync::export::{Item, Wanted, bundle, export};
use banger_sync::receiver::sync_command;
use banger_sync::ssh::Connection;

use super::reach;
use crate::client::Client;
use crate::context::Context;
use crate::error::CliError;
use crate::view::time::now_ms;
use crate::workspace_record::WorkspaceRecord;

/// For a VM that says it runs: one that does not answer is not asked for longer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Refuses a VM whose workspace has work that exists nowhere else, or of which that cannot be told.
///
/// # Errors
/// [`Kind::Refused`].
pub async fn ensure_safe(context: &Context, client: &Client, vm: &Vm) -> Result<(), CliError> {
    let Some(path) = guest_path(vm) else { return Ok(()) };
    let name = &vm.name;
    match vm.state() {
        VmState::Running | VmState::Booting => {
            let looked = async {
                let connection = reach::connect(context, client, vm, PATIENCE).await?;
                let work = look(&connection, &sync_command(&path)).await;
                connection.close().await;
                Ok::<_, CliError>(work?)
            };
            match looked.await {
                Ok(work) if work.is_safe() => Ok(()),
                Ok(work) => Err(refusal(name, &work)),
                // Somebody removed the workspace: there is none to lose.
                Err(error) if error.kind() == Some(Kind::NotFound) => Ok(()),
                Err(error) => {
                    let hint = format!("See what it does with `banger vm logs {name}`.");
                    Err(unknown(name, &words(&error)).hint(hint))
                }
            }
        }
        VmState::Created | VmState::Provisioned => Ok(()),
        VmState::Stopping | VmState::Stopped | VmState::Broken | VmState::Unspecified => {
            let state = context.paths()?.state;
            match WorkspaceRecord::load(&state, &vm.id).safe_when_stopped {
                Some(true) => Ok(()),
                Some(false) => Err(unsaved(name, "it had when it was stopped")
                    .hint(format!("Start it with `banger vm start {name}`, then export the work."))),
                None => Err(unknown(name, "it was not stopped by `banger vm stop`")
                    .hint(format!("Start it with `banger vm start {name}` to have it looked at."))),
            }
        }
    }
}

/// Notes before a stop whether there is work: afterwards nobody can look. Best effort.
pub async fn note_before_stop(context: &Context, client: &Client, vm: &Vm) {
    let Some(path) = guest_path(vm) else { return };
    let Ok(paths) = context.paths() else { return };
    let safe = async {
        let connection = reach::connect(context, client, vm, Duration::ZERO).await.ok()?;
        let work = look(&connection, &sync_command(&path)).await;
        connection.close().await;
        Some(work.ok()?.is_safe())
    };
    let safe = tokio::time::timeout(PATIENCE, safe).await.ok().flatten();
    let mut record = WorkspaceRecord::load(&paths.state, &vm.id);
    record.safe_when_stopped = safe;
    record.save(&paths.state, &vm.id);
}

/// A VM that starts can make new work.
pub fn forget_stop(context: &Context, vm: &Vm) {
    if let Ok(paths) = context.paths() {
        let mut record = WorkspaceRecord::load(&paths.state, &vm.id);
        if record.safe_when_stopped.take().is_some() {
            record.save(&paths.state, &vm.id);
        }
    }
}

/// Where the guest's work is kept.
#[derive(Debug)]
pub struct Spooled {
    /// Everything that is not in the base commit.
    pub patch: PathBuf,
    /// The guest's commits, for `git fetch`.
    pub bundle: Option<PathBuf>,
}

/// Before `--rm` deletes: writes the guest's work into files, if there is any.
///
/// # Errors
/// It cannot be told, or not be written; the VM must stay.
pub async fn spool(context: &Context, connection: &Connection, vm: &Vm) -> Result<Option<Spooled>, CliError> {
    let Some(workspace) = &vm.workspace else { return Ok(None) };
    let Some(path) = guest_path(vm) else { return Ok(None) };
    let command = sync_command(&path);
    match look(connection, &command).await {
        Ok(work) if work.is_safe() => return Ok(None),
        Ok(_) => {}
        Err(error) => {
            let error = CliError::from(error);
            return if error.kind() == Some(Kind::NotFound) { Ok(None) } else { Err(error) };
        }
    }
    let directory = context.paths()?.state.join("exports");
    let failed = |action: &str, source: &std::io::Error| {
        CliError::new(Kind::HostNotReady, format!("cannot {action} {}", directory.display()))
            .map(|failure| failure.caused_by(source.to_string()))
    };
    std::fs::create_dir_all(&directory).map_err(|source| failed("create", &source))?;
    let temporary = || tempfile::NamedTempFile::new_in(&directory).map_err(|source| failed("write to", &source));
    let (mut patch, mut pack) = (temporary()?, temporary()?);
    let base = gix::ObjectId::from_hex(workspace.head_commit.as_bytes()).ok();
    let wanted = Wanted { base, patch: true, pack: true, ..Wanted::default() };
    let summary = export(connection, &command, wanted, &mut |item| match item {
        Item::Patch(bytes) => patch.write_all(bytes),
        Item::Pack(bytes) => pack.write_all(bytes),
        Item::Change(_) | Item::Content(_) => Ok(()),
    })
    .await?;
    let stem = format!("{}-{}", vm.name, now_ms());
    let keep = |file: tempfile::NamedTempFile, extension: &str| {
        let kept = directory.join(format!("{stem}.{extension}"));
        file.as_file().sync_all().map_err(|source| failed("write to", &source))?;
        file.persist_noclobber(&kept).map_err(|error| failed("write to", &error.error))?;
        Ok::<_, CliError>(kept)
    };
    let bundle = match bundle::header(&summary, base) {
        Some(header) => {
            let mut file = temporary()?;
            let joined = file.write_all(header.as_bytes()).and_then(|()| {
                std::io::copy(&mut pack.reopen()?, &mut file)?;
                Ok(())
            });
            joined.map_err(|source| failed("write to", &source))?;
            Some(keep(file, "bundle")?)
        }
        None => None,
    };
    let kept = Spooled { patch: keep(patch, "patch")?, bundle };
    // The VM is deleted next; that it does not know of its export matters only if that fails.
    let _ = mark_exported(connection, &command, &summary.fingerprint).await;
    Ok(Some(kept))
}

/// In one clause.
pub fn describe(work: &GuestWork) -> String {
    let mut parts = Vec::new();
    if work.moved {
        parts.push("commits or a branch of its own".to_owned());
    }
    for (count, one, many) in
        [(work.changed, "changed file", "changed files"), (work.untracked, "new file", "new files")]
    {
        match count {
            0 => {}
            1 => parts.push(format!("1 {one}")),
            count => parts.push(format!("{count} {many}")),
        }
    }
    let sample = work.sample.iter().take(3).cloned().collect::<Vec<_>>().join(", ");
    if sample.is_empty() { parts.join(", ") } else { format!("{} ({sample}, …)", parts.join(", ")) }
}

fn words(error: &CliError) -> String {
    match error {
        CliError::Failed(failure) => failure.to_string(),
        CliError::OutputClosed => "it cannot be asked".into(),
    }
}

fn guest_path(vm: &Vm) -> Option<String> {
    let workspace = vm.workspace.as_ref()?;
    Some(String::from_utf8_lossy(&workspace.guest_path).into_owned())
}

fn refusal(name: &str, work: &GuestWork) -> CliError {
    unsaved(name, &describe(work))
}

fn unsaved(name: &str, what: &str) -> CliError {
    let message = format!("refusing to delete VM {name}: its workspace has work that exists nowhere else");
    CliError::new(Kind::Refused, message)
        .map(|failure| failure.caused_by(what))
        .hint(format!("Take it out with `banger vm workspace export {name} -o {name}.patch`."))
        .hint(format!("Delete it with everything in it: `banger vm delete --discard {name}`."))
}

fn unknown(name: &str, why: &str) -> CliError {
    let message = format!("refusing to delete VM {name}: nobody can tell whether its workspace has work of its own");
    CliError::new(Kind::Refused, message)
        .map(|failure| failure.caused_by(why))
        .hint(format!("Delete it with everything in it: `banger vm delete --discard {name}`."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_described_in_one_clause() {
        let work =
            GuestWork { moved: true, changed: 1, untracked: 2, sample: vec!["a".into(), "b".into()], exported: false };
        assert_eq!(describe(&work), "commits or a branch of its own, 1 changed file, 2 new files (a, b, …)");
    }
}
