#!/usr/bin/env bash
# claim: a dry run lists what would travel without a VM; untracked files travel only when asked for; a detached run leaves a VM that answers
# as: dev
# needs: programs kernel image
# limit: 300
. "$SMOKE/scenarios/lib/check.sh"
. "$SMOKE/scenarios/lib/vm.sh"

make_repository "$scratch/repo"
cd "$scratch"
say "a dry run"
banger vm run --dry-run --json ./repo | jq -r '.entries[].path' | sort >"$scratch/plan"
expect_equal "files" "$(tr '\n' ' ' <"$scratch/plan")" ".gitignore Makefile tracked "
banger vm run --dry-run --include-untracked --json ./repo | jq -e '[.entries[].path] | index("untracked")' >/dev/null
expect_equal "VMs after it" "$(banger vm list --json | jq '.vms | length')" 0

say "a detached run: bad combinations are refused, a good one leaves a VM"
expect_status 2 banger vm run -d --rm ./repo
expect_status 2 banger vm run -d ./repo -- true
at_end vm_gone detached
banger vm run -d --name detached "${small[@]}" ./repo
expect_equal state "$(vm_field detached .state)" running
in_guest detached make test
in_guest detached git status --porcelain

say "untracked files"
banger vm workspace prepare --include-untracked detached ./repo
expect_equal "untracked file" "$(in_guest detached cat untracked)" untracked
expect_equal "ignored file" "$(in_guest detached ls ignored.o 2>/dev/null)" ""
