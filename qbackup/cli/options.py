"""The arguments: commands and options in, a checked namespace out."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence

from qbackup import __version__
from qbackup.base.errors import UsageError

TYPE_CHECKING = False  # type checkers know the name; loading `typing` for it takes time
if TYPE_CHECKING:
    from typing import Any, NoReturn

    from qbackup.base.limits import Limits

_SIZE_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}

_LARGEST = (1 << 63) - 1

_EXAMPLES = """\
examples:
  qbackup list /media/usb/qubes-2024-09-17T101112
  qbackup restore /media/usb/qubes-2024-09-17T101112 -o restored
  qbackup restore BACKUP personal vault/private.img -o restored
  qbackup cat BACKUP work/notes.txt
  qbackup kit -o /media/usb/kit
  qbackup ls BACKUP vault:/home/user
  qbackup cp BACKUP vault:/home/user/Documents .
  qbackup cp restored/vault/private.img:/home/user/keys.kdbx .
"""


_EXAMPLES_OF = {
    "info": """\
  qbackup info BACKUP                        what a restore takes here; no passphrase
  qbackup info BACKUP -p FILE                the same, authenticated
""",
    "list": """\
  qbackup list BACKUP                        asks for the passphrase
  qbackup list BACKUP -p FILE --json         for a program; derives one key more per firewall
  qbackup list BACKUP --all                  what this Qubes had besides
  qbackup list - < BACKUP                    from a pipe
""",
    "verify": """\
  qbackup verify BACKUP                      is all of it good?
  qbackup verify BACKUP personal             one qube
  qbackup verify BACKUP --salvage            past a damaged front, too
""",
    "restore": """\
  qbackup restore BACKUP -o restored         all of it; run it again if it was interrupted
  qbackup restore BACKUP personal -o DIR     one qube
  qbackup restore BACKUP vault/private.img -o DIR
  qbackup restore BACKUP -o DIR --keep-damaged
""",
    "cat": """\
  qbackup cat BACKUP personal/firewall.xml
  qbackup cat BACKUP vault:/home/user/keys.kdbx > keys.kdbx
""",
    "script": """\
  qbackup script BACKUP > make-qubes.sh      read it, then run it in dom0
  qbackup script BACKUP work=work-old personal --restored /var/tmp/restored

each firewall costs one key; the command `info` shows how long a key takes
""",
    "ls": """\
  qbackup ls BACKUP vault:/home/user
  qbackup ls BACKUP work/root.img:/etc       another image of a qube
  qbackup ls restored/vault/private.img:/    one that was restored
""",
    "cp": """\
  qbackup cp BACKUP vault:/home/user/Documents .
  qbackup cp restored/vault/private.img:/home/user/keys.kdbx keys.kdbx

modes, times, links and holes are kept; owners, extended attributes and ACLs are not,
and setuid and setgid bits are dropped; devices, pipes and sockets are left out and noted
""",
}


class _Parser(argparse.ArgumentParser):
    """Mistakes become UsageError, so that they too are told in JSON where that is wanted.

    Options are spelled in full: `--json` must be known when the rest can't be parsed.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see: {self.prog} --help)")


def build_parser() -> argparse.ArgumentParser:
    """All commands and options."""
    parser = _Parser(
        prog="qbackup",
        description="Restores Qubes OS backups on any machine, without Qubes.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"qbackup {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, text, json in (
        ("info", "what the backup says of itself, and what a restore will cost here", True),
        ("list", "the qubes in the backup and their files", True),
        ("verify", "everything that restore does but the writing", True),
        ("restore", "write DIR/QUBE/FILE for all that is asked for", True),
        ("cat", "one file's content to standard output", False),
        ("script", "a shell script that makes the qubes again on a new Qubes", False),
        ("ls", "the files inside a disk image", True),
        ("cp", "copy a file or folder out of a disk image", True),
    ):
        command = commands.add_parser(
            name,
            help=text,
            description=text,
            epilog=f"examples:\n{_EXAMPLES_OF[name]}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.set_defaults(json=False)
        backup = "the file; - for standard input"
        if name in ("cat", "ls", "cp"):
            backup += "; or IMAGE:/path in an image that was restored"
        command.add_argument("backup", metavar="BACKUP", help=backup)
        _add_names(command, name)
        _add_image(command, name)
        _add_passphrase(command)
        _add_common(command, json)
    _add_kit(commands)
    text = 'what a shell needs to complete arguments: eval "$(qbackup completion bash)"'
    command = commands.add_parser("completion", help=text, description=text)
    command.add_argument(
        "shell", metavar="SHELL", choices=("bash", "zsh", "fish"), help="bash, zsh or fish"
    )
    return parser


def _add_kit(commands: argparse._SubParsersAction[_Parser]) -> None:
    text = "a folder to store beside a backup: Python alone restores it with that"
    command = commands.add_parser("kit", help=text, description=text)
    _add_output(command)
    wheels = command.add_mutually_exclusive_group()
    wheels.add_argument(
        "--wheels", metavar="FOLDER", help="take pycryptodome's wheels from here, not by pip"
    )
    wheels.add_argument(
        "--no-wheels", action="store_true", help="leave out what is compiled: smaller and slower"
    )


def _add_output(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "-o",
        "--output",
        metavar="DIR",
        required=True,
        type=_folder,
        help="the folder to write into",
    )


def _add_names(command: argparse.ArgumentParser, name: str) -> None:
    if name == "script":
        command.add_argument(
            "names",
            metavar="QUBE[=NEWNAME]",
            nargs="*",
            type=_name,
            help="a qube, and the name that it gets; none means all",
        )
        command.add_argument(
            "--restored",
            metavar="DIR",
            type=_folder,
            help="the folder with the restored files (default: the script's own argument)",
        )
    if name == "list":
        command.add_argument(
            "--all",
            action="store_true",
            help="also show the qubes that are known but not in this backup",
        )
    if name in ("verify", "restore"):
        command.add_argument(
            "names",
            metavar="NAME",
            nargs="*",
            type=_name,
            help="QUBE or QUBE/FILE; none means all",
        )
    if name == "cat":
        command.add_argument(
            "name",
            metavar="QUBE/FILE",
            nargs="?",
            type=_name,
            help="the file, or qubes.xml; or QUBE:/path, a file inside its private image",
        )
    if name in ("verify", "restore"):
        command.add_argument(
            "--dask",
            metavar="ADDRESS",
            help="derive keys on this Dask cluster too, e.g. tls://HOST:8786",
        )
    if name == "restore":
        _add_output(command)
        command.add_argument(
            "--overwrite",
            action="store_true",
            help="replace files that are there already and are not the same",
        )
        command.add_argument(
            "--keep-damaged",
            action="store_true",
            help="leave what could be verified of a damaged file as NAME.damaged",
        )


def _add_image(command: argparse.ArgumentParser, name: str) -> None:
    if name in ("ls", "cp"):
        command.add_argument(
            "name",
            metavar="QUBE:/path",
            nargs="?",
            type=_name,
            help="in the qube's private image; QUBE/root.img:/path in another one"
            + ("; QUBE or QUBE/FOLDER: a folder archive" if name == "ls" else ""),
        )
    if name == "ls":
        command.add_argument(
            "-R", "--recursive", action="store_true", help="what is in its folders, too"
        )
    if name == "cp":
        command.add_argument(
            "destination", metavar="DEST", nargs="?", help="a folder to copy into, or a new name"
        )
        command.add_argument(
            "--overwrite", action="store_true", help="replace what is there under that name"
        )
    if name in ("cat", "ls", "cp"):
        command.add_argument(
            "--spool",
            metavar="DIR",
            help="where a large image is kept meanwhile, encrypted (TMPDIR, else /var/tmp)",
        )
        command.add_argument(
            "--partition",
            metavar="N",
            type=_positive,
            help="of a disk, with / (default: the one with a system, or the largest with ext4)",
        )


def _add_passphrase(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group(
        "passphrase",
        "Asked on the terminal, or from the environment: QBACKUP_PASSPHRASE,"
        " QBACKUP_PASSPHRASE_FILE, QBACKUP_PASSPHRASE_COMMAND.",
    )
    group.add_argument("-p", "--passphrase-file", metavar="FILE", help="- for standard input")
    group.add_argument("--passphrase-command", metavar="CMD", help="a program that prints it")


def _add_common(command: argparse.ArgumentParser, json: bool) -> None:
    if json:
        command.add_argument("--json", action="store_true", help="one JSON document on stdout")
    command.add_argument(
        "--jobs", metavar="N", type=_positive, help="lanes derived side by side (default: cores)"
    )
    command.add_argument(
        "--memory", metavar="SIZE", type=_size, help="budget, e.g. 400M (default: half of RAM)"
    )
    command.add_argument(
        "--limit",
        metavar="NAME=VALUE",
        dest="limits",
        action="append",
        type=_limit,
        help="raise a limit that a message names, e.g. decoder_memory=2G; may be given again",
    )
    command.add_argument(
        "--compression-filter",
        metavar="NAME",
        help="instead of the header's; none for no compression, or a program that takes -d",
    )
    command.add_argument(
        "--hmac-algorithm",
        metavar="NAME",
        help="of formats 2 and 3: the digest that proves the header, a weak one too",
    )
    command.add_argument(
        "--salvage",
        action="store_true",
        help="go on where the backup's header or the archive is damaged; what was is told",
    )
    command.add_argument("-q", "--quiet", action="store_true", help="no progress")
    command.add_argument("-v", "--verbose", action="store_true", help="say what is used")


def _name(text: str) -> str:
    """A name as the backup's are held: UTF-8, also where the locale's encoding knows less."""
    from qbackup.base.names import decode

    unknown = any("\udc80" <= char <= "\udcff" for char in text)
    return decode(os.fsencode(text)) if unknown else text


def _folder(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("it is empty")
    return text


def _positive(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return int(text)


def _size(text: str) -> int:
    digits = text.upper().removesuffix("IB").removesuffix("B")
    unit = digits[-1:] if digits[-1:] in _SIZE_UNITS else ""
    if unit:
        digits = digits[:-1]
    if not digits.isascii() or not digits.isdigit() or not int(digits):
        raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 400M or 2G")
    return int(digits) * _SIZE_UNITS[unit]


def _limit(text: str) -> tuple[str, int]:
    """A field of `qbackup.Limits` and its value."""
    from qbackup.base.limits import Limits

    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE, such as decoder_memory=2G")
    names = list(Limits.__dataclass_fields__)
    if name not in names:
        raise argparse.ArgumentTypeError(f"there is no limit {name!r}; {_near(name, names)}")
    size = _size(value)
    if size > _LARGEST:
        raise argparse.ArgumentTypeError(f"{value!r} is more than any limit can be")
    return name, size


def _near(name: str, names: Sequence[str]) -> str:
    """The names that may have been meant; all, where none is near."""
    from difflib import get_close_matches

    near = get_close_matches(name.lower(), names, cutoff=0.5)
    parts = set(name.lower().split("_"))
    near += [other for other in names if other not in near and parts & set(other.split("_"))]
    return f"near are: {', '.join(near)}" if near else f"there are: {', '.join(names)}"


def _limits(chosen: Sequence[tuple[str, int]] | None) -> Limits | None:
    """Limits as chosen, the last value of each name; None for the defaults."""
    if not chosen:
        return None
    from qbackup.base.limits import Limits

    return Limits(**dict(chosen))


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The options. NAMEs may stand anywhere, as in `restore BACKUP -o DIR NAME`.

    Raises:
        UsageError: they make no sense.
    """
    parser = build_parser()
    options, rest = parser.parse_known_args(arguments)
    end = rest.index("--") if "--" in rest else len(rest)
    names = [text for text in rest[:end] if not text.startswith("-")] + rest[end + 1 :]
    room = len(names) if "names" in options else len(_not_given(options))
    unknown = [text for text in rest[:end] if text.startswith("-")]
    if unknown or len(names) > room:
        parser.error(f"unrecognized arguments: {' '.join(_without_values(unknown or names))}")
    if "limits" in options:
        options.limits = _limits(options.limits)
    if "names" in options:  # argparse itself takes only those beside BACKUP
        options.names += map(_name, names)
    for key, text in zip(_not_given(options), names, strict=False):
        setattr(options, key, _name(text) if key == "name" else text)
    if options.command == "cat" and options.name is None and ":/" not in options.backup:
        parser.error("the following arguments are required: QUBE/FILE, or QUBE:/path")
    return options


def _not_given(options: argparse.Namespace) -> list[str]:
    """Arguments behind BACKUP that can still come."""
    return [key for key in ("name", "destination") if getattr(options, key, "") is None]


def _without_values(unknown: list[str]) -> list[str]:
    """What may be shown of them: who tries `--passphrase SECRET` must not find it in a log."""
    options = [text for text in unknown if text.startswith("-")]
    names = [text.partition("=")[0] if text[:2] == "--" else text[:2] for text in options]
    return names or unknown
