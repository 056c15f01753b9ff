//! Rules about single source files.

use std::path::Path;

use super::sources::{expect_none, files, is_test_code, read, rust_files, without_inline_tests};

/// Files that may hold `unsafe`, and why. Every block is explained beside it (a clippy lint checks that).
const UNSAFE_FILES: &[(&str, &str)] = &[
    ("root-helper/src/syscalls", "ioctls of tun, loop and device-mapper, and setfsuid"),
    ("guest/src/syscalls.rs", "fork, pre-exec hooks and vsock, which std and rustix do not offer"),
    ("daemon/src/platform/syscalls.rs", "the pre-exec hook that cuts the machine monitor loose"),
    ("daemon/src/artifact/extents.rs", "the request for a file's extents, which rustix does not offer"),
    ("daemon/src/ready.rs", "taking the descriptor the command line names for the answer to its start"),
    ("cli/src/client/detached.rs", "the pre-exec hook that cuts the daemon loose"),
];

/// Longest file in non-test lines.
const LINE_LIMIT: usize = 600;
/// Files over it, and why.
const LONG_FILES: &[(&str, &str)] = &[];

/// The only place of the product that prints.
const PRINTING_FILE: &str = "cli/src/ui.rs";

#[test]
fn unsafe_code_lives_only_in_named_files() {
    let violations: Vec<String> = rust_files()
        .iter()
        .filter(|path| {
            !UNSAFE_FILES.iter().any(|(allowed, _)| path.starts_with(allowed) || path == &Path::new(allowed))
        })
        .filter(|path| {
            read(path).lines().map(code_of).any(|line| {
                line.contains("allow(unsafe_code)") || line.contains("unsafe {") || line.contains("unsafe fn")
            })
        })
        .filter(|path| !path.ends_with("tidy/rules.rs"))
        .map(|path| path.display().to_string())
        .collect();
    expect_none(&violations, "move the call to a file of UNSAFE_FILES in tests/suite/tidy/rules.rs, or use rustix");
}

#[test]
fn only_the_ui_prints() {
    let macros = ["println!(", "print!(", "eprintln!(", "eprint!(", "dbg!("];
    let violations: Vec<String> = rust_files()
        .iter()
        .filter(|path| !is_test_code(path) && path != &Path::new(PRINTING_FILE))
        .flat_map(|path| {
            without_inline_tests(&read(path))
                .lines()
                .enumerate()
                .filter(|(_, line)| macros.iter().any(|name| code_of(line).contains(name)))
                .map(|(number, line)| format!("{}:{}: {}", path.display(), number + 1, line.trim()))
                .collect::<Vec<_>>()
        })
        .collect();
    expect_none(&violations, &format!("hand the text to {PRINTING_FILE}; services log with tracing"));
}

#[test]
fn every_module_says_what_it_is_for() {
    let violations: Vec<String> = rust_files()
        .iter()
        // What foo/tests.rs is for is plain.
        .filter(|path| !path.ends_with("tests.rs"))
        .filter(|path| !read(path).trim_start().starts_with("//!"))
        .map(|path| path.display().to_string())
        .collect();
    expect_none(&violations, "begin the file with a `//!` header: what for, what it never does, where to go next");
}

#[test]
fn no_file_is_too_long_to_keep_in_mind() {
    let violations: Vec<String> = rust_files()
        .iter()
        .filter(|path| !LONG_FILES.iter().any(|(allowed, _)| path == &Path::new(allowed)))
        .map(|path| (path, without_inline_tests(&read(path)).lines().count()))
        .filter(|(_, lines)| *lines > LINE_LIMIT)
        .map(|(path, lines)| format!("{}: {lines} lines", path.display()))
        .collect();
    expect_none(&violations, "split it, or give the reason in LONG_FILES in tests/suite/tidy/rules.rs");
}

#[test]
fn a_main_file_only_starts_things() {
    let violations: Vec<String> = rust_files()
        .iter()
        .filter(|path| path.ends_with("src/main.rs"))
        .map(|path| (path, without_inline_tests(&read(path)).lines().count()))
        .filter(|(_, lines)| *lines > 60)
        .map(|(path, lines)| format!("{}: {lines} lines", path.display()))
        .collect();
    expect_none(&violations, "move what it does into the library");
}

#[test]
fn modules_are_named_files_not_mod_rs() {
    let violations: Vec<String> =
        rust_files().iter().filter(|path| path.ends_with("mod.rs")).map(|path| path.display().to_string()).collect();
    expect_none(&violations, "use foo.rs beside foo/");
}

#[test]
fn no_source_file_is_forgotten() {
    let sources = rust_files();
    let violations: Vec<String> = sources
        .iter()
        .filter(|path| !["main.rs", "lib.rs"].iter().any(|root| path.ends_with(root)))
        .filter(|path| {
            !path.parent().is_some_and(|parent| {
                // Roots of programs and of test binaries.
                ["src/bin", "tests", "examples", "fuzz_targets"].iter().any(|roots| parent.ends_with(roots))
            })
        })
        .filter(|path| {
            let declaration = format!("mod {};", path.file_stem().unwrap_or_default().to_string_lossy());
            let parent = path.parent().unwrap_or(Path::new(""));
            // Declared by foo.rs beside foo/, or by the crate's root in the same directory.
            let owners = [parent.with_extension("rs"), parent.join("lib.rs"), parent.join("main.rs")];
            !owners.iter().any(|owner| sources.contains(owner) && read(owner).contains(&declaration))
        })
        .map(|path| path.display().to_string())
        .collect();
    expect_none(&violations, "declare it with `mod`, or delete it: nothing compiles it");
}

#[test]
fn names_say_what_a_thing_does() {
    let empty_words = ["manager", "helper", "util", "utils", "common", "misc", "info", "data"];
    let violations: Vec<String> = rust_files()
        .iter()
        .filter(|path| {
            path.file_stem()
                .is_some_and(|stem| stem.to_string_lossy().split('_').any(|word| empty_words.contains(&word)))
        })
        .map(|path| path.display().to_string())
        .collect();
    expect_none(&violations, "name the file after what it does");
}

#[test]
fn nothing_is_left_to_do_without_saying_where() {
    // Assembled, so that this file does not contain what it looks for.
    let marks = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];
    let violations: Vec<String> = files()
        .iter()
        .filter(|path| !path.ends_with("Cargo.lock"))
        .flat_map(|path| lines_with(path, |line| marks.iter().any(|mark| has_word(line, mark)) && !line.contains('#')))
        .collect();
    expect_none(&violations, "do it, or name an issue as #number on the same line");
}

#[test]
fn nothing_names_a_machine_or_a_registry() {
    // Where this clone lies; meaningless if that is a directory every machine has.
    let everywhere = ["/", "/tmp", "/var/tmp", "/root", "/home", "/srv", "/opt", "/mnt", "/usr/src"];
    let parent = super::sources::root().parent().map(|path| path.display().to_string());
    let parent = parent.filter(|path| !everywhere.contains(&path.as_str())).map(|path| format!("{path}/"));
    let hosts = ["deb", "static", "index", "files", "registry"];
    let violations: Vec<String> = files()
        .iter()
        .filter(|path| !path.ends_with("Cargo.lock"))
        .flat_map(|path| {
            lines_with(path, |line| {
                parent.as_ref().is_some_and(|parent| names_directory(line, parent))
                    || line.match_indices("://").any(|(at, _)| {
                        let host = line[at + 3..].split('/').next().unwrap_or("");
                        let labels: Vec<&str> = host.split('.').collect();
                        labels.len() == 3 && hosts.contains(&labels[0]) && matches!(labels[2], "org" | "io")
                    })
            })
        })
        .collect();
    expect_none(&violations, "a path of one machine or a fixed registry host works for nobody else");
}

fn lines_with(path: &Path, matches: impl Fn(&str) -> bool) -> Vec<String> {
    read(path)
        .lines()
        .enumerate()
        .filter(|(_, line)| matches(line))
        .map(|(number, line)| format!("{}:{}: {}", path.display(), number + 1, line.trim()))
        .collect()
}

/// `directory` as an absolute path, not the end of another one.
fn names_directory(line: &str, directory: &str) -> bool {
    line.match_indices(directory).any(|(at, _)| {
        !line[..at]
            .ends_with(|before: char| before.is_alphanumeric() || matches!(before, '~' | '.' | '/' | '_' | '-' | '}'))
    })
}

fn has_word(line: &str, word: &str) -> bool {
    line.split(|letter: char| !letter.is_ascii_alphanumeric()).any(|found| found == word)
}

/// The line without what stands after `//`.
fn code_of(line: &str) -> &str {
    line.split("//").next().unwrap_or("")
}
