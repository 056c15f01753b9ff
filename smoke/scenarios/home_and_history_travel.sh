#!/usr/bin/env bash
# claim: files of the home that the configuration names are in the guest before the command; a full copy has history, tags and submodules; work comes back
# as: dev
# needs: programs kernel image
# limit: 420
. "$SMOKE/scenarios/lib/check.sh"
. "$SMOKE/scenarios/lib/vm.sh"

say "a home with something to take along, and something not to"
mkdir -p "$scratch/kept" ~/.config/banger ~/.config/tool/deep
config=~/.config/banger/config.toml
restore_config() {
  rm -rf ~/.smoke-secret ~/.config/tool "$config"
  [ ! -e "$scratch/kept/config.toml" ] || mv "$scratch/kept/config.toml" "$config"
}
[ ! -e "$config" ] || cp -p "$config" "$scratch/kept/config.toml"
at_end restore_config
cat >>"$config" <<'TOML'

[[file_sync]]
host = "~/.smoke-secret"
guest = "~/.smoke-secret"

[[file_sync]]
host = "~/.config/tool"
guest = "~/.config/tool"
TOML
echo secret >~/.smoke-secret
echo setting >~/.config/tool/deep/setting
ln -s /etc/passwd ~/.config/tool/outside

say "a repository with a history, a tag and a submodule"
make_repository "$scratch/inner"
make_repository "$scratch/repo"
cd "$scratch/repo"
git -c protocol.file.allow=always submodule --quiet add "$scratch/inner" module
git commit -q -m two
git tag v1
echo three >>tracked
git commit -q -am three
cd "$scratch"
expect_status 5 banger vm run --rm "${small[@]}" ./repo -- true
expect_said "--mode full_copy"
expect_equal "VMs of a run that was refused" "$(banger vm list --json | jq '.vms | length')" 0

at_end vm_gone travels
banger vm run -d --name travels --mode full_copy "${small[@]}" ./repo
expect_equal "file of the home" "$(in_guest travels stat -c '%a %u' /root/.smoke-secret) $(in_guest travels cat /root/.smoke-secret)" "600 0 secret"
expect_equal "directory of the home" "$(in_guest travels cat /root/.config/tool/deep/setting)" setting
expect_equal "link out of the home" "$(in_guest travels ls /root/.config/tool)" deep
expect_equal "history" "$(in_guest travels git log --format=%s | tr '\n' ' ')" "three two one "
expect_equal "tag" "$(in_guest travels git describe --tags)" "$(git -C repo describe --tags)"
expect_equal "submodule" "$(in_guest travels git submodule status | cut -c1-41)" "$(git -C repo submodule status | cut -c1-41)"
expect_equal "file of the submodule" "$(in_guest travels cat module/tracked)" tracked
expect_equal "changes git sees" "$(in_guest travels git status --porcelain)" ""

say "an edit of the guest's own stays over a restart"
in_guest travels sh -c 'echo mine >/root/.smoke-secret'
echo newer >~/.smoke-secret
echo newer >~/.config/tool/deep/setting
banger vm restart travels
expect_equal "the guest's edit" "$(in_guest travels cat /root/.smoke-secret)" mine
expect_equal "what it did not edit" "$(in_guest travels cat /root/.config/tool/deep/setting)" newer

say "work comes back"
in_guest travels sh -c 'echo work >>tracked && git -c user.name=g -c user.email=g@example.com commit -q -am work'
banger vm workspace export travels --branch from-guest
expect_equal "commits of the guest" "$(git -C repo log -1 --format=%s from-guest)" work
