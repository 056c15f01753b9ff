//! Writes `proto/src/gen/`. Run it after changing a `.proto`: `cargo run -p banger-generate`.

use banger_generate::{generate, workspace_root};

fn main() -> Result<(), String> {
    let root = workspace_root();
    generate(&root, &root.join("proto/src/gen"))
}
