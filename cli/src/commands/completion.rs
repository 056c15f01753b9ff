//! `banger completion`.

use clap::{Args, ValueEnum};
use clap_complete::env::Shells;

use crate::context::Context;
use crate::error::{CliError, CommandResult};

/// Print a script that completes commands and names in your shell
///
///     echo 'source <(banger completion bash)' >> ~/.bashrc
///     echo 'source <(banger completion zsh)' >> ~/.zshrc
///     banger completion fish > ~/.config/fish/completions/banger.fish
///
/// Names of VMs, images and kernels are asked of bangerd while it runs; completing never starts it.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct CompletionArgs {
    /// Your shell
    pub shell: Shell,
}

/// A shell there is a script for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Shell {
    /// GNU Bash
    Bash,
    /// Z shell
    Zsh,
    /// Fish
    Fish,
    /// PowerShell
    Powershell,
    /// Elvish
    Elvish,
}

impl Shell {
    fn name(self) -> &'static str {
        match self {
            Self::Bash => "bash",
            Self::Zsh => "zsh",
            Self::Fish => "fish",
            Self::Powershell => "powershell",
            Self::Elvish => "elvish",
        }
    }
}

/// Runs it.
///
/// # Errors
/// Only that nobody reads.
pub fn run(context: &Context, args: &CompletionArgs) -> CommandResult {
    context.ui.data(&script(args.shell)?)?;
    Ok(0)
}

fn script(shell: Shell) -> Result<String, CliError> {
    let shells = Shells::builtins();
    let completer = shells.completer(shell.name()).expect("every shell of the enum is built in");
    let mut script = Vec::new();
    completer.write_registration("COMPLETE", "banger", "banger", "banger", &mut script).map_err(|error| {
        CliError::new(banger_proto::failure::Kind::Internal, "cannot write the completion script")
            .map(|failure| failure.caused_by(error.to_string()))
    })?;
    Ok(String::from_utf8_lossy(&script).into_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn every_shell_has_a_script() {
        for shell in Shell::value_variants() {
            let script = script(*shell).unwrap();
            assert!(script.contains("banger") && script.contains("COMPLETE"), "{shell:?}: {script}");
        }
    }
}
