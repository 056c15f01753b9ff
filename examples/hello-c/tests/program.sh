#!/bin/sh
# Runs the program as a user would: files, standard input, and a file that is not there.
program=$1
failures=0

expect() {
	claim=$1 expected=$2 got=$3
	if [ "$expected" = "$got" ]; then
		echo "ok - $claim"
	else
		echo "not ok - $claim"
		printf '# expected: %s\n# got:      %s\n' "$expected" "$got"
		failures=$((failures + 1))
	fi
}

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
printf 'hello from a file\n' >"$scratch/file"

expect "it counts a file" "1 lines, 4 words, 18 bytes: $scratch/file" "$("$program" "$scratch/file")"
expect "it counts standard input" "1 lines, 1 words, 3 bytes: standard input" "$(printf 'hi\n' | "$program")"
"$program" "$scratch/missing" 2>"$scratch/errors"
expect "a missing file is its exit status" 1 $?
expect "and is named" "wordcount: cannot open $scratch/missing: No such file or directory" "$(cat "$scratch/errors")"

exit $((failures > 0))
