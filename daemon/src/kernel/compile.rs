//! A kernel is compiled from a distribution's source package, in a root that mmdebstrap makes for it and takes away.
//!
//! Compiler and source come from the suite, so nothing has to be installed on the host. What comes out of the root is read
//! from its tar stream, because neither the user namespace nor the build service can write where the store is.
//! docs/decisions/0008-a-kernel-for-virtual-machines.md says why a kernel is compiled at all.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use crate::artifact::bootstrap::{Mode, Output, Recipe};
use crate::catalog::{KernelConfig, KernelRecipe};

const SCRIPT: &str = include_str!("compile.sh");
/// Besides the source itself.
const TOOLS: [&str; 8] = ["gcc", "libc6-dev", "make", "flex", "bison", "bc", "libelf-dev", "xz-utils"];
/// Where the script leaves its results, as the tar stream names it.
const RESULTS: &str = "banger";
const KERNEL: &str = "kernel";
/// File with `uname -r`.
const RELEASE: &str = "release";
/// File with the package's version.
const VERSION: &str = "version";
const LONGEST_KERNEL: u64 = 512 << 20;
const BEFORE_CONFIG: &str = "config='";
const AFTER_CONFIG: &str = "'\n";

/// How to make it.
pub(crate) fn bootstrap(recipe: &KernelRecipe, config: &KernelConfig) -> Recipe {
    let packages = [recipe.package.as_str()].into_iter().chain(TOOLS).map(str::to_owned).collect();
    Recipe {
        subject: format!("the kernel {}", recipe.name),
        suite: recipe.suite.clone(),
        variant: "minbase",
        mode: Mode::Root,
        packages,
        options: vec![
            OsString::from("--dpkgopt=force-unsafe-io"),
            OsString::from("--aptopt=Acquire::Languages \"none\""),
            OsString::from(format!("--customize-hook={}", hook(config))),
        ],
        environment: Vec::new(),
        output: Output::Tar,
    }
}

/// The configuration goes before the script: of all that reaches mmdebstrap, the build service sees arguments only.
fn hook(config: &KernelConfig) -> String {
    format!("{BEFORE_CONFIG}{config}{AFTER_CONFIG}{SCRIPT}")
}

/// Whether a hook is one that [`bootstrap`] makes.
pub(crate) fn is_hook(text: &str) -> bool {
    let config = text
        .strip_prefix(BEFORE_CONFIG)
        .and_then(|rest| rest.strip_suffix(SCRIPT))
        .and_then(|rest| rest.strip_suffix(AFTER_CONFIG));
    config.is_some_and(|config| KernelConfig::parse(config).is_ok_and(|parsed| parsed.to_string() == config))
}

/// What the script says of the kernel.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Compiled {
    /// `uname -r`.
    pub release: String,
    /// Of the source package.
    pub version: String,
}

/// Reads the root's tar stream to its end and puts the kernel into `tree`, as [`super::package::convert_files`] wants it.
///
/// # Errors
/// If the stream is broken or has no kernel, or the file cannot be written.
pub(super) fn take(stream: File, tree: &Path) -> io::Result<Compiled> {
    let mut archive = tar::Archive::new(io::BufReader::with_capacity(1 << 20, stream));
    let mut compiled = Compiled::default();
    let mut has_kernel = false;
    for entry in archive.entries()? {
        let entry = entry?;
        let path = entry.path()?.into_owned();
        let Ok(name) = path.strip_prefix(Path::new(".").join(RESULTS)).or_else(|_| path.strip_prefix(RESULTS)) else {
            continue;
        };
        let mut content = entry.take(LONGEST_KERNEL);
        match name.to_str() {
            Some(KERNEL) => {
                io::copy(&mut content, &mut File::create_new(tree.join(KERNEL))?)?;
                has_kernel = true;
            }
            Some(RELEASE) => compiled.release = line(&mut content)?,
            Some(VERSION) => compiled.version = line(&mut content)?,
            _ => {}
        }
    }
    // The padding behind the last entry: unread output would break mmdebstrap's pipe.
    io::copy(&mut archive.into_inner(), &mut io::sink())?;
    if has_kernel && super::import::is_release(&compiled.release) {
        return Ok(compiled);
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, "the build left no kernel"))
}

fn line(content: &mut impl io::Read) -> io::Result<String> {
    let mut text = String::new();
    content.take(256).read_to_string(&mut text)?;
    Ok(text.trim().to_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::catalog::{Catalog, KernelMaking};

    fn config() -> KernelConfig {
        KernelConfig::parse("CONFIG_64BIT=y\nCONFIG_LOCALVERSION=\"-mine\"\n").unwrap()
    }

    #[test]
    fn only_hooks_of_this_file_are_recognised() {
        assert!(is_hook(&hook(&config())));
        let embedded = Catalog::embedded();
        let recipe = embedded.kernel(&"microvm-6.12".parse().unwrap()).unwrap();
        let KernelMaking::Compile(of_catalog) = &recipe.making else { panic!("it is compiled") };
        assert!(is_hook(&hook(of_catalog)));
        for bad in [
            hook(&config()).replace("-mine", "'; id; '"),
            hook(&config()).replace("64BIT=y", "64BIT=m"),
            format!("{}id\n", hook(&config())),
            hook(&config()).replace("config='", "config='\n"),
            SCRIPT.to_owned(),
            String::new(),
        ] {
            assert!(!is_hook(&bad));
        }
    }

    #[test]
    fn the_script_is_one_for_a_shell() {
        let checked = std::process::Command::new("sh").args(["-nc", &hook(&config())]).status().unwrap();
        assert!(checked.success());
    }

    #[test]
    fn a_stream_without_a_kernel_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let stream = |files: &[(&str, &[u8])]| {
            let path = directory.path().join("stream");
            let mut builder = tar::Builder::new(File::create(&path).unwrap());
            for (name, content) in files {
                let mut header = tar::Header::new_gnu();
                header.set_size(content.len() as u64);
                header.set_mode(0o644);
                builder.append_data(&mut header, name, *content).unwrap();
            }
            builder.into_inner().unwrap();
            File::open(&path).unwrap()
        };
        let (kernel, release) = (("./banger/kernel", &b"\x7fELF"[..]), ("./banger/release", &b"6.12.1-mine\n"[..]));
        assert!(take(stream(&[release, ("./etc/kernel", b"no")]), directory.path()).is_err());
        assert!(take(stream(&[("./banger/release", b"../x\n")]), directory.path()).is_err());
        let tree = tempfile::tempdir().unwrap();
        let compiled = take(stream(&[kernel, release, ("./banger/version", b"6.12.1-2\n")]), tree.path()).unwrap();
        assert_eq!(compiled, Compiled { release: "6.12.1-mine".into(), version: "6.12.1-2".into() });
        assert_eq!(std::fs::read(tree.path().join(KERNEL)).unwrap(), b"\x7fELF");
    }
}
