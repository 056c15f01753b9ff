//! What is to lie where. Pure: directories, units and metadata for one owner.

use std::path::{Path, PathBuf};

use banger_proto::install::{
    CACHE_DIRECTORY, CONFIG_DIRECTORY, HELPER_STATE_DIRECTORY, INSTALL_FILE, Install, PROGRAM_DIRECTORY,
    STATE_DIRECTORY,
};

use super::program::Program;

/// The daemon's unit.
pub const DAEMON_UNIT: &str = crate::client::installed::UNIT;
/// The helper's unit.
pub const HELPER_UNIT: &str = "bangerd-root.service";
/// Where images are asked to be built.
pub const BUILD_SOCKET: &str = "banger-build.socket";
/// A build; started by the socket.
const BUILD_UNIT: &str = "banger-build@.service";
/// Where the machine monitors run; started with the helper, and stopped by it when everything goes.
const VMS_SLICE: &str = "banger.slice";
/// What is started, in this order: the daemon asks the others.
pub const STARTED_UNITS: [&str; 3] = [BUILD_SOCKET, HELPER_UNIT, DAEMON_UNIT];
/// Where an administrator's units lie.
pub const UNIT_DIRECTORY: &str = "/etc/systemd/system";

/// Each unit with its template.
const UNITS: [(&str, &str); 5] = [
    (HELPER_UNIT, include_str!("../../../systemd/bangerd-root.service")),
    (DAEMON_UNIT, include_str!("../../../systemd/bangerd.service")),
    (BUILD_SOCKET, include_str!("../../../systemd/banger-build.socket")),
    (VMS_SLICE, include_str!("../../../systemd/banger.slice")),
    (BUILD_UNIT, include_str!("../../../systemd/banger-build@.service")),
];

/// Where an administrator's udev rules lie. udev notices new ones by itself.
const RULES_DIRECTORY: &str = "/etc/udev/rules.d";
/// udev keeps away from what guests write, and systemd from what comes and goes with them.
const RULES: [(&str, &str); 2] = [
    ("50-banger.rules", include_str!("../../../systemd/50-banger.rules")),
    ("99-z-banger.rules", include_str!("../../../systemd/99-z-banger.rules")),
];

/// Whose something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ownership {
    /// root.
    Root,
    /// The owner of the installation.
    User {
        /// User.
        uid: u32,
        /// Group.
        gid: u32,
    },
}

/// A directory with its exact mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Directory {
    /// Absolute.
    pub path: &'static str,
    /// All of it.
    pub mode: u32,
    /// Whose.
    pub ownership: Ownership,
}

/// A file with its content.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Absolute.
    pub path: PathBuf,
    /// All of it.
    pub content: Vec<u8>,
    /// Of root's file.
    pub mode: u32,
}

/// Directories that hold data: kept by an uninstall that does not purge.
pub const DATA: [&str; 3] = [STATE_DIRECTORY, CACHE_DIRECTORY, HELPER_STATE_DIRECTORY];

/// All directories. Those below /run are made by systemd.
pub fn directories(install: &Install) -> Vec<Directory> {
    let user = Ownership::User { uid: install.owner.uid, gid: install.owner.gid };
    vec![
        Directory { path: CONFIG_DIRECTORY, mode: 0o755, ownership: Ownership::Root },
        Directory { path: PROGRAM_DIRECTORY, mode: 0o755, ownership: Ownership::Root },
        Directory { path: STATE_DIRECTORY, mode: 0o700, ownership: user },
        Directory { path: CACHE_DIRECTORY, mode: 0o700, ownership: user },
        Directory { path: HELPER_STATE_DIRECTORY, mode: 0o711, ownership: Ownership::Root },
    ]
}

/// All files but the manifest, in the order they are put in place.
pub fn files(install: &Install, group: &str, programs: Vec<Program>) -> Vec<Wanted> {
    let programs =
        programs.into_iter().map(|program| Wanted { path: program.target, content: program.content, mode: 0o755 });
    let text = |path: PathBuf, content: String| Wanted { path, content: content.into_bytes(), mode: 0o644 };
    let units = UNITS.map(|(name, template)| text(unit_path(name), render_unit(template, &install.owner.name, group)));
    let rules = RULES.map(|(name, rules)| text(Path::new(RULES_DIRECTORY).join(name), rules.to_owned()));
    programs.chain(units).chain(rules).chain([text(PathBuf::from(INSTALL_FILE), install.render())]).collect()
}

/// Where a unit lies.
pub fn unit_path(name: &str) -> PathBuf {
    Path::new(UNIT_DIRECTORY).join(name)
}

fn render_unit(template: &str, owner: &str, group: &str) -> String {
    // systemd expands % in most settings.
    let plain = |text: &str| text.replace('%', "%%");
    template.replace("@OWNER@", &plain(owner)).replace("@GROUP@", &plain(group))
}

/// Which services must start anew after these files changed, and the metadata from `before` to `after`.
pub fn restarts(changed: &[PathBuf], before: Option<&Install>, after: &Install) -> Vec<&'static str> {
    let has = |path: &Path| changed.iter().any(|changed| changed == path);
    let program = |name: &str| has(&Path::new(PROGRAM_DIRECTORY).join(name));
    // The build and its times are only told, not used.
    let metadata = before.is_none_or(|before| before.owner != after.owner || before.network != after.network);
    let mut units = Vec::new();
    // firecracker, jailer and banger-guest are opened anew for each VM, banger-build for each build.
    if before.is_none_or(|before| before.owner != after.owner) || has(&unit_path(BUILD_SOCKET)) {
        units.push(BUILD_SOCKET);
    }
    if metadata || program("bangerd-root") || has(&unit_path(HELPER_UNIT)) {
        units.push(HELPER_UNIT);
    }
    if metadata || program("bangerd") || has(&unit_path(DAEMON_UNIT)) {
        units.push(DAEMON_UNIT);
    }
    units
}

#[cfg(test)]
mod tests {
    use banger_proto::install::{Build, Network, Owner};

    use super::*;

    #[test]
    fn the_unit_names_the_owner_and_nothing_is_left_to_fill_in() {
        for (name, template) in UNITS {
            let unit = render_unit(template, "dev", "users%");
            assert!(!unit.contains("@OWNER@") && !unit.contains("@GROUP@"), "{name}: {unit}");
            let has_a_user = ![HELPER_UNIT, VMS_SLICE].contains(&name);
            assert!(!has_a_user || unit.contains("Group=users%%\n"), "{name}: {unit}");
        }
    }

    #[test]
    fn only_what_changed_starts_anew() {
        let install = |name: &str, updated_unix_s| Install {
            owner: Owner { name: name.into(), uid: 1000, gid: 1000, home: "/home/dev".into() },
            build: Build { version: "1".into(), commit: "c".into(), installed_unix_s: 1, updated_unix_s },
            network: Network::default(),
        };
        let program = |name: &str| Path::new(PROGRAM_DIRECTORY).join(name);
        let after = install("dev", 2);
        let changed = |changed: &[PathBuf]| restarts(changed, Some(&install("dev", 1)), &after);
        assert_eq!(changed(&[PathBuf::from(INSTALL_FILE)]), Vec::<&str>::new());
        assert_eq!(changed(&[program("firecracker"), program("banger-guest")]), Vec::<&str>::new());
        assert_eq!(changed(&[program("bangerd")]), [DAEMON_UNIT]);
        assert_eq!(changed(&[unit_path(HELPER_UNIT)]), [HELPER_UNIT]);
        assert_eq!(restarts(&[], Some(&install("joe", 1)), &after), STARTED_UNITS);
        assert_eq!(restarts(&[], None, &after), STARTED_UNITS);
    }
}
