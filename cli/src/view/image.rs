//! An image: a row of `image list`, the lines of `image show`, the JSON object of both.

use banger_proto::v1::Image;
use serde::Serialize;

use super::{bytes, non_empty, table, time};

/// The table of `image list`.
pub fn render_list(images: &[Image], now_ms: i64) -> String {
    let header = ["NAME", "STATUS", "OS", "INIT", "SIZE", "SHARED", "VMS", "CREATED", "SOURCE"];
    let rows: Vec<Vec<String>> = images
        .iter()
        .map(|image| {
            let or_dash = |text: &str| non_empty(text).unwrap_or("-").to_owned();
            let size = |size: u64| if size == 0 { "-".into() } else { bytes(size) };
            vec![
                image.name.clone(),
                status(image).into(),
                or_dash(&image.os_pretty_name),
                or_dash(&image.init),
                size(image.allocated_bytes),
                size(image.shared_bytes),
                if image.vm_count == 0 { "-".into() } else { image.vm_count.to_string() },
                time::ago(image.created_unix_ms, now_ms),
                image.source.clone(),
            ]
        })
        .collect();
    table::render(&header, &rows)
}

fn status(image: &Image) -> &'static str {
    match (image.available_only, image.in_place) {
        (true, _) => "available",
        (false, true) => "in place",
        (false, false) => "local",
    }
}

/// The lines of `image show`.
pub fn render_details(image: &Image) -> String {
    let pairs: Vec<(&str, String)> = [
        ("name", image.name.clone()),
        ("id", image.id.clone()),
        ("source", image.source.clone()),
        ("digest", image.digest.clone()),
        ("os", image.os_pretty_name.clone()),
        ("kernel", image.kernel_name.clone()),
        ("init", image.init.clone()),
        ("ssh server", if image.has_sshd { "in the image" } else { "banger's own" }.into()),
        ("status", status(image).to_owned()),
        ("size", format!("{} ({} allocated)", bytes(image.size_bytes), bytes(image.allocated_bytes))),
        ("shared", if image.shared_bytes == 0 { String::new() } else { bytes(image.shared_bytes) }),
        ("vms on it", if image.vm_count == 0 { String::new() } else { image.vm_count.to_string() }),
        ("created", time::rfc3339(image.created_unix_ms).unwrap_or_default()),
        ("root filesystem", image.rootfs_path.clone()),
        ("environment", image.environment.join(" ")),
        ("working directory", image.working_directory.clone()),
        ("user", image.user.clone()),
    ]
    .into_iter()
    .filter(|(_, value)| !value.is_empty())
    .collect();
    table::render_pairs(&pairs)
}

/// `{"images": […]}`.
#[derive(Debug, Serialize)]
pub struct ImageListView {
    images: Vec<ImageView>,
}

impl ImageListView {
    /// From the daemon's answer.
    pub fn new(images: &[Image]) -> Self {
        Self { images: images.iter().map(ImageView::from).collect() }
    }
}

/// An image for programs.
#[derive(Debug, Serialize)]
pub struct ImageView {
    id: Option<String>,
    name: String,
    source: String,
    digest: Option<String>,
    kernel: Option<String>,
    os: Option<String>,
    init: Option<String>,
    has_sshd: bool,
    size_bytes: u64,
    allocated_bytes: u64,
    shared_bytes: u64,
    vm_count: u32,
    created: Option<String>,
    rootfs: Option<String>,
    environment: Vec<String>,
    working_directory: Option<String>,
    user: Option<String>,
    local: bool,
    in_place: bool,
}

impl From<&Image> for ImageView {
    fn from(image: &Image) -> Self {
        let text = |text: &str| non_empty(text).map(str::to_owned);
        Self {
            id: text(&image.id),
            name: image.name.clone(),
            source: image.source.clone(),
            digest: text(&image.digest),
            kernel: text(&image.kernel_name),
            os: text(&image.os_pretty_name),
            init: text(&image.init),
            has_sshd: image.has_sshd,
            size_bytes: image.size_bytes,
            allocated_bytes: image.allocated_bytes,
            shared_bytes: image.shared_bytes,
            vm_count: image.vm_count,
            created: time::rfc3339(image.created_unix_ms),
            rootfs: text(&image.rootfs_path),
            environment: image.environment.clone(),
            working_directory: text(&image.working_directory),
            user: text(&image.user),
            local: !image.available_only,
            in_place: image.in_place,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> Image {
        Image {
            id: "a".repeat(64),
            name: "debian-bookworm".into(),
            source: "debian bookworm".into(),
            os_pretty_name: "Debian GNU/Linux 12".into(),
            init: "systemd".into(),
            has_sshd: true,
            size_bytes: 2 << 30,
            allocated_bytes: 300 << 20,
            shared_bytes: 100 << 20,
            vm_count: 2,
            created_unix_ms: 1_700_000_000_000,
            ..Image::default()
        }
    }

    #[test]
    fn local_and_available_images_are_told_apart() {
        let available = Image { name: "alpine".into(), source: "oci".into(), available_only: true, ..Image::default() };
        assert_eq!(
            render_list(&[image(), available], 1_700_000_060_000),
            "NAME             STATUS     OS                   INIT     SIZE       SHARED     VMS  CREATED  SOURCE\n\
             debian-bookworm  local      Debian GNU/Linux 12  systemd  300.0 MiB  100.0 MiB  2    1m ago   debian bookworm\n\
             alpine           available  -                    -        -          -          -    -        oci\n"
        );
    }

    #[test]
    fn the_json_object_is_stable() {
        let json = serde_json::to_value(ImageListView::new(&[image()])).unwrap_or_default();
        assert_eq!(
            json,
            serde_json::json!({ "images": [{
                "id": "a".repeat(64), "name": "debian-bookworm", "source": "debian bookworm", "digest": null,
                "kernel": null, "os": "Debian GNU/Linux 12", "init": "systemd", "has_sshd": true,
                "size_bytes": 2_147_483_648_u64, "allocated_bytes": 314_572_800,
                "shared_bytes": 104_857_600, "vm_count": 2, "created": "2023-11-14T22:13:20.000Z",
                "rootfs": null, "environment": [], "working_directory": null, "user": null, "local": true,
                "in_place": false,
            }] })
        );
    }
}
