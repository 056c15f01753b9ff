//! A registry on loopback: the distribution's docker-registry, filled by skopeo from images made here.
//!
//! [`Registry::start`] is `None`, with a word about it, where a program is missing.

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::wait::until;

/// A running registry; dropped, it ends.
#[derive(Debug)]
pub struct Registry {
    directory: TempDir,
    process: Child,
    port: u16,
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// True if a program can be run; else says that a test is skipped.
pub fn has(program: &str) -> bool {
    let found = Command::new("which").arg(program).stdout(Stdio::null()).status().is_ok_and(|status| status.success());
    if !found {
        let _ = std::io::Write::write_all(
            &mut std::io::stderr(),
            format!("skipped: {program} is not installed; run `make install-deps`\n").as_bytes(),
        );
    }
    found
}

impl Registry {
    /// A new, empty registry.
    ///
    /// # Panics
    /// If it is installed but does not start.
    pub fn start() -> Option<Self> {
        if !has("docker-registry") || !has("skopeo") {
            return None;
        }
        let directory = tempfile::tempdir().expect("a temporary directory");
        let port =
            TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("loopback").port();
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: \"127.0.0.1:{port}\"}}\n",
            directory.path().join("storage").display()
        );
        std::fs::write(directory.path().join("config.yml"), config).expect("our own directory");
        let process = Command::new("docker-registry")
            .arg("serve")
            .arg(directory.path().join("config.yml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("docker-registry starts");
        until("the registry listens", Duration::from_secs(30), || TcpStream::connect(("127.0.0.1", port)).is_ok());
        Some(Self { directory, process, port })
    }

    /// `127.0.0.1:PORT/repository:tag`.
    pub fn reference(&self, name: &str) -> String {
        format!("127.0.0.1:{}/{name}", self.port)
    }

    /// Makes an image of one tar file with this configuration and puts it into the registry; returns its reference.
    ///
    /// # Panics
    /// If a tool fails.
    pub fn push(&self, name: &str, tar: &Path, config: &Value) -> String {
        let layout = self.directory.path().join(name.replace(['/', ':'], "-"));
        write_layout(&layout, tar, config);
        let reference = self.reference(name);
        let output = Command::new("skopeo")
            .args(["copy", "--quiet", "--dest-tls-verify=false"])
            .arg(format!("oci:{}:it", layout.display()))
            .arg(format!("docker://{reference}"))
            .output()
            .expect("skopeo runs");
        assert!(output.status.success(), "skopeo: {}", String::from_utf8_lossy(&output.stderr));
        reference
    }
}

/// One gzip layer as an OCI layout with the tag `it`.
///
/// # Panics
/// If a tool fails.
pub fn write_layout(layout: &Path, tar: &Path, config: &Value) {
    write_layers(layout, &[tar], config);
}

/// Several of them, the lowest first.
///
/// # Panics
/// If a tool fails.
pub fn write_layers(layout: &Path, tars: &[&Path], config: &Value) {
    let blobs = layout.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).expect("our own directory");
    let shell = |script: &str, argument: &Path| {
        let output = Command::new("sh").args(["-euc", script, "sh"]).arg(argument).output().expect("sh runs");
        assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    let digest = |path: &Path| shell("sha256sum \"$1\" | cut -d' ' -f1", path);
    let store = |path: &Path| {
        let (hex, size) = (digest(path), std::fs::metadata(path).expect("just written").len());
        std::fs::rename(path, blobs.join(&hex)).expect("our own directory");
        (format!("sha256:{hex}"), size)
    };
    let text = |name: &str, value: Value| {
        let path = layout.join(name);
        std::fs::write(&path, value.to_string()).expect("our own directory");
        path
    };
    let (mut diff_ids, mut layers) = (Vec::new(), Vec::new());
    for tar in tars {
        diff_ids.push(format!("sha256:{}", digest(tar)));
        let packed = layout.join("layer");
        shell(&format!("gzip -nc1 \"$1\" >'{}'", packed.display()), tar);
        let (digest, size) = store(&packed);
        let kind = "application/vnd.oci.image.layer.v1.tar+gzip";
        layers.push(json!({ "mediaType": kind, "digest": digest, "size": size }));
    }
    let (config, config_size) = store(&text(
        "config",
        json!({
            "architecture": "amd64", "os": "linux", "config": config,
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        }),
    ));
    let (manifest, manifest_size) = store(&text(
        "manifest",
        json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": { "mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": config_size },
            "layers": layers,
        }),
    ));
    text(
        "index.json",
        json!({ "schemaVersion": 2, "manifests": [{
            "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": manifest, "size": manifest_size,
            "annotations": { "org.opencontainers.image.ref.name": "it" },
        }] }),
    );
    text("oci-layout", json!({ "imageLayoutVersion": "1.0.0" }));
}
