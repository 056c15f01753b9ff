//! An image whose configuration names a user: sessions are that user's, and so is the workspace.

use std::path::{Path, PathBuf};

use banger_tests::account::Who;
use banger_tests::busybox;
use banger_tests::env::Env;
use banger_tests::repository::Repository;
use serde_json::json;

use super::{SMALL, exec, for_both_users, text};

for_both_users!(sessions_and_workspace_belong_to_the_images_user, belongs_to_the_user);

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001::/home/app:/sbin/nologin\n";
const NO_GHOST: &str = "banger-guest: there is no user \"ghost\" in the image's /etc/passwd";
const GROUP: &str = "root:x:0:\napp:x:1001:\nvideo:x:44:app\n";

fn image(env: &Env, user: &str) -> Option<PathBuf> {
    let root = busybox::Root::new(env, "user", &["sh", "cat", "id", "stat", "pwd", "touch", "ls", "env", "readlink"])?;
    root.write("etc/passwd", PASSWD);
    root.write("etc/group", GROUP);
    root.write("home/app/.keep", "");
    root.own("home/app", 1000, 1001);
    Some(root.layout(&json!({ "Env": ["PATH=/bin", "COLOUR=green"], "WorkingDir": "/home/app", "User": user })))
}

/// What `script` says in the VM, as whoever sessions are there unless `flags` say otherwise.
fn say(env: &Env, flags: &[&str], script: &str) -> String {
    let words = [&["vm", "exec", "box"], flags, &["--", "sh", "-c", script]].concat();
    env.banger(words).finish().ok().text()
}

fn belongs_to_the_user(who: Who) {
    let Some(env) = Env::ready(who) else { return };
    let Some(layout) = image(&env, "app") else { return };
    let pull = |layout: &Path, name: &str| {
        env.banger(["image", "pull", &format!("oci:{}", layout.display()), "--name", name]).finish().ok();
    };
    pull(&layout, "app");
    // No workspace yet: the image's directory, user and variables, without a network.
    env.banger(["vm", "create", "--name", "box", "--image", "app"]).args(SMALL).finish().ok();
    let script = "id -u; id -g; while read key value; do [ \"$key\" != Groups: ] || echo $value; done \
        </proc/self/status; pwd; echo $HOME $USER $COLOUR; echo written > /dev/stderr; cat < /dev/stdin";
    let whole = say(&env, &[], script);
    let lines: Vec<&str> = whole.lines().collect();
    assert_eq!(lines, ["1000", "1001", "44", "/home/app", "/home/app app green"], "{whole}");
    // Anybody else who exists, and nobody who does not.
    assert_eq!(say(&env, &["--user", "root"], "id -u; echo $HOME"), "0\n/root\n");
    assert_eq!(say(&env, &["-u", "1000:44"], "id -u; id -g"), "1000\n44\n");
    let ghost = env.banger(["vm", "exec", "box", "--user", "ghost", "--", "id"]).finish();
    assert!(ghost.expect(126).errors().contains(NO_GHOST));

    // The workspace is the user's: it can be changed there, and what was changed comes out again.
    let repository = Repository::small(&env, "repo");
    env.banger(["vm", "workspace", "prepare", "box", text(repository.path())]).finish().ok();
    let said = say(&env, &[], "pwd; stat -c '%u:%g' . .git .git/index; echo from the guest > new && echo done");
    assert_eq!(said, "/root/repo\n1000:1001\n1000:1001\n1000:1001\ndone\n");
    assert_eq!(say(&env, &[], "ls /root 2>/dev/null; echo $?"), "1\n", "the rest of root's home is not the user's");
    repository.write("later", b"2");
    repository.git(["add", "later"]).ok();
    env.banger(["vm", "workspace", "prepare", "box", text(repository.path())]).finish().ok();
    assert_eq!(say(&env, &[], "cat later; stat -c %u later"), "21000\n");
    let patch = env.banger(["vm", "workspace", "export", "box"]).finish().ok().text();
    assert!(patch.contains("+from the guest"), "{patch}");

    // Stopped and started, it still is.
    env.banger(["vm", "stop", "box"]).finish().ok();
    env.banger(["vm", "start", "box"]).finish().ok();
    assert_eq!(exec(&env, "box", &["sh", "-c", "id -un; touch again && echo ok"]).ok().text(), "app\nok\n");
    env.banger(["vm", "delete", "--discard", "box"]).finish().ok();

    // An image may name a user that it does not have.
    let Some(layout) = image(&env, "ghost") else { return };
    pull(&layout, "ghost");
    let ghost = env.banger(["vm", "run", "--image", "ghost", "--rm"]).args(SMALL).args(["--", "id"]).finish();
    assert!(ghost.expect(126).errors().contains(NO_GHOST));
    let root = ["vm", "run", "--image", "ghost", "--rm", "--user", "root"];
    assert_eq!(env.banger(root).args(SMALL).args(["--", "id", "-u"]).finish().ok().text(), "0\n");
    for name in ["app", "ghost"] {
        env.banger(["image", "delete", name]).finish().ok();
    }
    env.assert_nothing_left();
}
