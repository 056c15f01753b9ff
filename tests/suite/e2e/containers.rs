//! An image with nothing but BusyBox in it, from files to a running machine: no init, no SSH server, no network.

use banger_tests::account::Who;
use banger_tests::busybox::Root;
use banger_tests::env::Env;
use serde_json::json;

use super::{for_both_users, run_words};

for_both_users!(an_image_of_busybox_alone_runs_commands, runs_commands);

const APPLETS: [&str; 7] = ["sh", "cat", "stat", "su", "id", "readlink", "pwd"];

fn runs_commands(who: Who) {
    let Some(env) = Env::ready(who) else { return };
    let Some(root) = Root::new(&env, "bb", &APPLETS) else { return };
    root.write("etc/os-release", "ID=bb\nPRETTY_NAME=\"BusyBox alone\"\n");
    std::os::unix::fs::symlink("/bin/busybox", root.at("etc/link")).expect("our own directory");
    root.write("bin/setuid", "x");
    root.set_mode("bin/setuid", 0o4755);
    let layout = root.layout(&json!({ "Env": ["PATH=/bin", "GREETING=hello from the image"], "WorkingDir": "/etc" }));
    let source = format!("oci:{}", layout.display());
    let image = env.banger(["--json", "image", "pull", &source, "--name", "bb"]).finish().ok().json();
    assert_eq!((image["init"].as_str(), image["os"].as_str()), (Some("none"), Some("BusyBox alone")), "{image}");
    assert_eq!(image["working_directory"], "/etc", "{image}");
    let script = "cat /etc/os-release; pwd; echo $GREETING; stat -c '%a %u:%g' /bin/setuid; stat -c %h /bin/sh; readlink /etc/link";
    let said = env.banger(run_words(&["--rm", "--image", "bb", "--", "sh", "-c", script])).finish().ok().text();
    let lines: Vec<&str> = said.lines().collect();
    let names = (APPLETS.len() + 1).to_string();
    assert_eq!(
        lines,
        ["ID=bb", "PRETTY_NAME=\"BusyBox alone\"", "/etc", "hello from the image", "4755 0:0", &names, "/bin/busybox"],
    );
    env.banger(["image", "delete", "bb"]).finish().ok();
    env.assert_nothing_left();
}
