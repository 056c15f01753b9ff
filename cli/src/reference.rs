//! docs/cli.md, made from the very definitions the program parses with; a test keeps the checked-in file fresh.
//! The part about JSON is written by hand: `reference/json.md`.

use std::fmt::Write as _;

use clap::{Arg, Command};

const JSON: &str = include_str!("reference/json.md");

/// The whole document.
pub fn markdown() -> String {
    let mut root = crate::args::command();
    root.build();
    let mut text = String::from("# Command line\n\n");
    text +=
        "Made from the program's own definitions (`cli/src/reference.rs`); what you read here is what it parses.\n\n";
    text += JSON;
    text += "\n## Commands\n\n";
    for command in visible(&root) {
        list(&mut text, command, "banger", 0);
    }
    text.push('\n');
    describe(&mut text, &root, "banger");
    for (command, path) in all(&root, "banger") {
        describe(&mut text, command, &path);
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}

fn visible(command: &Command) -> impl Iterator<Item = &Command> {
    command.get_subcommands().filter(|sub| !sub.is_hide_set() && sub.get_name() != "help")
}

fn all<'a>(command: &'a Command, path: &str) -> Vec<(&'a Command, String)> {
    let mut found = Vec::new();
    for sub in visible(command) {
        let path = format!("{path} {}", sub.get_name());
        found.push((sub, path.clone()));
        found.extend(all(sub, &path));
    }
    found
}

fn list(text: &mut String, command: &Command, above: &str, depth: usize) {
    let path = format!("{above} {}", command.get_name());
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    let anchor = path.replace(' ', "-");
    let _ = writeln!(text, "{}- [`{path}`](#{anchor}): {}", "  ".repeat(depth), first_line(&about));
    for sub in visible(command) {
        list(text, sub, &path, depth + 1);
    }
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default().trim_end_matches('.')
}

fn describe(text: &mut String, command: &Command, path: &str) {
    let _ = write!(text, "### `{path}`\n\n");
    let about = command.get_long_about().or_else(|| command.get_about()).map(ToString::to_string).unwrap_or_default();
    let _ = write!(text, "{}\n\n", about.trim_end());
    let aliases: Vec<String> = command.get_visible_aliases().map(|alias| format!("`{alias}`")).collect();
    if !aliases.is_empty() {
        let _ = write!(text, "Also: {}\n\n", aliases.join(", "));
    }
    let usage = command.clone().render_usage().to_string();
    let _ = write!(text, "```text\n{}\n```\n\n", usage.strip_prefix("Usage: ").unwrap_or(&usage));
    let is_root = path == "banger";
    let arguments: Vec<&Arg> = command
        .get_arguments()
        .filter(|argument| !argument.is_hide_set() && !["help", "version"].contains(&argument.get_id().as_str()))
        .filter(|argument| is_root || !argument.is_global_set())
        .collect();
    if arguments.is_empty() {
        return;
    }
    text.push_str("| Argument | Meaning |\n|---|---|\n");
    for argument in arguments {
        let _ = writeln!(text, "| {} | {} |", spelling(argument), meaning(argument));
    }
    text.push('\n');
}

fn spelling(argument: &Arg) -> String {
    let value = argument
        .get_value_names()
        .filter(|_| argument.get_action().takes_values())
        .map(|names| names.iter().map(|name| format!("<{name}>")).collect::<Vec<_>>().join(" "))
        .unwrap_or_default();
    let short = argument.get_short().map(|short| format!("`-{short}`, ")).unwrap_or_default();
    match argument.get_long() {
        Some(long) if value.is_empty() => format!("{short}`--{long}`"),
        Some(long) => format!("{short}`--{long} {value}`"),
        None if argument.is_last_set() => format!("`-- {value}...`"),
        None => format!("`{value}`"),
    }
}

fn meaning(argument: &Arg) -> String {
    let mut text = argument.get_help().map(ToString::to_string).unwrap_or_default();
    let values: Vec<String> = argument
        .get_possible_values()
        .iter()
        .filter(|_| argument.get_action().takes_values())
        .map(|value| match value.get_help() {
            Some(help) => format!("`{}` ({help})", value.get_name()),
            None => format!("`{}`", value.get_name()),
        })
        .collect();
    if !values.is_empty() {
        text += &format!(": {}", values.join(", "));
    }
    let defaults: Vec<String> =
        argument.get_default_values().iter().map(|value| value.to_string_lossy().into_owned()).collect();
    if argument.get_action().takes_values() && !defaults.is_empty() {
        text += &format!(" [default: {}]", defaults.join(" "));
    }
    text.replace('|', "\\|").replace('\n', " ")
}

#[cfg(test)]
mod tests;
