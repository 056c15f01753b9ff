#!/usr/bin/env bash
# claim: an uninstall lists first what goes; without --purge data stays and serves the next installation, with it nothing is left but what is not banger's
# as: root
# stage: uninstall
# needs: programs kernel image
# limit: 480
. "$SMOKE/scenarios/lib/check.sh"
. "$SMOKE/scenarios/lib/vm.sh"

uninstall() { "$SMOKE/bin/banger" system uninstall "$@" </dev/null; }
vm_up stays
id=$(vm_field stays .id)
in_guest stays sh -c 'echo kept >/root/kept'

say "nothing happens without an answer"
expect_status 5 uninstall
systemctl is-active --quiet bangerd.service || fail "it was stopped all the same"

expect_equal state "$(vm_field stays .state)" running

say "without --purge: the VM is stopped, its disks stay"
uninstall --yes | tee "$scratch/said"
expect_said "keep     /var/lib/banger"
for path in /etc/banger/install.toml /usr/local/lib/banger /usr/local/bin/banger /etc/systemd/system/bangerd.service /etc/udev/rules.d/50-banger.rules \
  /run/banger; do
  [ ! -e "$path" ] || fail "$path is still there"
done
[ -e "/var/lib/banger/vms/$id" ] || fail "the VM's directory is gone"
expect_equal "links" "$(ip -o link show | grep -E 'br-fc|fc-' || true)" ""
expect_equal "tables" "$(nft list tables | grep banger || true)" ""

say "the next installation finds it"
"$SMOKE/bin/banger" system install --owner "$SMOKE_OWNER" --firecracker "$SMOKE/bin/firecracker" --jailer "$SMOKE/bin/jailer" >/dev/null
banger vm start stays --wait-timeout "$patience"
expect_equal "file" "$(in_guest stays cat /root/kept)" kept

say "with --purge, while it runs: what is not ours is named and kept"
echo mine >/etc/banger/notes
uninstall --purge --yes | tee "$scratch/said"
expect_said "keep     /etc/banger/notes  (it was not put there by banger)"
expect_equal "left" "$(ls -d /usr/local/lib/banger /usr/local/bin/banger /var/lib/banger* /var/cache/banger /run/banger* \
  /etc/systemd/system/banger* /etc/udev/rules.d/*banger* 2>/dev/null)" ""
expect_equal "in /etc/banger" "$(ls /etc/banger)" notes
rm -r /etc/banger
expect_equal "loaded units" "$(systemctl list-units --all --no-legend --plain 'banger*')" ""
uninstall --yes 2>&1 | grep "nothing to remove"
