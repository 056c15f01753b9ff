//! Files of a home, through a real SSH server.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use banger_sync::files::{BYTES_LIMIT, Files, Guest, Wanted, deliver};
use banger_sync::path::TreePath;

use crate::prepare::command;
use crate::sshd::Sshd;

fn wanted(names: &[&str]) -> Vec<Wanted> {
    let one = |(entry, name): (usize, &&str)| Wanted {
        entry,
        host: (*name).into(),
        shown: format!("~/{name}"),
        guest: TreePath::parse(name.as_bytes()).unwrap(),
        mode: None,
    };
    (1..).zip(names).map(one).collect()
}

fn write(path: &Path, content: &[u8]) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_home_arrives_and_only_what_changed_is_sent_again() {
    let Some(sshd) = Sshd::start() else { return };
    let connection = sshd.connect().await;
    let place = tempfile::tempdir().unwrap();
    let (home, guest) = (place.path().join("home"), place.path().join("guest"));
    std::fs::create_dir(&guest).unwrap();
    let noise: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_le_bytes).collect();
    write(&home.join("large"), &noise);
    write(&home.join(".netrc"), b"secret");
    for number in 0..450 {
        write(&home.join(format!("many/{number}")), number.to_string().as_bytes());
    }
    let names = wanted(&["large", ".netrc", "many"]);
    let files = Files::read(&home, &names).unwrap();
    assert_eq!(files.count(), 452);
    let delivered = deliver(&connection, &files, Guest::Fresh, &command(&guest)).await.unwrap();
    assert_eq!((delivered.written, delivered.bytes_sent), (452, files.bytes()));
    assert!(delivered.conflicts.is_empty(), "{:?}", delivered.conflicts);
    assert_eq!(std::fs::read(guest.join("large")).unwrap(), noise);
    assert_eq!(std::fs::read(guest.join("many/449")).unwrap(), b"449");
    assert_eq!(std::fs::metadata(guest.join(".netrc")).unwrap().mode() & 0o7777, 0o600);

    write(&home.join("many/7"), b"seven");
    write(&guest.join(".netrc"), b"of the guest");
    let files = Files::read(&home, &names).unwrap();
    let delivered = deliver(&connection, &files, Guest::Used, &command(&guest)).await.unwrap();
    assert_eq!((delivered.written, delivered.bytes_sent), (1, 5));
    let kept: Vec<String> = delivered.conflicts.iter().map(|conflict| conflict.path.to_string()).collect();
    assert_eq!(kept, [".netrc"]);
    assert_eq!(std::fs::read(guest.join(".netrc")).unwrap(), b"of the guest");
    assert_eq!(std::fs::read(guest.join("many/7")).unwrap(), b"seven");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn as_much_as_is_allowed_arrives_and_a_missing_home_is_told() {
    let Some(sshd) = Sshd::start() else { return };
    let connection = sshd.connect().await;
    let place = tempfile::tempdir().unwrap();
    let (home, guest) = (place.path().join("home"), place.path().join("guest"));
    std::fs::create_dir(&home).unwrap();
    let file = std::fs::File::create(home.join("all")).unwrap();
    file.set_len(BYTES_LIMIT).unwrap();
    let files = Files::read(&home, &wanted(&["all"])).unwrap();
    let failed = deliver(&connection, &files, Guest::Fresh, &command(&guest)).await.unwrap_err();
    assert!(failed.to_string().contains("cannot open the directory"), "{failed}");
    assert!(!guest.exists());
    std::fs::create_dir(&guest).unwrap();
    let delivered = deliver(&connection, &files, Guest::Fresh, &command(&guest)).await.unwrap();
    assert_eq!(delivered.bytes_sent, BYTES_LIMIT);
    assert_eq!(std::fs::metadata(guest.join("all")).unwrap().len(), BYTES_LIMIT);
}
