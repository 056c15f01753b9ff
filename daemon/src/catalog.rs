//! What can be made, as opposed to what has been made: names and recipes.
//!
//! A TOML file is compiled in; `catalog.toml` in the configuration directory adds entries and replaces those
//! of the same name. Reading it fetches nothing. [`crate::kernel`] and [`crate::image`] carry recipes out.

use std::path::{Path, PathBuf};

use banger_proto::failure::{Classified, Kind};
use banger_proto::names::{ImageName, KernelName};
use serde::Deserialize;

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
    /// A kernel package, or one that depends on the newest of its kind.
    pub package: String,
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
    /// Suite of the distribution.
    pub suite: String,
    /// Packages beyond the minimal system.
    pub packages: Vec<String>,
    /// dpkg path patterns that are not unpacked …
    pub exclude: Vec<String>,
    /// … except these.
    pub include: Vec<String>,
}

impl ImageRecipe {
    /// One line for listings.
    pub fn source(&self) -> String {
        format!("debian {}", self.suite)
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
    deb: Deb,
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
    description: String,
    kernel: String,
    debian: Debian,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Debian {
    suite: String,
    packages: Vec<String>,
    #[serde(default)]
    exclude: Vec<String>,
    #[serde(default)]
    include: Vec<String>,
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
        let kernels = file.kernel.into_iter().map(|entry| {
            Ok(KernelRecipe {
                name: check.name(entry.name)?,
                description: entry.description,
                suite: check.word("suite", entry.deb.suite)?,
                package: check.word("package", entry.deb.package)?,
            })
        });
        let images = file.image.into_iter().map(|entry| {
            let debian = entry.debian;
            Ok(ImageRecipe {
                name: check.name(entry.name)?,
                description: entry.description,
                kernel: check.name(entry.kernel)?,
                suite: check.word("suite", debian.suite)?,
                packages: check.each("package", debian.packages, Check::word)?,
                exclude: check.each("pattern", debian.exclude, Check::pattern)?,
                include: check.each("pattern", debian.include, Check::pattern)?,
            })
        });
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
