//! The command's stdout and stderr to ours, in the order they arrived, from a thread of its own: a slow reader
//! blocks that thread only.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::error::CliError;
use crate::ui::{Channel, Ui};
use crate::view::event::RunEvent;

const CHUNKS_AHEAD: usize = 32;

/// The sender is closed once nobody reads our stdout any more; the task ends when all is written.
pub(super) fn start(ui: Arc<Ui>) -> (mpsc::Sender<(Channel, Bytes)>, JoinHandle<()>) {
    let (sender, mut receiver) = mpsc::channel::<(Channel, Bytes)>(CHUNKS_AHEAD);
    let written = tokio::task::spawn_blocking(move || {
        while let Some((channel, bytes)) = receiver.blocking_recv() {
            if write(&ui, channel, &bytes).is_err() {
                return;
            }
        }
    });
    (sender, written)
}

fn write(ui: &Ui, channel: Channel, bytes: &[u8]) -> Result<(), CliError> {
    if ui.is_json() {
        return ui.event(&RunEvent::output(channel, bytes));
    }
    match (channel, ui.bytes(channel, bytes)) {
        // As after SIGPIPE, the command has lost its reader; for stderr alone it goes on.
        (Channel::Data, Err(_)) => Err(CliError::OutputClosed),
        (Channel::Data | Channel::Notes, _) => Ok(()),
    }
}
