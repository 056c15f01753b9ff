//! What the argument parser refuses, as one of our own failures: same form, same exit code, always a way out. Pure.

use std::ffi::OsString;

use banger_proto::failure::{Failure, Kind};
use clap::Command;

/// The parser's error as a failure.
pub fn failure(error: &clap::Error, words: &[OsString]) -> Failure {
    let text = error.render().to_string();
    let (problem, rest) = text.split_once("\n\n").unwrap_or((&text, ""));
    let problem = problem.strip_prefix("error: ").unwrap_or(problem);
    let mut failure = Failure::new(Kind::Usage, problem.split_whitespace().collect::<Vec<_>>().join(" "));
    for tip in rest.lines().filter_map(|line| line.trim().strip_prefix("tip: ")) {
        let mut sentence = tip.to_owned();
        sentence.get_mut(..1).into_iter().for_each(str::make_ascii_uppercase);
        failure = failure.hint(format!("{}.", sentence.replace('\'', "`").trim_end_matches('.')));
    }
    failure.hint(format!("See every argument with `{} --help`.", command_named(words)))
}

/// The deepest command the words name.
fn command_named(words: &[OsString]) -> String {
    let root = crate::args::command();
    let mut path = String::from("banger");
    let mut command: &Command = &root;
    for word in words.iter().skip(1).map_while(|word| word.to_str().filter(|word| *word != "--")) {
        if let Some(sub) = command.find_subcommand(word) {
            path = format!("{path} {}", sub.get_name());
            command = sub;
        }
    }
    path
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn refused(words: &[&str]) -> (String, Vec<String>) {
        let words: Vec<OsString> = words.iter().map(OsString::from).collect();
        let failure = failure(&crate::args::command().try_get_matches_from(&words).unwrap_err(), &words);
        assert_eq!(failure.kind, Kind::Usage);
        (failure.chain.join("|"), failure.hints)
    }

    #[test]
    fn every_refusal_is_one_line_and_has_a_way_out() {
        let (message, hints) = refused(&["banger", "vm", "create", "--name", "Bad_Name"]);
        assert!(message.contains("Bad_Name") && message.contains("1 to 63"), "{message}");
        assert_eq!(hints.last().unwrap(), "See every argument with `banger vm create --help`.");

        let (message, hints) = refused(&["banger", "vm", "exec", "box", "ls"]);
        assert!(message.contains("unexpected argument 'ls'"), "{message}");
        assert_eq!(hints.last().unwrap(), "See every argument with `banger vm exec --help`.");

        let (message, _) = refused(&["banger", "vm", "exec", "box"]);
        assert!(!message.contains('\n') && message.contains("required"), "{message}");

        let (_, hints) = refused(&["banger", "vm", "lst"]);
        assert!(hints.iter().any(|hint| hint.contains("`list`")), "{hints:?}");
    }
}
