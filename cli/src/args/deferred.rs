//! A command whose options are described only once it is the one that was typed: describing all of them takes longer than
//! everything else that happens before a command runs.
//!
//! Help, completion and the reference need all of them, so it is done only within [`quickly`].

use std::cell::Cell;

use clap::{ArgMatches, Args, Command, Error, FromArgMatches, Subcommand};

thread_local! {
    static IS_QUICK: Cell<bool> = const { Cell::new(false) };
}

/// What `parse` does is done with the commands' names, and the options of the one that is typed. If it fails, its error
/// may lack what the others are for: ask again without.
pub fn quickly<T>(parse: impl FnOnce() -> T) -> T {
    let before = IS_QUICK.replace(true);
    let parsed = parse();
    IS_QUICK.set(before);
    parsed
}

/// The arguments of a command.
#[derive(Debug)]
pub struct Deferred<T>(pub T);

fn describe(command: Command, with: fn(Command) -> Command) -> Command {
    if IS_QUICK.get() { command.defer(with) } else { with(command) }
}

impl<T: FromArgMatches> FromArgMatches for Deferred<T> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        T::from_arg_matches(matches).map(Self)
    }

    fn from_arg_matches_mut(matches: &mut ArgMatches) -> Result<Self, Error> {
        T::from_arg_matches_mut(matches).map(Self)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        self.0.update_from_arg_matches(matches)
    }
}

impl<T: Args> Args for Deferred<T> {
    fn augment_args(command: Command) -> Command {
        describe(command, T::augment_args)
    }

    fn augment_args_for_update(command: Command) -> Command {
        describe(command, T::augment_args_for_update)
    }
}

impl<T: Subcommand> Subcommand for Deferred<T> {
    fn augment_subcommands(command: Command) -> Command {
        describe(command, T::augment_subcommands)
    }

    fn augment_subcommands_for_update(command: Command) -> Command {
        describe(command, T::augment_subcommands_for_update)
    }

    fn has_subcommand(name: &str) -> bool {
        T::has_subcommand(name)
    }
}
