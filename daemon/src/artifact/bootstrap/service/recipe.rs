//! Which arguments of mmdebstrap the build service takes: those of a recipe for an image or a
//! compiled kernel, whatever its packages and settings. Pure.

use crate::image::FINISH;
use crate::kernel::compile;

/// Taken as they are.
const PLAIN: [&str; 5] = [
    "--verbose",
    "--mode=unshare",
    "--variant=minbase",
    "--dpkgopt=force-unsafe-io",
    "--aptopt=Acquire::Languages \"none\"",
];
/// Taken with a value of which each character is of these, besides letters and digits.
const WITH_VALUE: [(&str, &str); 3] =
    [("--include=", ",.+-:"), ("--dpkgopt=path-exclude=", "/*._-+?[]@"), ("--dpkgopt=path-include=", "/*._-+?[]@")];

/// An argument that is in no recipe.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("no recipe has {argument:?}")]
pub struct UnknownArgument {
    argument: String,
}

/// Options first, then the suite and `-` for the tar stream.
///
/// # Errors
/// The first argument that no recipe has, or what is missing.
pub fn check(arguments: &[String]) -> Result<(), UnknownArgument> {
    let unknown = |argument: &str| Err(UnknownArgument { argument: argument.chars().take(200).collect() });
    let [options @ .., suite, output] = arguments else { return unknown("too few arguments") };
    if let Some(option) = options.iter().find(|option| !is_option(option)) {
        return unknown(option);
    }
    if !options.iter().any(|option| option == "--mode=unshare") {
        return unknown("no --mode");
    }
    let is_suite = suite.starts_with(|first: char| first.is_ascii_lowercase()) && is_of(suite, "-");
    match (is_suite, output.as_str()) {
        (true, "-") => Ok(()),
        (true, other) => unknown(other),
        (false, _) => unknown(suite),
    }
}

fn is_option(option: &str) -> bool {
    let with_value = |(name, characters): &(&str, &str)| {
        option.strip_prefix(name).is_some_and(|value| !value.is_empty() && is_of(value, characters))
    };
    PLAIN.contains(&option)
        || option.strip_prefix("--customize-hook=").is_some_and(|hook| hook == FINISH || compile::is_hook(hook))
        || WITH_VALUE.iter().any(with_value)
}

fn is_of(text: &str, others: &str) -> bool {
    text.chars().all(|character| character.is_ascii_alphanumeric() || others.contains(character))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::catalog::Catalog;

    fn arguments(list: &[&str]) -> Vec<String> {
        list.iter().map(|argument| (*argument).to_owned()).collect()
    }

    #[test]
    fn the_recipe_of_the_default_image_is_taken() {
        let catalog = Catalog::embedded();
        let recipe = catalog.image(&"debian-bookworm".parse().unwrap()).unwrap();
        let crate::catalog::ImageSource::Debian(debian) = &recipe.source else {
            panic!("the default image is Debian's")
        };
        let made = crate::image::bootstrap(recipe.name.as_str(), debian);
        let arguments = super::super::super::arguments(&made, false);
        let arguments: Vec<String> = arguments.into_iter().map(|one| one.into_string().unwrap()).collect();
        assert_eq!(check(&arguments), Ok(()));
    }

    #[test]
    fn the_recipe_of_the_compiled_kernel_is_taken() {
        let catalog = Catalog::embedded();
        let recipe = catalog.kernel(&"microvm-6.12".parse().unwrap()).unwrap();
        let crate::catalog::KernelMaking::Compile(config) = &recipe.making else { panic!("it is compiled") };
        let arguments = super::super::super::arguments(&compile::bootstrap(recipe, config), false);
        let arguments: Vec<String> = arguments.into_iter().map(|one| one.into_string().unwrap()).collect();
        assert_eq!(check(&arguments), Ok(()));
    }

    #[test]
    fn nothing_that_runs_a_program_or_names_a_file_is() {
        let good = ["--mode=unshare", "--variant=minbase", "--include=git,libc6:amd64"];
        assert_eq!(check(&arguments(&[&good[..], &["bookworm", "-"]].concat())), Ok(()));
        for bad in [
            "--setup-hook=id",
            "--customize-hook=id",
            "--hook-directory=/x",
            "--aptopt=Dir::Bin::dpkg \"/x\"",
            "--aptopt=/x",
            "--dpkgopt=post-invoke=id",
            "--dpkgopt=path-include=/x\npost-invoke=id",
            "--include=./x.deb",
            "--include=/x.deb",
            "--include=?name(x)",
            "--mode=root",
            "--keyring=/x",
            "-",
        ] {
            assert!(check(&arguments(&[&good[..], &[bad, "bookworm", "-"]].concat())).is_err(), "{bad}");
        }
        for end in [&["bookworm", "/etc/x"][..], &["./suite", "-"], &["bookworm", "-", "deb http://x y z"], &["-"], &[]]
        {
            assert!(check(&arguments(&[&good[..], end].concat())).is_err(), "{end:?}");
        }
        assert!(check(&arguments(&["--variant=minbase", "bookworm", "-"])).is_err());
    }
}
