#!/usr/bin/env bash
# claim: `vm exec` runs in the workspace, tells when the host has moved on and brings it along when asked; a session follows saves; work comes back as a patch
# as: dev
# needs: programs kernel image
# limit: 480
. "$SMOKE/scenarios/lib/check.sh"
. "$SMOKE/scenarios/lib/vm.sh"

make_repository "$scratch/repo"
cd "$scratch"
at_end vm_gone works
banger vm run -d --name works "${small[@]}" ./repo

say "where the repository is, with the command's own exit status"
expect_status 7 banger vm exec works -- sh -c 'pwd; exit 7'
expect_said /root/repo
expect_equal "said beside it" "$(cat "$scratch/said")" /root/repo

say "an edit on the host is told, and brought along only when asked"
echo edited >repo/tracked
expect_status 0 banger vm exec works -- cat tracked
expect_said "--auto-prepare"
expect_equal "the guest's file" "$(tail -n 1 "$scratch/said")" tracked
expect_status 0 banger vm exec --auto-prepare works -- cat tracked
expect_equal "the guest's file" "$(tail -n 1 "$scratch/said")" edited
digest=$(banger vm workspace prepare --dry-run --json works ./repo | jq -r .tree_digest)
echo again >repo/tracked
expect_status 0 banger vm exec --synced works -- cat tracked
expect_said "tree $(banger vm workspace prepare --dry-run --json works ./repo | jq -r .tree_digest)"
! grep -qF "$digest" "$scratch/said" || fail "the tree of before"
banger vm workspace verify works ./repo

say "a session follows every save"
banger vm workspace sync works ./repo --watch -d
guest_file_is() { [ "$(in_guest works cat tracked)" = "$1" ]; }
for content in one two three; do
  echo "$content" >repo/saved && mv repo/saved repo/tracked
  eventually 30 "the guest has $content" guest_file_is "$content"
done
banger vm workspace stop works

say "what is done in there stays over a stop, comes back as a patch, and is not deleted without a word"
in_guest works sh -c 'echo work >>tracked; printf "\0binary" >new'
before=$(in_guest works git status --porcelain)
banger vm stop works
expect_status 4 banger vm exec works -- true
banger vm start works --wait-timeout "$patience"
expect_status 5 banger vm delete works
expect_said tracked
banger vm workspace export works -o "$scratch/work.patch"
expect_equal "index and tree of the guest" "$(in_guest works git status --porcelain)" "$before"
git clone -q repo clone
git -C clone apply "$scratch/work.patch"
expect_equal "work in the patch" "$(tr '\n' ' ' <clone/tracked)" "three work "
expect_equal "new file in the patch" "$(od -An -c clone/new | tr -d ' ')" '\0binary'
banger vm delete works
