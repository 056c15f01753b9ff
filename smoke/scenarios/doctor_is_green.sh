#!/usr/bin/env bash
# claim: on an installed host the doctor finds nothing wrong, and finds it when a service is down
# as: root
# needs: programs kernel image
# limit: 180
. "$SMOKE/scenarios/lib/check.sh"
. "$SMOKE/scenarios/lib/vm.sh"

say "nothing fails"
expect_status 0 banger doctor
cat "$scratch/said"
expect_said "PASS  installation"
expect_said "PASS  bangerd-root.service"

say "without the helper something does"
at_end systemctl start bangerd-root.service
systemctl stop bangerd-root.service
expect_status 7 banger doctor
expect_said "FAIL  bangerd-root.service"

say "without the daemon the way out is named"
at_end systemctl start bangerd.service
systemctl stop bangerd.service
expect_status 6 banger vm list
expect_said "sudo systemctl start bangerd.service"
expect_status 6 banger system status
