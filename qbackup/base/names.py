"""Untrusted names, and the only way from one to a path, a member or the screen.

A name from a backup is held as str, decoded as UTF-8 with surrogateescape, so that any
bytes survive the way in and out. Three questions are answered here and nowhere else:
which chunk does a member's name stand for, may this name become a path, and how does a
terminal show it.
"""

from __future__ import annotations

import base64
import re
import unicodedata
from dataclasses import dataclass

from qbackup.base.errors import LimitExceeded

DOM0_HOME = "dom0-home"
HEADER_NAME = "backup-header"
HEADER_COPY_NAME = "backup-header.hmac"
METADATA_PATH = "qubes.xml"
ENCRYPTED_SUFFIX = ".enc"
HMAC_LIMIT_BYTES = 4096  # of a member that holds another one's HMAC
_WHOLE_FOLDER = "/."  # behind a folder's name: all that is in it
_IMAGE_SUFFIX = ".img"
OWN_PREFIX = ".qbackup-"  # of the files that a restore keeps for itself in the output folder
_SHOWN_PATH = 200  # characters of a path that is too deep
COMPONENT_LIMIT_BYTES = 255  # NAME_MAX of the usual file systems

# At least three digits; more only past 999, so that each number is spelled in one way.
_CHUNK_NAME = re.compile(r"(?P<path>.+)\.(?P<index>\d{3}|[1-9]\d{3,8})", re.ASCII | re.DOTALL)

# Nearly every path matches this: ASCII components, up to 255 long, not beginning with a dot.
_ORDINARY_PATH = re.compile(r"[!-\-0-~][ -.0-~]{0,254}(?:/[!-\-0-~][ -.0-~]{0,254})*")
_CONTROL = re.compile("[\0-\x1f\x7f]")
# Invisible characters whose category is letter or mark (Unicode's
# Default_Ignorable_Code_Point), and the empty Braille cell.
_BLANK = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0"
    "\U000e0100-\U000e01ef]"
)
# A character of a basic regular expression, with its star; a star at the beginning is itself.
_ATOM = re.compile(r"(\A\*|[^*])(\**)", re.DOTALL)
_INVISIBLE_CATEGORIES = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")


def decode(name: bytes) -> str:
    """Decodes a name; bytes that are not UTF-8 become lone surrogates."""
    return name.decode("utf-8", "surrogateescape")


def encode(name: str) -> bytes:
    """Gives the bytes that `decode` made this text from."""
    return name.encode("utf-8", "surrogateescape")


@dataclass(frozen=True, slots=True)
class ChunkName:
    """The name of one chunk without its suffix: ``vm1/private.img`` and 0.

    The name gives the chunk's place in the backup; format 4 authenticates the name too.
    """

    path: str
    index: int

    def __str__(self) -> str:
        return f"{self.path}.{self.index:03d}"


def parse_chunk_name(name: str, *, folders: bool = False) -> ChunkName | None:
    """Parses a member's name (without suffix) as a chunk's; None if this is no chunk's name.

    A path with a component that could lead elsewhere is no chunk's.

    Args:
        name: of the member.
        folders: a path may end in ``/.``, as that of a whole folder in format 3 (``vm9/..000``).
    """
    match = _CHUNK_NAME.fullmatch(name)
    if not match:
        return None
    path = match["path"]
    if unsafe_reason(path.removesuffix(_WHOLE_FOLDER) if folders else path):
        return None
    return ChunkName(match["path"], int(match["index"]))


@dataclass(frozen=True, slots=True)
class Naming:
    """Names that a format gives to the members of the outer archive.

    Args:
        suffix: behind a chunk's name.
        hmac_suffix: behind a chunk's member name, for the member that holds the chunk's HMAC;
            None: chunks authenticate themselves.
        folders: last components of the files that are folders; dom0's home is always one.
    """

    suffix: str
    hmac_suffix: str | None = None
    folders: frozenset[str] = frozenset()

    def chunk(self, member: str) -> ChunkName | None:
        """Gives the chunk that a member holds; None if it holds none."""
        name = member.removesuffix(self.suffix)
        if self.suffix and name == member:
            return None
        return parse_chunk_name(name, folders="." in self.folders)

    def proven(self, member: str) -> ChunkName | None:
        """Gives the chunk whose HMAC a member holds; None if it holds none."""
        if self.hmac_suffix is None or not member.endswith(self.hmac_suffix):
            return None
        return self.chunk(member[: -len(self.hmac_suffix)] + self.suffix)

    def is_folder(self, path: str) -> bool:
        """Tells if this file is a folder archive."""
        return path.startswith(DOM0_HOME + "/") or path.rpartition("/")[2] in self.folders


def must_have_content(path: str) -> bool:
    """Tells if data are lost where this file of the archive is a mere symbolic link.

    An image and dom0's home must have content. Other files may be links: the writers before
    November 2015 stored links as they stood in dom0, and ``icon.png`` of each qube leads to dom0's
    own icons.
    """
    is_folder = path.startswith(DOM0_HOME + "/") or without_dot(path) != path
    return is_folder or path.lower().endswith(_IMAGE_SUFFIX)


def without_dot(path: str) -> str:
    """Gives a folder's path without the ``.`` for all in it: ``vm9`` for ``vm9/.``."""
    return "" if path == "." else path.removesuffix(_WHOLE_FOLDER)


def unsafe_reason(path: str, *, any_byte: bool = False) -> str | None:
    """Gives the reason why this relative path must not be created below a folder.

    None means that the path is safe.

    Args:
        path: components joined by ``/``.
        any_byte: allow control characters, as ordinary files in a home may have them.
    """
    if _ORDINARY_PATH.fullmatch(path):  # only saves time: the checks below give the same answer
        return None
    if not path:
        return "the name is empty"
    if path.startswith("/"):
        return "the name is an absolute path"
    for component in path.split("/"):
        reason = _unsafe_component(component, any_byte)
        if reason:
            return reason
    return None


def _unsafe_component(component: str, any_byte: bool) -> str | None:
    if component in ("", ".", ".."):
        return "the name leads out of its folder" if component == ".." else "the name is not plain"
    if "\0" in component:
        return "the name holds a NUL character"
    if not any_byte and _CONTROL.search(component):
        return "the name holds control characters"
    if len(encode(component)) > COMPONENT_LIMIT_BYTES:
        return f"the name is longer than {COMPONENT_LIMIT_BYTES} bytes"
    return None


def too_deep(path: str, limit: int) -> LimitExceeded | None:
    """Gives the error of a path that has more components than `Limits.depth`; else None.

    Every path that a restore or a copy makes is compared here, as each component can cost an open
    folder. The error does not name a file.

    Args:
        path: components joined by ``/``.
        limit: `Limits.depth`.
    """
    count = path.count("/") + 1
    if count <= limit:
        return None
    shown = display(path[:_SHOWN_PATH])
    return LimitExceeded(f"{shown}: deeper than {limit} folders", limit="depth", needed=count)


def within(path: str, folder: str) -> str | None:
    """Gives the rest of path below folder, compared by component; None if path is not below.

    ``vm12/private.img`` is not within ``vm1``. A slash at folder's end makes no difference.
    """
    prefix = folder.rstrip("/") + "/"
    return path[len(prefix) :] if path.startswith(prefix) and len(path) > len(prefix) else None


def display(text: str) -> str:
    """Makes text from a backup safe for a terminal: one line, nothing invisible.

    Control characters (C0, C1), bidirectional and zero-width ones, line separators,
    unassigned ones and bytes that are not UTF-8 are shown as escapes.
    """
    if text.isascii() and text.isprintable() and "\\" not in text:
        return text
    return "".join(_display_character(c) for c in text)


def _display_character(char: str) -> str:
    if char == "\\":
        return "\\\\"
    if unicodedata.category(char) not in _INVISIBLE_CATEGORIES and not _BLANK.match(char):
        return char
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def json_name(name: str) -> dict[str, str]:
    """Gives a name for a JSON document: ``name``, and ``name_bytes`` in base64 if not UTF-8."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return {"name": display(name), "name_bytes": base64.b64encode(encode(name)).decode()}
    return {"name": name}


def begins_as_tar_matches(name: str, text: str) -> bool:
    """Tells if a name, read as a pattern by tar's ``--xform``, matches the beginning of a text.

    The pattern is a basic regular expression: a dot stands for one character (but for no byte that
    is not UTF-8), and a star repeats the character before it any number of times. A name with
    brackets, a backslash, or a ``$`` at its end does not match itself, so tar never gave the
    archive of such a folder its prefix; for such names the text must begin with the name itself.
    """
    if not set(name) & set(".*"):
        return text.startswith(name)
    if set(name) & set("[\\") or name.endswith("$"):
        return text.startswith(name)
    places = {0}  # positions in the text from which the rest of the name can match
    for char, star in _ATOM.findall(name):
        places = _after(char, bool(star), text, places)
    return bool(places)


def _after(char: str, is_repeated: bool, text: str, places: set[int]) -> set[int]:
    """Gives the positions from which a match can go on after one character of the pattern."""
    if not is_repeated:
        return {at + 1 for at in places if _matches(char, text[at : at + 1])}
    found = set(places)
    for at in sorted(places):
        while at < len(text) and _matches(char, text[at]) and at + 1 not in found:
            at += 1
            found.add(at)
    return found


def _matches(char: str, other: str) -> bool:
    if char == ".":
        return bool(other) and other != "\0" and not "\udc80" <= other <= "\udcff"
    return char == other


def folded(path: str) -> str:
    """Gives equal texts for paths that are one path on a file system that ignores case."""
    return unicodedata.normalize("NFC", path).casefold()


def is_reserved(component: str) -> bool:
    """Tells if a restore needs this name in the output folder itself, or one like it."""
    return folded(component) == METADATA_PATH or is_own(component)


def is_own(component: str) -> bool:
    """Tells if some file system could treat this as a name that a restore reserves for itself.

    Some file systems ignore case, compatible forms, invisible characters, or a dot or space at the
    end of a name.
    """
    plain = unicodedata.normalize("NFKC", component)
    shown = (c for c in plain if unicodedata.category(c) not in _INVISIBLE_CATEGORIES)
    visible = "".join(c for c in shown if not _BLANK.match(c))
    return visible.casefold().strip(" ").startswith(OWN_PREFIX)
