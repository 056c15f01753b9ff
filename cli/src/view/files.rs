//! What became of the files of `[[file_sync]]`, for people and as an event.

use banger_sync::files::{Delivered, Files};
use serde::Serialize;

use super::bytes;
use super::workspace::ConflictView;

/// See the module. Names and counts, never content.
#[derive(Debug, Serialize)]
pub struct FilesView {
    files: usize,
    bytes: u64,
    files_written: u64,
    bytes_sent: u64,
    conflicts: Vec<ConflictView>,
}

impl FilesView {
    /// From what was asked and what was done.
    pub fn new(files: &Files, delivered: &Delivered) -> Self {
        Self {
            files: files.count(),
            bytes: files.bytes(),
            files_written: delivered.written,
            bytes_sent: delivered.bytes_sent,
            conflicts: delivered.conflicts.iter().map(ConflictView::from).collect(),
        }
    }

    /// One line for people.
    pub fn line(&self) -> String {
        let files = if self.files == 1 { "1 file".to_owned() } else { format!("{} files", self.files) };
        let changed = match self.files_written {
            0 => "; nothing new".to_owned(),
            written if written == self.files as u64 => String::new(),
            written => format!("; {written} written"),
        };
        format!("{files} of file_sync, {}{changed}", bytes(self.bytes))
    }

    /// What the guest has otherwise.
    pub fn warnings(&self, vm: &str) -> Vec<String> {
        self.conflicts
            .iter()
            .map(|conflict| format!("file_sync: /root/{} in {vm} {}", conflict.path(), conflict.what()))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(files: usize, files_written: u64) -> FilesView {
        FilesView { files, bytes: 12 << 10, files_written, bytes_sent: 0, conflicts: Vec::new() }
    }

    #[test]
    fn the_line_counts() {
        assert_eq!(view(3, 3).line(), "3 files of file_sync, 12.0 KiB");
        assert_eq!(view(1, 0).line(), "1 file of file_sync, 12.0 KiB; nothing new");
        assert_eq!(view(3, 2).line(), "3 files of file_sync, 12.0 KiB; 2 written");
    }
}
