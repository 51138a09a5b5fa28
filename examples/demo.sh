#!/bin/sh
# Lists, verifies and restores the sample backup, and shows what came out.
# usage: demo.sh QBACKUP
set -eu
qbackup=$1
here=$(dirname "$0")
backup=$here/sample-backup
output=${TMPDIR:-/tmp}/qbackup-demo.$$
trap 'rm -rf "$output"' EXIT

step() {
    printf '\n$ qbackup %s\n' "$*"
    "$qbackup" "$@"
}

echo "The passphrase of the sample is in $here/sample-passphrase.txt"
QBACKUP_PASSPHRASE_FILE=$here/sample-passphrase.txt
export QBACKUP_PASSPHRASE_FILE
step info "$backup"
step list "$backup"
step verify "$backup"
step restore "$backup" -o "$output"
printf '\nWhat came out (blocks on disk, mode, length, name):\n'
(cd "$output" && find . -type f -exec ls -lsd {} +)
step cat "$backup" personal/firewall.xml
