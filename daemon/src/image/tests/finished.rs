//! Claims about images that are finished already: bundles and users' own root filesystems.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use super::*;
use crate::artifact::ext4::{Content, Ext4Writer, Journal, Metadata, Shape};
use crate::catalog::ImageRecipe;

fn rootfs(path: &Path) {
    let file = fs::File::options().read(true).write(true).create_new(true).open(path).unwrap();
    let shape =
        Shape { uuid: [1; 16], label: "t", minimum_bytes: 64 << 20, spare_bytes: 0, journal: Journal::Internal };
    let mut writer = Ext4Writer::new(file, shape);
    writer.add(b"hello", Metadata::default(), Content::File(&mut &b"world"[..])).unwrap();
    writer.finish().unwrap();
}

struct Here {
    directory: tempfile::TempDir,
    store: ImageStore,
}

fn here() -> Here {
    let directory = tempfile::tempdir().unwrap();
    let store = ImageStore::open(directory.path().join("images"), directory.path().join("cache")).unwrap();
    Here { directory, store }
}

impl Here {
    fn at(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn file(&self) -> PathBuf {
        let path = self.at("mine.ext4");
        if !path.exists() {
            rootfs(&path);
        }
        path
    }

    async fn register(&self, name: &str) -> Result<ImageArtifacts, RegisterError> {
        self.register_file(name, RootfsFile::Taken(self.file()), Refresh::IfAbsent).await
    }

    async fn register_file(
        &self,
        name: &str,
        rootfs: RootfsFile,
        refresh: Refresh,
    ) -> Result<ImageArtifacts, RegisterError> {
        let registered = Registered {
            name: name.parse().unwrap(),
            rootfs,
            kernel: "generic-6.12".parse().unwrap(),
            init_path: Some("/sbin/init".to_owned()),
            has_sshd: false,
            described: "mine.ext4".to_owned(),
            refresh,
        };
        self.store.register(registered, &Reporter::silent("op")).await
    }

    async fn import(&self, bundle: &Path, name: &str) -> Result<ImageArtifacts, RegisterError> {
        let name = name.parse().unwrap();
        self.store.import_bundle(bundle.to_owned(), name, Refresh::IfAbsent, &Reporter::silent("op")).await
    }
}

#[tokio::test]
async fn an_exported_image_comes_back_the_same() {
    let here = here();
    let made = here.register("mine").await.unwrap();
    let bundle = here.at("mine.tar.zst");
    ImageStore::export(&made, fs::File::create(&bundle).unwrap()).unwrap();
    assert!(fs::metadata(&bundle).unwrap().len() < 1 << 20, "holes must not travel");
    let again = here.import(&bundle, "again").await.unwrap();
    assert_eq!(fs::read(&made.rootfs).unwrap(), fs::read(&again.rootfs).unwrap());
    assert_eq!((again.name.as_str(), &again.digest, &again.init_path), ("again", &made.digest, &made.init_path));
    assert!(again.allocated_bytes < 8 << 20, "holes must stay holes: {again:?}");
    assert_eq!(here.import(&bundle, "again").await.unwrap_err().kind(), Kind::Conflict);
}

#[tokio::test]
async fn a_file_that_is_no_filesystem_is_no_image() {
    let here = here();
    fs::write(here.at("mine.ext4"), vec![0u8; 1 << 20]).unwrap();
    assert_eq!(here.register("mine").await.unwrap_err().kind(), Kind::Refused);
    rootfs(&here.at("mine.ext4"));
    fs::File::options().write(true).open(here.at("mine.ext4")).unwrap().set_len(32 << 20).unwrap();
    assert_eq!(here.register("mine").await.unwrap_err().kind(), Kind::Refused);
    assert!(here.store.list().is_empty());
    assert_eq!(fs::read_dir(here.store.staging()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_bundle_with_anything_else_in_it_is_refused() {
    let here = here();
    let made = here.register("mine").await.unwrap();
    let good = here.at("good");
    ImageStore::export(&made, fs::File::create(&good).unwrap()).unwrap();
    let manifest = fs::read(made.rootfs.with_file_name("manifest.json")).unwrap();
    let pack = |members: &[(&str, tar::EntryType, &[u8])]| {
        let mut tar = tar::Builder::new(Vec::new());
        for (name, kind, content) in members {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            header.set_uid(0);
            header.set_gid(0);
            header.set_mtime(0);
            tar.append_data(&mut header, name, *content).unwrap();
        }
        let path = here.at(&format!("bundle{}", uuid::Uuid::new_v4()));
        let packed = zstd::encode_all(tar.into_inner().unwrap().as_slice(), 1).unwrap();
        fs::File::create(&path).unwrap().write_all(&packed).unwrap();
        path
    };
    let file = tar::EntryType::Regular;
    for bundle in [
        pack(&[("manifest.json", file, &manifest)]),
        pack(&[("manifest.json", file, &manifest), ("manifest.json", file, &manifest)]),
        pack(&[("manifest.json", file, &manifest), ("evil", file, b"x")]),
        pack(&[("manifest.json", file, &manifest), ("rootfs.ext4", tar::EntryType::Directory, b"")]),
        pack(&[("manifest.json", file, &manifest), ("rootfs.ext4", file, &[0; 4096])]),
    ] {
        let error = here.import(&bundle, "other").await.unwrap_err();
        assert_eq!(error.kind(), Kind::Refused, "{error:?}");
    }
    let half = fs::read(&good).unwrap();
    fs::write(here.at("half"), &half[..half.len() / 2]).unwrap();
    assert_eq!(here.import(&here.at("half"), "other").await.unwrap_err().kind(), Kind::Failed);
    assert_eq!(here.store.list().len(), 1);
    assert_eq!(fs::read_dir(here.store.staging()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_bundle_of_the_catalog_is_believed_by_its_digest_only() {
    let here = here();
    let made = here.register("mine").await.unwrap();
    let bundle = here.at("published.tar.zst");
    ImageStore::export(&made, fs::File::create(&bundle).unwrap()).unwrap();
    let recipe = |sha256: &str| {
        let text = format!(
            "name = \"published\"\nkernel = \"other\"\n[bundle]\nurl = \"file://{}\"\nsha256 = \"{sha256}\"\n",
            bundle.display()
        );
        ImageRecipe::parse(&text, Path::new("r")).unwrap()
    };
    let reporter = Reporter::silent("op");
    let error = here.store.build(&recipe(&"0".repeat(64)), &reporter).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Refused, "{error}");
    let right = super::hex(&Sha256::digest(fs::read(&bundle).unwrap()));
    let image = here.store.build(&recipe(&right), &reporter).await.unwrap();
    assert_eq!((image.name.as_str(), image.kernel.as_str()), ("published", "other"));
    assert!(!image.rootfs.with_file_name("bundle").exists());
}

#[tokio::test]
async fn a_file_used_in_place_stays_the_users_and_promoting_copies_it() {
    let here = here();
    let (file, reporter) = (here.file(), Reporter::silent("op"));
    let image = here.register_file("mine", RootfsFile::InPlace(file.clone()), Refresh::IfAbsent).await.unwrap();
    assert_eq!((&image.rootfs, image.shared_bytes()), (&file, image.allocated_bytes));
    assert_eq!(here.store.get(&image.name), Some(image.clone()), "it is remembered");
    assert!(!image.directory.join(ROOTFS).exists());
    let promoted = here.store.promote(&image.name, &reporter).await.unwrap();
    assert_eq!((promoted.in_place.as_ref(), &promoted.digest, &promoted.id), (None, &image.digest, &image.id));
    assert!(promoted.rootfs.starts_with(&promoted.directory) && promoted.directory != image.directory);
    assert_eq!(fs::read(&promoted.rootfs).unwrap(), fs::read(&file).unwrap());
    assert!(promoted.allocated_bytes < 8 << 20, "holes must stay holes: {promoted:?}");
    assert_eq!(here.store.promote(&image.name, &reporter).await.unwrap(), promoted, "once is enough");
    // The old entry may still be what VMs boot from; removing it and the image leaves the user's file.
    let old = here.store.superseded();
    assert_eq!(old.iter().map(|old| &old.rootfs).collect::<Vec<_>>(), [&file]);
    here.store.remove_superseded(&old[0]).unwrap();
    here.store.delete(&image.name).await.unwrap();
    assert!(file.exists() && here.store.list().is_empty());
    assert_eq!(here.store.promote(&image.name, &reporter).await.unwrap_err().kind(), Kind::NotFound);
}

#[tokio::test]
async fn deleting_an_image_used_in_place_leaves_the_file() {
    let here = here();
    let image = here.register_file("mine", RootfsFile::InPlace(here.file()), Refresh::IfAbsent).await.unwrap();
    // Its neighbours have names that the store would remove in a directory of its own.
    fs::write(here.at("manifest.json"), "mine").unwrap();
    fs::write(here.at("rootfs.ext4"), "mine").unwrap();
    here.register_file("mine", RootfsFile::InPlace(here.file()), Refresh::Always).await.unwrap();
    for old in here.store.superseded() {
        here.store.remove_superseded(&old).unwrap();
    }
    here.store.delete(&image.name).await.unwrap();
    assert!(here.file().exists() && here.at("manifest.json").exists() && here.at("rootfs.ext4").exists());
    assert!(!image.directory.exists());
}

#[tokio::test]
async fn a_file_that_changed_is_not_promoted_and_one_that_cannot_be_seen_is_not_registered() {
    let here = here();
    let reporter = Reporter::silent("op");
    let image = here.register_file("mine", RootfsFile::InPlace(here.file()), Refresh::IfAbsent).await.unwrap();
    fs::File::options().append(true).open(here.file()).unwrap().write_all(b"more").unwrap();
    let error = here.store.promote(&image.name, &reporter).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Conflict, "{error}");
    assert!(error.hints()[0].contains("--refresh"), "{:?}", error.hints());
    fs::remove_file(here.file()).unwrap();
    assert_eq!(here.store.promote(&image.name, &reporter).await.unwrap_err().kind(), Kind::NotFound);
    let absent = RootfsFile::InPlace(here.at("absent"));
    assert_eq!(here.register_file("other", absent, Refresh::IfAbsent).await.unwrap_err().kind(), Kind::NotFound);
    let strict = here.store.clone().with_in_place(InPlace::Refused);
    let strict = Here { store: strict, directory: here.directory };
    let error = strict.register_file("other", RootfsFile::InPlace(strict.file()), Refresh::IfAbsent).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Refused);
    assert!(error.hints()[0].contains("--in-place"), "{:?}", error.hints());
    assert_eq!(fs::read_dir(strict.store.staging()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_bundle_neither_tells_of_a_users_file_nor_leads_to_one() {
    let here = here();
    let image = here.register_file("mine", RootfsFile::InPlace(here.file()), Refresh::IfAbsent).await.unwrap();
    let bundle = here.at("mine.tar.zst");
    ImageStore::export(&image, fs::File::create(&bundle).unwrap()).unwrap();
    let mut tar = tar::Archive::new(zstd::Decoder::new(fs::File::open(&bundle).unwrap()).unwrap());
    let mut manifest = String::new();
    let mut first = tar.entries().unwrap().next().unwrap().unwrap();
    std::io::Read::read_to_string(&mut first, &mut manifest).unwrap();
    assert!(!manifest.contains("in_place"), "{manifest}");
    let again = here.import(&bundle, "again").await.unwrap();
    assert_eq!(fs::read(&again.rootfs).unwrap(), fs::read(here.file()).unwrap());
    // A hostile one names a file of this host.
    let stamp = serde_json::to_string(&crate::artifact::stamp::FileStamp::observe(&here.file()).unwrap()).unwrap();
    let evil = manifest.replacen('{', &format!("{{ \"in_place\": {stamp}, \"content\": \"c\","), 1);
    let mut tar = tar::Builder::new(zstd::Encoder::new(fs::File::create(here.at("evil")).unwrap(), 1).unwrap());
    let mut header = tar::Header::new_gnu();
    header.set_size(evil.len() as u64);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    tar.append_data(&mut header, "manifest.json", evil.as_bytes()).unwrap();
    tar.append_path_with_name(&again.rootfs, "rootfs.ext4").unwrap();
    tar.into_inner().unwrap().finish().unwrap();
    let imported = here.import(&here.at("evil"), "evil").await.unwrap();
    assert_eq!(imported.in_place, None);
    assert!(imported.rootfs.starts_with(&imported.directory));
    assert!(!fs::read_to_string(imported.directory.join("manifest.json")).unwrap().contains("content"));
}
