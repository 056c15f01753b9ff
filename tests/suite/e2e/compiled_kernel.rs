//! A kernel that is compiled here, of a configuration of the user's own. As small as one can be, because what takes minutes
//! is the compiler: that the catalog's own boots is shown beside another product (`make bench-peer`).

use std::path::Path;
use std::time::Duration;

use banger_tests::account::Who;
use banger_tests::env::Env;
use banger_tests::registry::has;

/// Three minutes on two processors of their own.
const COMPILATION: Duration = Duration::from_secs(900);

#[test]
fn a_kernel_is_compiled_of_the_distributions_source_without_root() {
    // Alone: a compiler with two machines beside it takes three times as long, and both suffer.
    let Some(env) = Env::ready_alone(Who::Ordinary) else { return };
    if !has("mmdebstrap") {
        return;
    }
    let config = "config/banger/catalog.toml";
    let catalog = |setting: &str| {
        format!(
            "[[kernel]]\nname = \"tiny\"\ndescription = \"mine\"\n[kernel.compile]\nsuite = \"bookworm\"\n\
             package = \"linux-source-6.12\"\nconfig = \"\"\"\n# as small as it gets\n{setting}\n\
             CONFIG_LOCALVERSION=\"-tiny\"\nCONFIG_MODULES=n\n\"\"\"\n"
        )
    };

    // A module could not be loaded before its disk is there.
    env.write(config, catalog("CONFIG_64BIT=m").as_bytes());
    env.banger(["kernel", "list"]).finish().refused(2, &["catalog.toml", "CONFIG_64BIT=m"]);

    env.write(config, catalog("CONFIG_64BIT=y").as_bytes());
    env.banger(["kernel", "pull", "tiny"]).limit(COMPILATION).finish().ok();
    let kernel = env.banger(["--json", "kernel", "show", "tiny"]).finish().ok().json();
    let text = |field: &str| kernel[field].as_str().unwrap_or_else(|| panic!("no {field}: {kernel}")).to_owned();
    assert!(text("release").starts_with("6.12.") && text("release").ends_with("-tiny"), "{kernel}");
    assert!(text("source").starts_with("debian bookworm linux-source-6.12 6.12."), "{kernel}");
    let vmlinux = std::fs::read(Path::new(&text("directory")).join("vmlinux")).expect("the kernel is there");
    // ELF, 64 bits, an executable (System V ABI, ELF header).
    assert_eq!((&vmlinux[..5], &vmlinux[16..18]), (&b"\x7fELF\x02"[..], &[2, 0][..]));
    let banner = format!("Linux version {} (banger@banger)", text("release"));
    assert!(vmlinux.windows(banner.len()).any(|window| window == banner.as_bytes()), "who made it is not told");
    env.banger(["kernel", "delete", "tiny"]).finish().ok();
    env.assert_nothing_left();
}
