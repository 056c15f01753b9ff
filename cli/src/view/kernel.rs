//! A kernel: a row of `kernel list`, the lines of `kernel show`, the JSON object of both.

use banger_proto::v1::Kernel;
use serde::Serialize;

use super::{bytes, non_empty, table, time};

/// The table of `kernel list`.
pub fn render_list(kernels: &[Kernel], now_ms: i64) -> String {
    let header = ["NAME", "STATUS", "RELEASE", "SIZE", "CREATED", "DESCRIPTION"];
    let rows: Vec<Vec<String>> = kernels
        .iter()
        .map(|kernel| {
            vec![
                kernel.name.clone(),
                if kernel.available_only { "available" } else { "local" }.into(),
                non_empty(&kernel.release).unwrap_or("-").to_owned(),
                if kernel.size_bytes == 0 { "-".into() } else { bytes(kernel.size_bytes) },
                time::ago(kernel.created_unix_ms, now_ms),
                non_empty(&kernel.description).unwrap_or(&kernel.source).to_owned(),
            ]
        })
        .collect();
    table::render(&header, &rows)
}

/// The lines of `kernel show`.
pub fn render_details(kernel: &Kernel) -> String {
    let pairs: Vec<(&str, String)> = [
        ("name", kernel.name.clone()),
        ("release", kernel.release.clone()),
        ("description", kernel.description.clone()),
        ("source", kernel.source.clone()),
        ("size", bytes(kernel.size_bytes)),
        ("created", time::rfc3339(kernel.created_unix_ms).unwrap_or_default()),
        ("directory", kernel.directory.clone()),
    ]
    .into_iter()
    .filter(|(_, value)| !value.is_empty())
    .collect();
    table::render_pairs(&pairs)
}

/// `{"kernels": […]}`.
#[derive(Debug, Serialize)]
pub struct KernelListView {
    kernels: Vec<KernelView>,
}

impl KernelListView {
    /// From the daemon's answer.
    pub fn new(kernels: &[Kernel]) -> Self {
        Self { kernels: kernels.iter().map(KernelView::from).collect() }
    }
}

/// A kernel for programs.
#[derive(Debug, Serialize)]
pub struct KernelView {
    name: String,
    release: Option<String>,
    description: Option<String>,
    source: String,
    size_bytes: u64,
    created: Option<String>,
    directory: Option<String>,
    local: bool,
}

impl From<&Kernel> for KernelView {
    fn from(kernel: &Kernel) -> Self {
        let text = |text: &str| non_empty(text).map(str::to_owned);
        Self {
            name: kernel.name.clone(),
            release: text(&kernel.release),
            description: text(&kernel.description),
            source: kernel.source.clone(),
            size_bytes: kernel.size_bytes,
            created: time::rfc3339(kernel.created_unix_ms),
            directory: text(&kernel.directory),
            local: !kernel.available_only,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_and_the_json_object_are_stable() {
        let kernel = Kernel {
            name: "generic-6.12".into(),
            release: "6.12.9".into(),
            source: "deb".into(),
            size_bytes: 64 << 20,
            created_unix_ms: 1_700_000_000_000,
            directory: "/k".into(),
            ..Kernel::default()
        };
        assert_eq!(
            render_list(std::slice::from_ref(&kernel), 1_700_000_000_000),
            "NAME          STATUS  RELEASE  SIZE      CREATED  DESCRIPTION\n\
             generic-6.12  local   6.12.9   64.0 MiB  0s ago   deb\n"
        );
        assert_eq!(
            serde_json::to_value(KernelListView::new(&[kernel])).unwrap_or_default(),
            serde_json::json!({ "kernels": [{
                "name": "generic-6.12", "release": "6.12.9", "description": null, "source": "deb",
                "size_bytes": 67_108_864, "created": "2023-11-14T22:13:20.000Z", "directory": "/k", "local": true,
            }] })
        );
    }
}
