#!/usr/bin/env bash
# claim: both units are valid, and exposed no more than 2.0 (bangerd) and 4.0 (bangerd-root) by systemd's own measure
# as: root
# needs: programs
# limit: 120
. "$SMOKE/scenarios/lib/check.sh"

exposure() { systemd-analyze security --no-pager "$1" | sed -n 's/^.*Overall exposure level for [^:]*: \([0-9.]*\).*/\1/p'; }
for pair in bangerd.service:2.0 bangerd-root.service:4.0; do
  unit=${pair%:*} limit=${pair#*:}
  say "$unit"
  systemd-analyze verify "/etc/systemd/system/$unit"
  score=$(exposure "$unit")
  measure "exposure_of_${unit%.service}" "$score"
  awk -v score="$score" -v limit="$limit" 'BEGIN { exit !(score != "" && score + 0 <= limit + 0) }' ||
    fail "$unit is exposed $score, more than $limit"
done

say "bangerd really has nothing: no capability, no home, no device, no way to more"
pid=$(systemctl show -P MainPID bangerd.service)
for set in CapPrm CapEff CapBnd CapAmb; do
  expect_equal "$set" "$(awk -v set="$set:" '$1 == set { print $2 }' "/proc/$pid/status")" 0000000000000000
done
expect_equal NoNewPrivs "$(awk '$1 == "NoNewPrivs:" { print $2 }' "/proc/$pid/status")" 1
expect_equal "homes it sees" "$(find "/proc/$pid/root/home" "/proc/$pid/root/root" -mindepth 1 2>/dev/null)" ""
[ ! -e "/proc/$pid/root/dev/kvm" ] || fail "it sees /dev/kvm"
