//! From the words typed to the exit status: parses, sets up the output channels, runs one command, tells its error.

mod usage;

use std::ffi::OsString;
use std::sync::Arc;

use banger_proto::failure::Kind;
use clap::error::ErrorKind;
use clap::{CommandFactory as _, FromArgMatches as _};

use crate::args::{Cli, Globals, quickly};
use crate::commands;
use crate::context::Context;
use crate::error::{CliError, CommandResult};
use crate::mode::Wish;
use crate::ui::style::Paint;
use crate::ui::{Channel, ColorWhen, Format, Settings, Ui, Verbosity};

/// Runs `banger` with these words, the program's name first, and gives its exit status.
pub fn run_program(words: impl IntoIterator<Item = OsString>) -> u8 {
    // In a completion request of a shell the process ends here.
    clap_complete::CompleteEnv::with_factory(crate::args::command).complete();
    let words: Vec<OsString> = words.into_iter().collect();
    let early = EarlyFlags::find(&words);
    let cli = match parse(&words, early) {
        Ok(cli) => cli,
        Err(error) => return explain(&error, &words, early),
    };
    let ui = Arc::new(Ui::standard(settings(&cli.globals)));
    let running = std::panic::AssertUnwindSafe(|| run_command(cli, &ui));
    // The hook has told where; scripts are told by the status that it is our fault.
    let result = std::panic::catch_unwind(running).unwrap_or_else(|_| {
        Err(CliError::new(Kind::Internal, "banger crashed: this is a bug")
            .hint("Report it with the lines above and the output of `banger version`."))
    });
    match result {
        Ok(status) => status,
        Err(error) => {
            if let CliError::Failed(failure) = &error {
                ui.error(failure);
            }
            error.exit_code()
        }
    }
}

fn run_command(cli: Cli, ui: &Arc<Ui>) -> CommandResult {
    let variable = std::env::var("BANGER_MODE").ok();
    let wish = Wish::parse(cli.globals.rootless.then_some(Wish::Rootless), variable.as_deref())?;
    log_to_stderr();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().map_err(|error| {
            CliError::new(Kind::HostNotReady, "cannot start threads")
                .map(|failure| failure.caused_by(error.to_string()))
        })?;
    let context = Context::new(Arc::clone(ui), wish);
    let result = runtime.block_on(commands::run(&context, cli.command));
    // A thread may be blocked in a write nobody reads; that must not keep us.
    runtime.shutdown_background();
    result
}

/// For people who debug banger itself: BANGER_LOG=debug.
fn log_to_stderr() {
    if let Ok(filter) = tracing_subscriber::EnvFilter::try_from_env("BANGER_LOG") {
        // Fails only if a subscriber is set already, which in a test is fine.
        let _ = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).try_init();
    }
}

fn settings(globals: &Globals) -> Settings {
    let verbosity = match (globals.quiet, globals.verbose) {
        (true, _) => Verbosity::Quiet,
        (false, true) => Verbosity::Verbose,
        (false, false) => Verbosity::Normal,
    };
    let format = if globals.json { Format::Json } else { Format::Text };
    Settings { format, verbosity, color: globals.color }
}

/// What must be known even where the words cannot be parsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct EarlyFlags {
    format: Format,
    color: ColorWhen,
}

impl EarlyFlags {
    fn find(words: &[OsString]) -> Self {
        let ours: Vec<&str> =
            words.iter().skip(1).map_while(|word| word.to_str().filter(|word| *word != "--")).collect();
        let color_named = |name: &str| match name {
            "always" => Some(ColorWhen::Always),
            "never" => Some(ColorWhen::Never),
            _ => None,
        };
        let joined = ours.iter().find_map(|word| color_named(word.strip_prefix("--color=")?));
        let apart = || ours.windows(2).find_map(|pair| color_named(pair[1]).filter(|_| pair[0] == "--color"));
        Self {
            format: if ours.contains(&"--json") { Format::Json } else { Format::Text },
            color: joined.or_else(apart).unwrap_or_default(),
        }
    }
}

fn parse(words: &[OsString], early: EarlyFlags) -> Result<Cli, clap::Error> {
    let color = match early.color {
        ColorWhen::Auto => clap::ColorChoice::Auto,
        ColorWhen::Always => clap::ColorChoice::Always,
        ColorWhen::Never => clap::ColorChoice::Never,
    };
    let matches = match quickly(|| Cli::command().color(color).try_get_matches_from(words)) {
        // Only help needs all commands, and its paragraphs in order: who does not ask for it need not wait for that.
        Err(_) => crate::args::command().color(color).try_get_matches_from(words)?,
        Ok(matches) => matches,
    };
    Cli::from_arg_matches(&matches)
}

/// Help and versions are data; everything else is a usage error.
fn explain(error: &clap::Error, words: &[OsString], early: EarlyFlags) -> u8 {
    let settings = Settings { format: early.format, verbosity: Verbosity::Normal, color: early.color };
    let ui = Ui::standard(settings);
    let help = |paint: Paint| {
        let rendered = error.render();
        if paint.is_coloured() { rendered.ansi().to_string() } else { rendered.to_string() }
    };
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => match ui.data(&help(ui.data_paint())) {
            Ok(()) => 0,
            Err(error) => error.exit_code(),
        },
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand if early.format == Format::Text => {
            let _ = ui.bytes(Channel::Notes, help(ui.notes_paint()).as_bytes());
            Kind::Usage.exit_code()
        }
        _ => {
            ui.error(&usage::failure(error, words));
            Kind::Usage.exit_code()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn early(words: &[&str]) -> EarlyFlags {
        EarlyFlags::find(&words.iter().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn flags_after_the_dashes_belong_to_the_command() {
        assert_eq!(early(&["banger", "--json", "vm"]).format, Format::Json);
        assert_eq!(early(&["banger", "vm", "run", "--", "x", "--json"]).format, Format::Text);
        assert_eq!(early(&["banger", "--color", "never"]).color, ColorWhen::Never);
        assert_eq!(early(&["banger", "--color=always"]).color, ColorWhen::Always);
        assert_eq!(early(&["banger", "vm", "--", "--color=always"]).color, ColorWhen::Auto);
    }
}
