//! What can be made, as opposed to what has been made: names and recipes.
//!
//! A TOML file is compiled in; `catalog.toml` in the configuration directory adds entries and replaces those
//! of the same name. Reading it fetches nothing. [`crate::kernel`] and [`crate::image`] carry recipes out.

mod kernel_config;

use std::path::{Path, PathBuf};

use banger_proto::failure::{Classified, Kind};
use banger_proto::names::{ImageName, KernelName};
use serde::Deserialize;

pub use kernel_config::{ConfigLineError, KernelConfig};

const EMBEDDED: &str = include_str!("catalog/catalog.toml");
/// Name of the file in the configuration directory.
const FILE: &str = "catalog.toml";

/// All recipes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Catalog {
    /// In the order of the files.
    pub kernels: Vec<KernelRecipe>,
    /// In the order of the files.
    pub images: Vec<ImageRecipe>,
}

/// How to make a kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelRecipe {
    /// Its name in the store.
    pub name: KernelName,
    /// For people.
    pub description: String,
    /// Suite of the distribution.
    pub suite: String,
    /// A kernel package, or one that depends on the newest of its kind; a source package for one that is compiled.
    pub package: String,
    /// What is done with the package.
    pub making: KernelMaking,
}

/// How a package becomes a kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KernelMaking {
    /// It has the kernel and its modules.
    Unpack,
    /// It has the source.
    Compile(KernelConfig),
}

impl KernelRecipe {
    /// One line for listings.
    pub fn source(&self) -> String {
        format!("debian {} {}", self.suite, self.package)
    }
}

/// How to make an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageRecipe {
    /// Its name in the store.
    pub name: ImageName,
    /// For people.
    pub description: String,
    /// The kernel it boots with unless asked otherwise.
    pub kernel: KernelName,
    /// Where it comes from.
    pub source: ImageSource,
}

/// Where an image comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageSource {
    /// Made from a distribution's packages.
    Debian(DebianRecipe),
    /// A container image.
    Oci {
        /// `[registry/]repository[:tag][@digest]`.
        reference: String,
    },
    /// A finished one.
    Bundle {
        /// Where it is: http, https or file.
        url: String,
        /// Of the whole file.
        sha256: String,
    },
}

/// Packages, and what is changed in the result.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DebianRecipe {
    /// Suite of the distribution.
    pub suite: String,
    /// Packages beyond the minimal system.
    pub packages: Vec<String>,
    /// dpkg path patterns that are not unpacked …
    pub exclude: Vec<String>,
    /// … except these.
    pub include: Vec<String>,
    /// Files put into the root.
    pub files: Vec<RecipeFile>,
    /// Shell commands run in the root at the end, each on its own.
    pub commands: Vec<String>,
}

/// A file put into the root.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecipeFile {
    /// Absolute, of plain names.
    pub path: String,
    /// Its text.
    pub content: String,
    /// Octal digits; 0644 if not said.
    #[serde(default = "ordinary_mode")]
    pub mode: String,
}

fn ordinary_mode() -> String {
    "0644".to_owned()
}

impl ImageRecipe {
    /// One line for listings.
    pub fn source(&self) -> String {
        match &self.source {
            ImageSource::Debian(debian) => format!("debian {}", debian.suite),
            ImageSource::Oci { reference } => reference.clone(),
            ImageSource::Bundle { url, .. } => url.clone(),
        }
    }

    /// One recipe, as `[[image]]` of a catalog has it but alone; `path` is where it was read.
    ///
    /// # Errors
    /// If it is malformed.
    pub fn parse(text: &str, path: &Path) -> Result<Self, CatalogError> {
        let entry: ImageEntry =
            toml::from_str(text).map_err(|source| CatalogError::Malformed { path: path.to_owned(), source })?;
        Check { path }.image(entry)
    }
}

/// Why a catalog cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// Cannot be read.
    #[error("cannot read the catalog {path}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// Not what the format asks for.
    #[error("the catalog {path} is malformed", path = path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: toml::de::Error,
    },
    /// A value that could mean something else on a command line.
    #[error("the catalog {path} contains the invalid {what} {text:?}", path = path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// "suite", "package" …
        what: &'static str,
        /// The value.
        text: String,
    },
}

impl Classified for CatalogError {
    fn kind(&self) -> Kind {
        match self {
            Self::Read { .. } => Kind::Failed,
            Self::Malformed { .. } | Self::Invalid { .. } => Kind::Usage,
        }
    }

    fn hints(&self) -> Vec<String> {
        let (Self::Read { path, .. } | Self::Malformed { path, .. } | Self::Invalid { path, .. }) = self;
        vec![format!("Correct it, or go back to the built-in catalog with `mv {0} {0}.off`.", path.display())]
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    kernel: Vec<KernelEntry>,
    #[serde(default)]
    image: Vec<ImageEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KernelEntry {
    name: String,
    description: String,
    deb: Option<Deb>,
    compile: Option<Compile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Compile {
    suite: String,
    package: String,
    config: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Deb {
    suite: String,
    package: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ImageEntry {
    name: String,
    #[serde(default)]
    description: String,
    #[serde(default = "default_kernel")]
    kernel: String,
    debian: Option<Debian>,
    oci: Option<Oci>,
    bundle: Option<Bundle>,
}

fn default_kernel() -> String {
    "generic-6.12".to_owned()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Oci {
    reference: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Bundle {
    url: String,
    sha256: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Debian {
    suite: String,
    #[serde(default)]
    packages: Vec<String>,
    #[serde(default)]
    exclude: Vec<String>,
    #[serde(default)]
    include: Vec<String>,
    #[serde(default, rename = "file")]
    files: Vec<RecipeFile>,
    #[serde(default)]
    commands: Vec<String>,
}

impl Catalog {
    /// The compiled-in catalog.
    pub fn embedded() -> Self {
        Self::parse(EMBEDDED, Path::new(FILE)).expect("a test parses the embedded catalog")
    }

    /// The compiled-in catalog with the changes of `<config>/catalog.toml`, if there is one.
    ///
    /// # Errors
    /// If the file exists and is unreadable or malformed.
    pub fn load(config: &Path) -> Result<Self, CatalogError> {
        let path = config.join(FILE);
        match std::fs::read_to_string(&path) {
            Ok(text) => Ok(Self::embedded().overridden_by(Self::parse(&text, &path)?)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::embedded()),
            Err(source) => Err(CatalogError::Read { path, source }),
        }
    }

    /// The recipe of a kernel.
    pub fn kernel(&self, name: &KernelName) -> Option<&KernelRecipe> {
        self.kernels.iter().find(|recipe| recipe.name == *name)
    }

    /// The recipe of an image.
    pub fn image(&self, name: &ImageName) -> Option<&ImageRecipe> {
        self.images.iter().find(|recipe| recipe.name == *name)
    }

    fn overridden_by(mut self, other: Self) -> Self {
        self.kernels.retain(|recipe| other.kernel(&recipe.name).is_none());
        self.images.retain(|recipe| other.image(&recipe.name).is_none());
        self.kernels.extend(other.kernels);
        self.images.extend(other.images);
        self
    }

    fn parse(text: &str, path: &Path) -> Result<Self, CatalogError> {
        let file: File =
            toml::from_str(text).map_err(|source| CatalogError::Malformed { path: path.to_owned(), source })?;
        let check = Check { path };
        let kernels = file.kernel.into_iter().map(|entry| check.kernel(entry));
        let images = file.image.into_iter().map(|entry| check.image(entry));
        Ok(Self { kernels: kernels.collect::<Result<_, _>>()?, images: images.collect::<Result<_, _>>()? })
    }
}

struct Check<'a> {
    path: &'a Path,
}

impl Check<'_> {
    fn invalid(&self, what: &'static str, text: String) -> CatalogError {
        CatalogError::Invalid { path: self.path.to_owned(), what, text }
    }

    fn kernel(&self, entry: KernelEntry) -> Result<KernelRecipe, CatalogError> {
        let (suite, package, making) = match (entry.deb, entry.compile) {
            (Some(deb), None) => (deb.suite, deb.package, KernelMaking::Unpack),
            (None, Some(compile)) => {
                let config = KernelConfig::parse(&compile.config)
                    .map_err(|error| self.invalid("line of a kernel's config", error.line))?;
                (compile.suite, compile.package, KernelMaking::Compile(config))
            }
            _ => return Err(self.invalid("number of sources (deb or compile) of", entry.name)),
        };
        Ok(KernelRecipe {
            name: self.name(entry.name)?,
            description: entry.description,
            suite: self.word("suite", suite)?,
            package: self.word("package", package)?,
            making,
        })
    }

    fn image(&self, entry: ImageEntry) -> Result<ImageRecipe, CatalogError> {
        let source = match (entry.debian, entry.oci, entry.bundle) {
            (Some(debian), None, None) => ImageSource::Debian(DebianRecipe {
                suite: self.word("suite", debian.suite)?,
                packages: self.each("package", debian.packages, Check::word)?,
                exclude: self.each("pattern", debian.exclude, Check::pattern)?,
                include: self.each("pattern", debian.include, Check::pattern)?,
                files: debian.files.into_iter().map(|file| self.file(file)).collect::<Result<_, _>>()?,
                commands: debian.commands,
            }),
            (None, Some(oci), None) => match crate::oci::reference::parse(&oci.reference) {
                Ok(_) => ImageSource::Oci { reference: oci.reference },
                Err(_) => return Err(self.invalid("reference", oci.reference)),
            },
            (None, None, Some(bundle)) => {
                let known = ["https://", "http://", "file:///"].iter().any(|scheme| bundle.url.starts_with(scheme));
                if !known {
                    return Err(self.invalid("url", bundle.url));
                }
                let digest = format!("sha256:{}", bundle.sha256);
                if digest.parse::<crate::oci::digest::Digest>().is_err() {
                    return Err(self.invalid("sha256", bundle.sha256));
                }
                ImageSource::Bundle { url: bundle.url, sha256: bundle.sha256 }
            }
            _ => return Err(self.invalid("number of sources (debian, oci or bundle) of", entry.name)),
        };
        Ok(ImageRecipe {
            name: self.name(entry.name)?,
            description: entry.description,
            kernel: self.name(entry.kernel)?,
            source,
        })
    }

    /// The path ends up on a command line of mmdebstrap's shell.
    fn file(&self, file: RecipeFile) -> Result<RecipeFile, CatalogError> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._+-@".contains(&byte);
        let names = || file.path.split('/').skip(1);
        let fits = file.path.starts_with('/')
            && file.path.bytes().all(plain)
            && names().all(|name| !matches!(name, "" | "." | ".."));
        if !fits {
            return Err(self.invalid("file path", file.path));
        }
        if !(3..=4).contains(&file.mode.len()) || !file.mode.bytes().all(|digit| (b'0'..=b'7').contains(&digit)) {
            return Err(self.invalid("file mode", file.mode));
        }
        Ok(file)
    }

    fn name<T: std::str::FromStr>(&self, text: String) -> Result<T, CatalogError> {
        text.parse().map_err(|_| self.invalid("name", text))
    }

    /// Suites and packages: never an option, a path or two arguments.
    fn word(&self, what: &'static str, text: String) -> Result<String, CatalogError> {
        let fits = text.starts_with(|first: char| first.is_ascii_lowercase() || first.is_ascii_digit())
            && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"+.-".contains(&byte));
        if fits { Ok(text) } else { Err(self.invalid(what, text)) }
    }

    /// dpkg path patterns.
    fn pattern(&self, what: &'static str, text: String) -> Result<String, CatalogError> {
        let fits = text.starts_with('/') && text.bytes().all(|byte| byte.is_ascii_graphic());
        if fits { Ok(text) } else { Err(self.invalid(what, text)) }
    }

    fn each(
        &self,
        what: &'static str,
        texts: Vec<String>,
        check: fn(&Self, &'static str, String) -> Result<String, CatalogError>,
    ) -> Result<Vec<String>, CatalogError> {
        texts.into_iter().map(|text| check(self, what, text)).collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_catalog_is_complete() {
        let catalog = Catalog::embedded();
        assert!(catalog.kernel(&"generic-6.12".parse().unwrap()).is_some());
        for image in &catalog.images {
            assert!(catalog.kernel(&image.kernel).is_some(), "{} names an unknown kernel", image.name);
        }
    }

    #[test]
    fn the_users_file_replaces_entries_of_the_same_name() {
        let directory = tempfile::tempdir().unwrap();
        let text = "[[kernel]]\nname = \"generic-6.1\"\ndescription = \"mine\"\n[kernel.deb]\nsuite = \"trixie\"\npackage = \"linux-image-cloud-amd64\"\n";
        std::fs::write(directory.path().join(FILE), text).unwrap();
        let catalog = Catalog::load(directory.path()).unwrap();
        assert_eq!(catalog.kernel(&"generic-6.1".parse().unwrap()).unwrap().suite, "trixie");
        assert_eq!(catalog.kernels.len(), Catalog::embedded().kernels.len());
    }

    #[test]
    fn a_kernel_is_unpacked_or_compiled_not_both_and_not_neither() {
        let deb = "[kernel.deb]\nsuite = \"s\"\npackage = \"p\"\n";
        let compile = |config| format!("[kernel.compile]\nsuite = \"s\"\npackage = \"p\"\nconfig = '{config}'\n");
        let parsed = |sources: &str| {
            let text = format!("[[kernel]]\nname = \"mine\"\ndescription = \"\"\n{sources}");
            Catalog::parse(&text, Path::new("catalog.toml")).map(|mut catalog| catalog.kernels.remove(0).making)
        };
        assert_eq!(parsed(deb).unwrap(), KernelMaking::Unpack);
        let config = KernelConfig::parse("CONFIG_SMP=y").unwrap();
        assert_eq!(parsed(&compile("CONFIG_SMP=y")).unwrap(), KernelMaking::Compile(config));
        let told = |sources: &str| parsed(sources).unwrap_err().to_string();
        assert!(told(&compile("CONFIG_SMP=m")).contains("line of a kernel's config \"CONFIG_SMP=m\""));
        assert!(told("").contains("number of sources"));
        assert!(told(&format!("{deb}{}", compile(""))).contains("number of sources"));
    }

    #[test]
    fn a_recipe_names_exactly_one_source() {
        let sha256 = "0".repeat(64);
        for (text, wanted) in [
            ("[debian]\nsuite = \"bookworm\"\ncommands = [\"true\"]\n".to_owned(), Ok("debian bookworm")),
            ("[oci]\nreference = \"alpine:3.20\"\n".to_owned(), Ok("alpine:3.20")),
            (format!("[bundle]\nurl = \"file:///b\"\nsha256 = \"{sha256}\"\n"), Ok("file:///b")),
            ("[bundle]\nurl = \"ftp://b\"\nsha256 = \"0\"\n".to_owned(), Err("url")),
            ("[bundle]\nurl = \"https://b\"\nsha256 = \"0\"\n".to_owned(), Err("sha256")),
            ("[oci]\nreference = \"a b\"\n".to_owned(), Err("reference")),
            (String::new(), Err("number of sources (debian, oci or bundle) of")),
            (
                "[debian]\nsuite = \"x\"\n[[debian.file]]\npath = \"/a/../b\"\ncontent = \"\"\n".to_owned(),
                Err("file path"),
            ),
            (
                "[debian]\nsuite = \"x\"\n[[debian.file]]\npath = \"/a\"\ncontent = \"\"\nmode = \"9\"\n".to_owned(),
                Err("file mode"),
            ),
        ] {
            let parsed = ImageRecipe::parse(&format!("name = \"mine\"\n{text}"), Path::new("r.toml"));
            match (parsed, wanted) {
                (Ok(recipe), Ok(source)) => assert_eq!(recipe.source(), source),
                (Err(CatalogError::Invalid { what, .. }), Err(wanted)) => assert_eq!(what, wanted),
                (parsed, _) => panic!("{text}: {parsed:?}"),
            }
        }
    }

    #[test]
    fn values_that_could_be_options_or_paths_are_refused() {
        for package in ["--hook=x", "../x", "a b", "a,b", "", "A"] {
            let text = format!(
                "[[kernel]]\nname = \"k\"\ndescription = \"\"\n[kernel.deb]\nsuite = \"bookworm\"\npackage = \"{package}\"\n"
            );
            let error = Catalog::parse(&text, Path::new(FILE)).unwrap_err();
            assert!(matches!(error, CatalogError::Invalid { what: "package", .. }), "{package}: {error}");
        }
    }
}
