//! `[[file_sync]]` around a start: read before anything is made, delivered as soon as the guest answers, told about.
//! What is in the files is never told.

use banger_proto::failure::Kind;
use banger_proto::roots::Environment;
use banger_proto::v1::{GetVmRequest, Vm, VmState};
use banger_sync::files::{self, Files, Guest, Wanted};
use banger_sync::receiver::deliver_command;
use banger_sync::ssh::Connection;

use super::reach;
use crate::client::Client;
use crate::context::Context;
use crate::error::{CliError, OrFail as _};
use crate::ui::progress::Unit;
use crate::view::files::FilesView;

/// root's home in every guest.
const GUEST_HOME: &str = "/root";
/// More warnings than this say nothing new.
const WARNINGS: usize = 20;

/// Reads them, and tells what is left out.
///
/// # Errors
/// Something cannot be read, leads out of the home, or is too much.
pub async fn read(context: &Context, wanted: &[Wanted]) -> Result<Files, CliError> {
    if wanted.is_empty() {
        return Ok(Files::default());
    }
    let home = Environment::observe().home.ok_or_else(|| {
        CliError::new(Kind::HostNotReady, "cannot tell where your home directory is: HOME is not set")
            .hint("Set `HOME` to your home directory.")
    })?;
    let wanted = wanted.to_vec();
    let reading = tokio::task::spawn_blocking(move || Files::read(&home, &wanted)).await;
    let files = reading.map_err(|crash| {
        CliError::new(Kind::Internal, "reading the files of file_sync crashed")
            .map(|failure| failure.caused_by(crash.to_string()))
    })??;
    for warning in files.warnings().iter().take(WARNINGS) {
        context.ui.warn(warning);
    }
    if let Some(more @ 1..) = files.warnings().len().checked_sub(WARNINGS) {
        context.ui.warn(&format!("[[file_sync]]: {more} more files and links are left out"));
    }
    Ok(files)
}

/// Delivers them to a guest that answers, and tells. `None`: there are none.
///
/// # Errors
/// They are not all there.
pub async fn deliver(
    context: &Context,
    connection: &Connection,
    files: &Files,
    (vm, guest): (&Vm, Guest),
) -> Result<Option<FilesView>, CliError> {
    if files.is_empty() {
        return Ok(None);
    }
    let delivered = {
        let progress = context.ui.progress();
        progress.message(&format!("copying {} files of file_sync", files.count()));
        progress.count(0, files.bytes(), Unit::Bytes);
        files::deliver(connection, files, guest, &deliver_command(GUEST_HOME)).await
    };
    let delivered =
        delivered.map_err(|error| CliError::from(error).context("cannot deliver the files of file_sync"))?;
    let view = FilesView::new(files, &delivered);
    for warning in view.warnings(&vm.name) {
        context.ui.warn(&warning);
    }
    context.ui.status(&view.line());
    Ok(Some(view))
}

/// The same for a VM that was just started and to which there is no connection yet.
///
/// # Errors
/// As [`deliver`], or it does not answer; it runs on.
pub async fn deliver_after_start(
    context: &Context,
    client: &Client,
    files: &Files,
    (vm, guest): (&Vm, Guest),
) -> Result<(), CliError> {
    if files.is_empty() {
        return Ok(());
    }
    let delivering = async {
        // Its address may be another one than before.
        let vm = client.vms().get(GetVmRequest { reference: vm.id.clone() }).await.or_fail()?.into_inner();
        let connection = reach::connect(context, client, &vm, reach::ALREADY_RUNNING).await?;
        let delivered = deliver(context, &connection, files, (&vm, guest)).await;
        connection.close().await;
        delivered.map(drop)
    };
    let name = &vm.name;
    delivering.await.map_err(|error| {
        error.hint(format!("The VM {name} runs without them; `banger vm restart {name}` delivers them again."))
    })
}

/// Whether anybody but the image can have written in it before this start.
pub fn guest_before_start(vm: &Vm) -> Guest {
    match vm.state() {
        VmState::Created | VmState::Provisioned => Guest::Fresh,
        VmState::Unspecified
        | VmState::Booting
        | VmState::Running
        | VmState::Stopping
        | VmState::Stopped
        | VmState::Broken => Guest::Used,
    }
}
