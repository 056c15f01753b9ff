//! What cannot be a workspace is refused at once: no machine, no daemon, one clear reason and a way out.

use banger_tests::account::{Who, skipped};
use banger_tests::env::Env;
use banger_tests::repository::Repository;

use super::{for_both_users, text};

for_both_users!(what_cannot_be_a_workspace_is_refused_before_anything_starts, every_refusal);

const REFUSED: i32 = 5;
const NOT_FOUND: i32 = 3;
const USAGE: i32 = 2;

fn every_refusal(who: Who) {
    let Some(env) = Env::empty(who) else { return };
    let run = |path: &str| env.banger(["vm", "run", "--rm", path, "--", "true"]).finish();

    let library = Repository::small(&env, "library");
    let parent = Repository::small(&env, "parent");
    parent.git(["submodule", "--quiet", "add", text(library.path()), "vendor/library"]);
    parent.commit("with a submodule");
    run(text(parent.path())).refused(REFUSED, &["submodule", "vendor/library"]);

    let bare = env.home().join("bare.git");
    library.git(["clone", "-q", "--bare", ".", text(&bare)]);
    run(text(&bare)).refused(REFUSED, &["bare"]);

    let plain = env.home().join("plain");
    env.ensure_directory(&plain);
    run(text(&plain)).refused(USAGE, &["git", text(&plain)]);

    let missing = env.home().join("missing");
    run(text(&missing)).refused(NOT_FOUND, &[text(&missing)]);

    let file = env.write("home/file", b"not a directory\n");
    run(text(&file)).refused(USAGE, &[text(&file)]);

    env.assert_nothing_started();
}

#[test]
fn a_repository_that_cannot_be_read_is_refused_and_named() {
    let Some(env) = Env::empty(Who::Ordinary) else { return };
    if env.account().uid == 0 {
        return skipped("root reads everything").unwrap_or_default();
    }
    let repository = Repository::small(&env, "repo");
    repository.write("secret.txt", b"unreadable\n");
    repository.commit("second");
    repository.set_mode("secret.txt", 0o000);
    let run = || env.banger(["vm", "run", "--rm", text(repository.path()), "--", "true"]).finish();
    let outcome = run();
    assert_ne!(outcome.code(), 0);
    let code = outcome.code();
    outcome.refused(code, &["secret.txt", "permission denied"]);

    repository.set_mode(".git", 0o000);
    let outcome = run();
    let code = outcome.code();
    assert_ne!(code, 0);
    outcome.refused(code, &["permission denied"]);
    repository.set_mode(".git", 0o700);
    env.assert_nothing_started();
}
