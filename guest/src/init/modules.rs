//! The few modules in the initrd, in the order their list gives.
//!
//! A module that does not load is a warning: what needs it fails later with a better reason.

use std::path::Path;

use rustix::fs::{Mode, OFlags};

/// Loads every module the list names from `directory`; returns what went wrong.
pub fn load_all(directory: &Path, order: &Path) -> Vec<String> {
    let Ok(list) = std::fs::read_to_string(order) else {
        // A kernel with everything built in has no list.
        return Vec::new();
    };
    let names = list.lines().map(str::trim).filter(|name| !name.is_empty() && !name.contains('/'));
    names.filter_map(|name| load(&directory.join(name)).err().map(|error| format!("module {name}: {error}"))).collect()
}

fn load(path: &Path) -> rustix::io::Result<()> {
    let file = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    match rustix::system::finit_module(&file, c"", 0) {
        // Loaded already, or built in.
        Ok(()) | Err(rustix::io::Errno::EXIST) => Ok(()),
        Err(error) => Err(error),
    }
}
