"""The part of a script that is always the same: its purpose, and functions for its steps."""

from __future__ import annotations

ABOUT = """\
#!/bin/sh
#
# This script makes qubes again on a new Qubes OS, as a backup knows them.
# Read all of it first: names and values come from the backup. Then run it in dom0:
#
#     sh SCRIPT [DIR]
#
# DIR is the folder with the restored files (qbackup restore BACKUP -o DIR).
# Only new qubes are changed: where a name is taken, that qube is left as it is.
# No qube is started. Each step that fails is named; the exit status is then 1.
#
# Each command is one line. Where a value has line ends or other characters that a screen
# does not show, the line before sets v1, v2, ... to it, with octal numbers for them.
"""

FUNCTIONS = """\
set -eu
failed=0
made=' '

# Counts and names what could not be done.
lost() {
    failed=$((failed + 1))
    printf 'LOST: %s\\n' "$1" >&2
}

# Runs a command; if that fails, the script goes on with the next one.
try() {
    if "$@" </dev/null; then return 0; fi
    lost "$(printf '%s ' "$@" | LC_ALL=C tr -c '[:print:]' '?')"
}

# Makes a qube: NAME, options.
create() {
    name=$1
    shift
    before=$failed
    try qvm-create "$@" -- "$name"
    if [ "$failed" -eq "$before" ]; then made="$made$name "; fi
}

# Tells whether this script has made the qube NAME.
was_made() {
    case $made in *" $1 "*) return 0 ;; esac
    return 1
}

# Tells whether a restored file is there. A link could lead to any file of this machine.
is_restored() {
    [ -f "$restored/$1" ] && [ ! -L "$restored/$1" ]
}

# Fills a volume with a restored image: NAME, volume, file below DIR.
import_image() {
    if is_restored "$3"; then
        try qvm-volume import "$1:$2" "$restored/$3"
    else
        lost "$3 is not among the restored files, so the volume $1:$2 is empty"
    fi
}

# Sets a qube's entries in the menu: NAME, file below DIR.
set_menu() {
    if is_restored "$2"; then
        try qvm-appmenus "--set-whitelist=$restored/$2" -- "$1"
    else
        lost "$2 is not among the restored files, so the menu of $1 is the usual one"
    fi
}

# Sets a reference to another qube: NAME, property, that qube's name. If that fails, there is no
# such qube for NAME, as the default one may lead to another network.
refer() {
    before=$failed
    try qvm-prefs -- "$1" "$2" "$3"
    if [ "$failed" -ne "$before" ]; then
        lost "$2 of $1 can not be what it was, so it is none"
        try qvm-prefs -- "$1" "$2" ''
    fi
}

# Takes the network from the qube NAME, which would accept everything without its rules.
cut_off() {
    lost "the firewall of $1 is not what it was, so $1 gets no network"
    try qvm-prefs -- "$1" netvm ''
}
"""

BEGIN = """\
# All steps are in this function: a script that was cut off on its way does nothing.
main() {
"""

NO_FOLDER = """\
if [ $# -eq 0 ]; then
    printf 'usage: sh SCRIPT DIR (the folder with the restored files)\\n' >&2
    exit 2
fi
restored=$1
"""

WITH_FOLDER = """\
restored={folder}
if [ $# -gt 0 ]; then restored=$1; fi
"""

CHECK_FOLDER = """\
case $restored in -*) restored=./$restored ;; esac
if [ ! -d "$restored" ]; then
    printf 'there is no folder %s\\n' "$restored" >&2
    exit 2
fi
"""

END = """\
if [ "$failed" -ne 0 ]; then
    printf '%s steps could not be done; each is named above.\\n' "$failed" >&2
    exit 1
fi
}

main "$@"
"""
