//! Paths that some program on the host runs or obeys by itself as soon as they are there. Pure.
//!
//! Work of a guest may contain them for good reasons; whoever takes it should look at these first.

use crate::path::TreePath;

/// Files and directories, wherever they are in the tree. Lower case.
const NAMES: &[&str] = &[
    ".vscode",
    ".idea",
    ".fleet",
    ".zed",
    ".nvim.lua",
    ".nvimrc",
    ".exrc",
    ".vimrc",
    ".dir-locals.el",
    ".envrc",
    ".env",
    ".mise.toml",
    "mise.toml",
    ".tool-versions",
    ".husky",
    ".pre-commit-config.yaml",
    "lefthook.yml",
    ".lefthook.yml",
    ".devcontainer",
    ".devcontainer.json",
    ".cargo",
    "rust-toolchain",
    "rust-toolchain.toml",
    "build.rs",
    ".npmrc",
    ".yarnrc",
    ".yarnrc.yml",
    ".pnpmfile.cjs",
    "package.json",
    "conftest.py",
    "sitecustomize.py",
    ".python-version",
    ".travis.yml",
    ".circleci",
    "jenkinsfile",
    ".claude",
    ".cursor",
    ".mcp.json",
];

/// True if the path itself, or a directory on the way, is one of them.
pub fn wants_caution(path: &TreePath) -> bool {
    path.components().any(|component| {
        let Ok(name) = std::str::from_utf8(component) else { return false };
        let name = name.to_ascii_lowercase();
        // .gitattributes, .gitmodules, .github, .gitlab-ci.yml; ignoring runs nothing.
        (name.starts_with(".git") && name != ".gitignore" && name != ".gitkeep") || NAMES.contains(&name.as_str())
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_run_by_themselves_are_known_anywhere_in_the_tree() {
        for (path, expected) in [
            (".gitattributes", true),
            (".github/workflows/ci.yml", true),
            ("a/.vscode/tasks.json", true),
            (".IDEA/x", true),
            ("deep/.envrc", true),
            ("src/main.c", false),
            (".gitignore", false),
            ("envrc", false),
        ] {
            assert_eq!(wants_caution(&TreePath::parse(path.as_bytes()).unwrap()), expected, "{path}");
        }
    }
}
