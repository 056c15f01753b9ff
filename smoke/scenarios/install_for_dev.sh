#!/usr/bin/env bash
# claim: root installs banger once for an ordinary user, who then needs no root, group or sudo rule, and nobody else gets in
# as: root
# stage: install
# needs: programs kernel image
# limit: 300
. "$SMOKE/scenarios/lib/check.sh"
. "$SMOKE/scenarios/lib/vm.sh"

# expect_mode PATH "MODE USER GROUP"
expect_mode() { expect_equal "$1" "$(stat -c '%a %U %G' "$1")" "$2"; }
install_here() {
  "$SMOKE/bin/banger" system install --owner "$SMOKE_OWNER" --firecracker "$SMOKE/bin/firecracker" --jailer "$SMOKE/bin/jailer"
}

say "what cannot be done is refused before anything is changed"
expect_status 5 "$SMOKE/bin/banger" system install --owner root
expect_status 3 "$SMOKE/bin/banger" system install --owner no-such-user
expect_status 7 "$SMOKE/bin/banger" system install --owner "$SMOKE_OWNER" --firecracker /bin/true --jailer "$SMOKE/bin/jailer"
for path in /etc/banger /var/lib/banger; do [ ! -e "$path" ] || fail "a refused installation left $path"; done

say "root installs"
started=$(now)
install_here
measure install_seconds "$(since "$started")"
owner="$SMOKE_OWNER $(id -gn "$SMOKE_OWNER")"
for path in /run/banger /var/lib/banger /var/cache/banger; do expect_mode "$path" "700 $owner"; done
for path in /run/banger-root /var/lib/banger-root; do expect_mode "$path" "711 root root"; done
expect_mode /run/banger-root/bangerd-root.sock "600 $owner"
for program in bangerd bangerd-root banger-guest firecracker jailer; do
  expect_mode "/usr/local/lib/banger/$program" "755 root root"
done
expect_mode /usr/local/bin/banger "755 root root"
expect_mode /etc/banger/install.toml "644 root root"
for unit in bangerd-root.service bangerd.service; do
  expect_equal "$unit" "$(systemctl is-active "$unit") $(systemctl is-enabled "$unit")" "active enabled"
done
expect_equal "user of bangerd" "$(ps -o user= -p "$(systemctl show -P MainPID bangerd.service)")" "$SMOKE_OWNER"

say "installing again changes nothing and restarts nothing"
before=$(systemctl show -P MainPID bangerd.service bangerd-root.service)
install_here | grep 'nothing to do'
expect_equal "processes" "$(systemctl show -P MainPID bangerd.service bangerd-root.service)" "$before"
expect_equal "files beside the programs" "$(find /usr/local/lib/banger /etc/banger /etc/systemd/system -name '*.replaced' -o -name '*.new')" ""

say "the host has no way to packages: kernel and image are carried in"
install -d -m 0700 -o "$SMOKE_OWNER" -g "$(id -g "$SMOKE_OWNER")" /var/lib/banger/kernels /var/lib/banger/images
cp -R --sparse=always "$SMOKE_KERNEL" /var/lib/banger/kernels/
cp -R --sparse=always "$SMOKE_IMAGE" /var/lib/banger/images/
chown -R "$SMOKE_OWNER:$(id -g "$SMOKE_OWNER")" /var/lib/banger/kernels /var/lib/banger/images

say "$SMOKE_OWNER uses it"
banger system status
banger system status --json >"$scratch/status"
jq -e '.running and .daemon.mode == "system" and .installation.vms.total == 0 and .installation.changed_files == []' "$scratch/status"
banger image list --json | jq -e '.images | length == 1'
banger kernel list --json | jq -e '.kernels | length == 1'

say "nobody else does, and is told whose it is"
expect_status 5 runuser -u nobody -- /usr/local/bin/banger vm list
expect_said "belongs to $SMOKE_OWNER"
expect_status 5 /usr/local/bin/banger vm list
expect_said "sudo -u $SMOKE_OWNER"
expect_status 5 runuser -u "$SMOKE_OWNER" -- /usr/local/bin/banger system restart
for socket in /run/banger/bangerd.sock /run/banger-root/bangerd-root.sock; do
  ! runuser -u nobody -- nc -w 1 -U "$socket" </dev/null 2>/dev/null || fail "nobody connects to $socket"
done
