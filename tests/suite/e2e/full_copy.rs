//! `--mode full_copy` in a real machine: the whole history and the submodules, there and back.

use banger_tests::account::Who;
use banger_tests::env::Env;
use banger_tests::repository::Repository;

use super::{create, delete_and_check, exec, for_both_users, text};

for_both_users!(history_and_submodules_are_in_the_guest, there_and_back);

const REFUSED: i32 = 5;
const GUEST_PATH: &str = "/root/outer";
/// What must be the same on both sides, of the repository and of the submodule in it; remote branches are never copied.
const SCRIPT: &str = r"
export LC_ALL=C GIT_OPTIONAL_LOCKS=0
for directory in . 'libs/the lib'; do
    git -C $directory log --branches --tags --format='%H %s'
    git -C $directory for-each-ref refs/heads refs/tags
    git -C $directory status --porcelain=v1 -z
    git -C $directory fsck --full 2>/dev/null
done
git submodule status --recursive
";

fn with_submodule(env: &Env) -> Repository<'_> {
    let library = Repository::small(env, "library");
    library.write("only-in-the-library.txt", b"one\n");
    library.commit("the library");
    library.git(["tag", "-a", "v1", "-m", "first"]).ok();
    let outer = Repository::small(env, "outer");
    outer.git(["branch", "side"]).ok();
    outer.write("second.txt", b"two\n");
    outer.commit("second");
    outer.git(["submodule", "--quiet", "add", text(library.path()), "libs/the lib"]).ok();
    outer.commit("a submodule");
    outer
}

fn there_and_back(who: Who) {
    let Some(env) = Env::ready(who) else { return };
    let outer = with_submodule(&env);
    create(&env, "box", &[]);
    let prepare = ["vm", "workspace", "prepare", "box", text(outer.path()), "--guest-path", GUEST_PATH];
    // What is not asked for is refused with the way out.
    env.banger(prepare).finish().refused(REFUSED, &["submodule", "--mode full_copy"]);
    env.banger(prepare).args(["--mode", "full_copy"]).finish().ok();
    let script = SCRIPT.replace("$directory", "\"$directory\"");
    let host = outer.command("sh").args(["-c", &script]).finish().ok().text();
    let guest = exec(&env, "box", &["sh", "-c", &format!("cd {GUEST_PATH} && {script}")]).ok().text();
    assert_eq!(guest, host);
    assert!(host.contains("second") && host.contains("side") && host.contains("the library"), "{host}");

    // The mode is remembered, and edits in the submodule travel.
    outer.write("libs/the lib/only-in-the-library.txt", b"edited\n");
    env.banger(prepare).finish().ok();
    let read = exec(&env, "box", &["cat", &format!("{GUEST_PATH}/libs/the lib/only-in-the-library.txt")]).ok();
    assert_eq!(read.text(), "edited\n");
    env.banger(["vm", "workspace", "verify", "box", "--guest-path", GUEST_PATH]).finish().ok();

    // Work in the submodule comes back as a patch.
    let work = format!("cd '{GUEST_PATH}/libs/the lib' && echo new > new.txt && git rev-parse HEAD v1");
    exec(&env, "box", &["sh", "-c", &work]).ok();
    env.banger(["vm", "delete", "box"]).finish().refused(REFUSED, &["box", "new.txt"]);
    let patch = env.home().join("work.patch");
    let export = ["vm", "workspace", "export", "box", "--guest-path", GUEST_PATH, "-o", text(&patch)];
    env.banger(export).finish().ok();
    let patch = std::fs::read_to_string(patch).expect("just written");
    assert!(
        patch.contains("+++ \"b/libs/the lib/new.txt\"") || patch.contains("+++ b/libs/the lib/new.txt"),
        "{patch}"
    );
    delete_and_check(&env, "box");
}
