//! The single checks of [`super::examine`].

use std::path::Path;

use banger_proto::failure::{Classified as _, Failure};
use banger_proto::size::MiB;

use super::{Finding, tool};
use crate::paths::Paths;
use crate::store::Store;
use crate::vm::observe;

/// Below this an image cannot be built or a VM not be used for long.
const SPACE_WARN_MIB: u64 = 5 << 10;
const SPACE_FAIL_MIB: u64 = 512;
/// A whole distribution's users and groups.
const IDS_NEEDED: u64 = 65_536;

pub(super) fn architecture() -> Finding {
    const TITLE: &str = "architecture";
    match std::env::consts::ARCH {
        "x86_64" => Finding::pass(TITLE, "x86_64"),
        other => Finding::fail(TITLE, other, "Use an x86_64 host; check with `uname -m`."),
    }
}

pub(super) async fn mmdebstrap() -> Finding {
    let hint = "Install it, on Debian and Ubuntu with `sudo apt-get install mmdebstrap`; images are built with it.";
    tool("image builder", "mmdebstrap", hint).await
}

pub(super) fn guest_binary(paths: &Paths) -> Finding {
    const TITLE: &str = "guest binary";
    match paths.guest_binary() {
        Ok(path) => Finding::pass(TITLE, path.display().to_string()),
        Err(error) => Finding::fail(TITLE, error.to_string(), error.hints().join(" ")),
    }
}

/// Images are built in a user namespace with a range of ids; root needs none.
pub(super) fn subordinate_ids() -> Finding {
    const TITLE: &str = "user namespace for image builds";
    let uid = rustix::process::getuid().as_raw();
    if uid == 0 {
        return Finding::pass(TITLE, "not needed as root");
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    if !std::env::split_paths(&path).any(|directory| directory.join("newuidmap").is_file()) {
        return Finding::fail(
            TITLE,
            "newuidmap is not installed",
            "Install it, on Debian and Ubuntu with `sudo apt-get install uidmap`.",
        );
    }
    let user = std::env::var("USER").unwrap_or_default();
    for file in ["/etc/subuid", "/etc/subgid"] {
        let ids = subordinate_count(&std::fs::read_to_string(file).unwrap_or_default(), &user, uid);
        if ids < IDS_NEEDED {
            return Finding::fail(
                TITLE,
                format!("{file} gives this user {ids} ids, {IDS_NEEDED} are needed"),
                "Add a range with `sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 $USER`.",
            );
        }
    }
    Finding::pass(TITLE, "newuidmap and id ranges are there")
}

fn subordinate_count(text: &str, user: &str, uid: u32) -> u64 {
    let uid = uid.to_string();
    let counts = text.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let owner = fields.next()?;
        let count = fields.nth(1)?.trim().parse::<u64>().ok()?;
        (owner == uid || (!user.is_empty() && owner == user)).then_some(count)
    });
    counts.sum()
}

pub(super) fn free_space(title: &'static str, root: &Path) -> Finding {
    let hint = format!("Free some space on that file system; look with `df -h {}`.", root.display());
    match observe::free_mib(root) {
        Ok(free) => {
            let shown = MiB::new(free).map_or_else(
                |_| format!("{free} MiB"),
                |_| format!("{}.{} GiB", free >> 10, (free % 1024) * 10 / 1024),
            );
            let detail = format!("{shown} free at {}", root.display());
            match free {
                0..SPACE_FAIL_MIB => Finding::fail(title, detail, hint),
                SPACE_FAIL_MIB..SPACE_WARN_MIB => Finding::warn(title, detail, hint),
                _ => Finding::pass(title, detail),
            }
        }
        Err(error) => Finding::fail(title, Failure::from_error(&error).to_string(), hint),
    }
}

pub(super) fn runtime_directory(paths: &Paths) -> Finding {
    const TITLE: &str = "runtime directory";
    match paths.ensure() {
        Ok(()) => Finding::pass(TITLE, format!("{} is private", paths.runtime.display())),
        Err(error) => Finding::fail(TITLE, Failure::from_error(&error).to_string(), error.hints().join(" ")),
    }
}

pub(super) async fn store(store: &Store) -> Finding {
    const TITLE: &str = "store";
    match store.check().await {
        Ok(()) => Finding::pass(TITLE, format!("{} is sound", store.path().display())),
        Err(error) => Finding::fail(TITLE, Failure::from_error(&error).to_string(), error.hints().join(" ")),
    }
}

/// What an earlier, moved-aside store left.
pub(super) async fn foreign_vms(store: &Store, paths: &Paths) -> Finding {
    const TITLE: &str = "VMs of an earlier store";
    let left: Vec<_> = match store.foreign_vms().await {
        Ok(ids) => ids.iter().map(|id| paths.vm(id)).filter(|path| path.exists()).collect(),
        Err(error) => return Finding::fail(TITLE, Failure::from_error(&error).to_string(), error.hints().join(" ")),
    };
    if left.is_empty() {
        return Finding::pass(TITLE, "none");
    }
    let mut finding = Finding::warn(
        TITLE,
        "no VM of this store owns these directories, and banger will not touch them:",
        "Save what you need from them, then remove them with `rm -r`.",
    );
    finding.details.extend(left.iter().map(|path| path.display().to_string()));
    finding
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_a_user_are_added_up_by_name_and_by_uid() {
        let text = "me:100000:65536\nother:1:9\n1000:5:10\nbroken\nme:x:y\n";
        assert_eq!(subordinate_count(text, "me", 1000), 65_546);
        assert_eq!(subordinate_count(text, "", 1000), 10);
        assert_eq!(subordinate_count(text, "nobody", 7), 0);
    }
}
