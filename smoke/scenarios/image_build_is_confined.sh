#!/usr/bin/env bash
# claim: an image build maps the owner's ids in a unit of its own and gets as far as the mirror, which this host cannot reach
# as: dev
# needs: programs
# limit: 180
. "$SMOKE/scenarios/lib/check.sh"
. "$SMOKE/scenarios/lib/vm.sh"

cat >"$scratch/tools.toml" <<'RECIPE'
name = "tools"
[debian]
suite = "bookworm"
packages = ["make"]
RECIPE
# 7: the host is not ready. From within bangerd's own sandbox it would be the namespace that is refused.
expect_status 7 banger image build "$scratch/tools.toml"
expect_said "the package mirror cannot be reached"
! grep -F '\n' "$scratch/said" || fail "lines of a cause are not printed as lines"
expect_equal "images" "$(banger image list --json | jq '[.images[] | select(.name == "tools")] | length')" 0
