use super::*;

/// A host with systemctl that succeeds, and an installation of two files.
fn installed(root: &Path) -> Host {
    use std::os::unix::fs::PermissionsExt as _;
    let host = Host::below(root);
    for directory in ["/usr/bin", PROGRAM_DIRECTORY, "/etc/banger", STATE_DIRECTORY, HELPER_STATE_DIRECTORY] {
        std::fs::create_dir_all(host.at(directory)).unwrap();
    }
    std::fs::write(host.at("/usr/bin/systemctl"), "#!/bin/sh\nexit 0\n").unwrap();
    std::fs::set_permissions(host.at("/usr/bin/systemctl"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut manifest = Manifest::default();
    for directory in ["/etc/banger", PROGRAM_DIRECTORY, STATE_DIRECTORY, HELPER_STATE_DIRECTORY] {
        manifest.note(Entry::Directory { path: directory.into() });
    }
    for (path, content) in [(format!("{PROGRAM_DIRECTORY}/bangerd"), "one"), (INSTALL_FILE.to_owned(), "two")] {
        std::fs::write(host.at(&path), content).unwrap();
        manifest.note(Entry::File { path: path.into(), sha256: manifest::digest(content.as_bytes()) });
    }
    std::fs::write(host.at(manifest::FILE), manifest.render()).unwrap();
    std::fs::create_dir(host.at(format!("{STATE_DIRECTORY}/images"))).unwrap();
    std::fs::write(host.at(format!("{STATE_DIRECTORY}/bangerd.db")), "").unwrap();
    host
}

fn uninstall(host: &Host, extent: Extent) -> Outcome {
    let removal = Removal::decide(host, extent).unwrap().unwrap();
    perform(host, &removal)
}

#[test]
fn a_purge_leaves_nothing() {
    let scratch = tempfile::tempdir().unwrap();
    let host = installed(scratch.path());
    let outcome = uninstall(&host, Extent::Everything);
    assert_eq!(outcome.failed, Vec::<String>::new());
    for path in ["/etc/banger", PROGRAM_DIRECTORY, STATE_DIRECTORY, HELPER_STATE_DIRECTORY] {
        assert!(!host.at(path).exists(), "{path}: {outcome:?}");
    }
    assert!(Removal::decide(&host, Extent::Everything).unwrap().is_none());
}

#[test]
fn data_stays_without_purge_and_a_later_purge_still_finds_it() {
    let scratch = tempfile::tempdir().unwrap();
    let host = installed(scratch.path());
    uninstall(&host, Extent::Programs);
    assert!(host.at(STATE_DIRECTORY).join("images").is_dir() && !host.at(INSTALL_FILE).exists());
    assert!(!host.at(PROGRAM_DIRECTORY).exists());
    uninstall(&host, Extent::Everything);
    assert!(!host.at(STATE_DIRECTORY).exists() && !host.at("/etc/banger").exists());
}

#[test]
fn what_was_changed_or_put_there_by_others_is_told_and_stays() {
    let scratch = tempfile::tempdir().unwrap();
    let host = installed(scratch.path());
    let edited = format!("{PROGRAM_DIRECTORY}/bangerd");
    let notes = format!("{STATE_DIRECTORY}/notes");
    std::fs::write(host.at(&edited), "edited").unwrap();
    std::fs::write(host.at("/etc/banger/config.toml"), "").unwrap();
    std::fs::write(host.at(&notes), "").unwrap();
    let removal = Removal::decide(&host, Extent::Everything).unwrap().unwrap();
    for path in [edited.as_str(), "/etc/banger/config.toml", notes.as_str()] {
        let item = removal.items.iter().find(|item| item.what == path).unwrap();
        assert!(item.action == "keep" && item.reason.is_some(), "{item:?}");
    }
    perform(&host, &removal);
    for path in [edited.as_str(), "/etc/banger/config.toml", notes.as_str()] {
        assert!(host.at(path).exists(), "{path}");
    }
    assert!(!host.at(INSTALL_FILE).exists() && !host.at(manifest::FILE).exists());
    assert!(!host.at(format!("{STATE_DIRECTORY}/images")).exists());
}
