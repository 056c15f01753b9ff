//! `vm ssh` on a terminal: it is one, it follows its size, and its exit status comes back.

use std::time::Duration;

use banger_tests::env::Env;
use banger_tests::pty::Pty;

use super::{create, delete_and_check, me};

const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn an_interactive_session_is_a_terminal() {
    let Some(env) = Env::ready(me()) else { return };
    create(&env, "box", &[]);
    let mut terminal = Pty::start(&env, &["vm", "ssh", "box"], (24, 80));
    // What is typed is echoed: each answer is written so that its question does not contain it.
    terminal.type_text("echo si''ze $(stty size); tty | sed s,^,on:,\r");
    terminal.expect("size 24 80", LIMIT);
    terminal.expect("on:/dev/pts/", LIMIT);

    terminal.resize((40, 100));
    terminal.type_text("while [ \"$(stty size)\" != '40 100' ]; do sleep 0.1; done; echo re''sized\r");
    terminal.expect("resized", LIMIT);

    // Ctrl-C belongs to the guest. The word comes from the process that is to be interrupted: between a builtin's
    // word and the fork of the next command, bash loses an interrupt. And the terminal discards what was typed before
    // the interrupt, which is over once the shell prompts again; the ^C itself is not echoed if the shell is faster to
    // turn the echo off.
    terminal.type_text("sh -c 'echo st\"\"arted; exec sleep 1000'\r");
    terminal.expect("started", LIMIT);
    terminal.type_text("\u{3}");
    terminal.expect_behind("started", "root@box", LIMIT);
    terminal.type_text("echo go''ing on\r");
    terminal.expect("going on", LIMIT);

    terminal.type_text("exit 5\r");
    assert_eq!(terminal.finish(LIMIT), 5);
    delete_and_check(&env, "box");
}

#[test]
fn an_ephemeral_shell_takes_its_machine_with_it() {
    let Some(env) = Env::ready(me()) else { return };
    let mut terminal = Pty::start(&env, &["vm", "run", "--rm", "--vcpu", "1", "--memory", "1024"], (24, 80));
    terminal.type_text("echo re''ady\r");
    terminal.expect("ready\r\n", Duration::from_secs(300));
    terminal.type_text("exit 3\r");
    assert_eq!(terminal.finish(LIMIT), 3);
    env.assert_nothing_left();
}
