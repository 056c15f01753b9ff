//! The one string an SSH exec request carries. Every word is quoted, so the remote shell sees exactly the words typed.

use banger_sync::quote::shell_quote;

/// What runs where no command and no terminal is given: a login shell reading our stdin.
pub const LOGIN_SHELL: &str = "exec \"${SHELL:-/bin/sh}\" -l";

/// `words` run in `directory`, replacing the shell so that signals reach the command. Without a directory they run
/// where the guest starts sessions: in the image's working directory, else in the user's home.
pub fn command(directory: Option<&str>, words: &[String]) -> String {
    let words: Vec<String> = words.iter().map(|word| shell_quote(word)).collect();
    let words = words.join(" ");
    match directory {
        Some(directory) => format!("cd {} && exec {words}", shell_quote(directory)),
        None => format!("exec {words}"),
    }
}

/// A login shell in `directory`.
pub fn shell_in(directory: &str) -> String {
    format!("cd {} && {LOGIN_SHELL}", shell_quote(directory))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|&word| word.into()).collect()
    }

    #[test]
    fn each_word_is_quoted() {
        assert_eq!(command(Some("/root/repo"), &words(&["make", "t"])), "cd '/root/repo' && exec 'make' 't'");
        assert_eq!(command(None, &words(&["make", "t"])), "exec 'make' 't'");
        assert_eq!(shell_in("/a b"), "cd '/a b' && exec \"${SHELL:-/bin/sh}\" -l");
    }

    #[test]
    fn a_shell_hands_the_same_words_on() {
        for arguments in [vec!["printf", "%s|", "a b", "", "it's", "$HOME", "*", "-n"], vec!["sh", "-c", "exit 42"]] {
            let script = command(Some("/tmp"), &words(&arguments));
            let run = std::process::Command::new("/bin/sh").args(["-c", &script]).output().unwrap();
            if arguments[0] == "sh" {
                assert_eq!(run.status.code(), Some(42));
            } else {
                assert_eq!(String::from_utf8(run.stdout).unwrap(), "a b||it's|$HOME|*|-n|");
            }
        }
    }
}
