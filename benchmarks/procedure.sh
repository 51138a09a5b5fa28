#!/bin/sh
# The published emergency procedure for format 4, step by step as the page has it, for every
# file of the backup. usage: procedure.sh BACKUP PASSPHRASE DIR
set -eu
backup=$(realpath "$1")
backup_pass=$2
mkdir -p "$3"
cd "$3"

tar -i -xf "$backup"
echo "backup-header!$backup_pass" | scrypt dec -P backup-header.hmac backup-header.verified
diff -qs backup-header backup-header.verified >/dev/null
backup_id=$(sed -n 's/^backup[-_]id=//p' backup-header)
filter=$(sed -n 's/^compression-filter=//p' backup-header)

for first in $(find . -name '*.000.enc' | sed 's,^\./,,' | sort); do
    file=${first%.000.enc}
    for f_enc in "$file".???.enc; do
        f_dec=${f_enc%.enc}
        echo "$backup_id!$f_dec!$backup_pass" | scrypt dec -P "$f_enc" "$f_dec" || exit 1
    done
    cat "$file".??? | "$filter" -d | tar -x
done
