"""What stands beside each vector: a description that says what a restore must give.

`NAME.json` beside `NAME.qbackup`:

    about               what the vector is there for
    format              of the backup: 4, 3 or 2
    passphrase          text, UTF-8 in the backup
    backup_id           as in the header; null before format 4
    compression_filter  the program that compressed it; null for none
    header              the whole backup-header, as text; null for none
    members             names of the stored members, in order
    qubes               of those backed up: name, class, label, template, netvm (null: default),
                        path (null for a dom0 that qubes.xml does not list)
    files               qube, name, stored_name, chunks, size in bytes, sha256
    homes               user, stored_name, chunks, entries
    folders             qube, name, stored_name, chunks, entries

and for formats 3 and 2:

    encrypted           whether anything is
    cipher, digest      as openssl names them
    zlib_around         Beta 3's zlib stream around each encrypted chunk
    links               files that are bare symbolic links: qube, name, stored_name, chunks, target
    expect              where not all can be restored, why: "unsupported" (a cipher), "weak digest"
                        (unless it is asked for by name), "links" (which are never followed)

An entry of a home or a folder has `path` below it ("." is itself), `type` (directory, file,
symlink), `mode` (octal text), `mtime` (whole seconds), for files `size` and `sha256`, for symbolic
links `target`. Names are any bytes: `path_base64` and `target_base64` are exact, `path` and
`target` are for reading. `source_target` is there where tar's --xform rewrote a target: what it was
before. Entries with the same `hard_link` number are one file.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.maker import BackupMaker, Collector, Format2Maker, Member, OldMaker, Qube
from tests.maker.collection import has_template

FOLDER = Path(__file__).parent.parent / "vectors"
#: Formats that qbackup reads; vectors of others wait for that, checked by the real tools alone.
READABLE = (4, 3, 2)

Description = dict[str, Any]
UNSUPPORTED, WEAK_DIGEST, LINKS = "unsupported", "weak digest", "links"


def names() -> list[str]:
    """Names of the committed vectors."""
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def readable() -> list[str]:
    """Names of those that qbackup restores as a whole."""
    return [
        name
        for name in names()
        if (vector := load(name))["format"] in READABLE and "expect" not in vector
    ]


def load(name: str) -> Description:
    """The description of one vector."""
    description: Description = json.loads((FOLDER / f"{name}.json").read_text("utf-8"))
    return description


def backup_path(name: str) -> Path:
    """The backup of one vector."""
    return FOLDER / f"{name}.qbackup"


def describe(maker: Collector, about: str, *, expect: str | None = None) -> Description:
    """The description of what a maker was given; nothing is read back from the backup."""
    return {
        "about": about,
        "format": _format(maker),
        "passphrase": maker.passphrase,
        "backup_id": maker.backup_id if isinstance(maker, BackupMaker) else None,
        "compression_filter": maker.compression_filter,
        "header": None if maker.header is None else maker.header.decode("ascii"),
        "members": [member.name for member in maker.members()],
        "qubes": [
            _describe_qube(qube, maker)
            for qube in maker.qubes
            if qube.domain.backup_path is not None
        ],
        "files": _describe_all(maker, "file", _describe_file),
        "homes": _describe_all(maker, "home", _describe_home),
        "folders": _describe_all(maker, "folder", _describe_folder),
        **(_describe_old(maker) if isinstance(maker, OldMaker) else {}),
        **({"expect": expect} if expect else {}),
    }


def _format(maker: Collector) -> int:
    if isinstance(maker, BackupMaker):
        return 4
    return 2 if isinstance(maker, Format2Maker) else 3


def _describe_old(maker: OldMaker) -> Description:
    return {
        "encrypted": maker.encrypted,
        "cipher": maker.cipher,
        "digest": maker.digest,
        "zlib_around": isinstance(maker, Format2Maker) and maker.zlib_around,
        "links": _describe_all(maker, "link", _describe_link),
    }


def _describe_all(
    maker: Collector, kind: str, describe_one: Callable[[Collector, Qube, str], Description]
) -> list[Description]:
    return [
        describe_one(maker, qube, name)
        for qube in maker.qubes
        for name, path in qube.files.items()
        if _kind(maker, qube, path) == kind
    ]


def _kind(maker: Collector, qube: Qube, path: Path) -> str:
    if qube.home:
        return "home"
    if path.is_symlink() and isinstance(maker, OldMaker) and not maker.dereference:
        return "link"
    return "folder" if path.is_dir() else "file"


def describe_tree(tree: Path) -> list[Description]:
    """Every entry of a folder, itself included, sorted by path."""
    root = os.fsencode(tree)
    paths = [root]
    for folder, folders, files in os.walk(root):
        paths += [os.path.join(folder, name) for name in folders + files]
    links: dict[int, int] = {}
    return [_describe_entry(root, path, links) for path in sorted(paths)]


def describe_content(path: Path) -> Description:
    """Size in bytes and SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return {"size": path.stat().st_size, "sha256": digest.hexdigest()}


def _describe_qube(qube: Qube, maker: Collector) -> Description:
    domain = qube.domain
    listed = not (qube.home and isinstance(maker, OldMaker) and not maker.dom0)
    return {
        "name": domain.name,
        "class": domain.klass,
        "label": domain.label if listed else "",
        "template": domain.template if has_template(domain) else None,
        "netvm": "" if domain.tag == "QubesNetVm" else domain.netvm,
        "path": domain.backup_path if listed else None,
    }


def _describe_file(maker: Collector, qube: Qube, name: str) -> Description:
    return {**_stored(maker, qube, name), **describe_content(qube.files[name])}


def _describe_link(maker: Collector, qube: Qube, name: str) -> Description:
    return {**_stored(maker, qube, name), "target": os.readlink(qube.files[name])}


def _describe_home(maker: Collector, qube: Qube, user: str) -> Description:
    folder = _describe_folder(maker, qube, user)
    return {"user": folder.pop("name"), **{k: v for k, v in folder.items() if k != "qube"}}


def _describe_folder(maker: Collector, qube: Qube, name: str) -> Description:
    entries = describe_tree(qube.files[name].resolve())
    for entry in entries:
        target = base64.b64decode(entry.get("target_base64", ""))
        if _is_rewritten(maker, name, target):
            entry["source_target"] = entry["target"]
            entry |= _text("target", os.fsencode(qube.subdir) + target)
    return {**_stored(maker, qube, name), "entries": entries}


def _is_rewritten(maker: Collector, name: str, target: bytes) -> bool:
    """Whether `--xform` puts the prefix before a symbolic link's target as well."""
    if not target or (isinstance(maker, OldMaker) and not maker.rewrite_links):
        return False
    if isinstance(maker, Format2Maker):
        return not target.startswith(b"/")  # s:^[^/]:
    return name == "." or target.startswith(os.fsencode(name))  # s:^NAME:, a dot is any character


def _stored(maker: Collector, qube: Qube, name: str) -> Description:
    stored_name = qube.subdir + name
    return {
        "qube": qube.domain.name,
        "name": name,
        "stored_name": stored_name,
        "chunks": _count_chunks(stored_name, maker.members()),
    }


def _describe_entry(root: bytes, path: bytes, links: dict[int, int]) -> Description:
    status = os.lstat(path)
    entry = _text("path", os.path.relpath(path, root))
    entry["mode"] = f"{stat.S_IMODE(status.st_mode):04o}"
    entry["mtime"] = int(status.st_mtime_ns // 10**9)
    if stat.S_ISDIR(status.st_mode):
        entry["type"] = "directory"
    elif stat.S_ISLNK(status.st_mode):
        entry |= {"type": "symlink", **_text("target", os.readlink(path))}
    else:
        entry |= {"type": "file", **describe_content(Path(os.fsdecode(path)))}
    if entry["type"] != "directory" and status.st_nlink > 1:
        entry["hard_link"] = links.setdefault(status.st_ino, len(links) + 1)
    return entry


def _text(key: str, value: bytes) -> Description:
    readable = value.decode("utf-8", "backslashreplace")
    return {key: readable, f"{key}_base64": base64.b64encode(value).decode("ascii")}


def _count_chunks(stored_name: str, members: list[Member]) -> int:
    names = (member.name.removesuffix(".enc").rpartition(".") for member in members)
    return sum(stem == stored_name and number.isdigit() for stem, _, number in names)


def expected_tree(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What a restore must give: link targets as they were in dom0, no setuid and no setgid."""
    result = []
    for entry in entries:
        entry = dict(entry)
        source = entry.pop("source_target", None)
        if source is not None:
            entry["target"] = source
            entry["target_base64"] = base64.b64encode(os.fsencode(source)).decode()
        entry["mode"] = f"{int(entry['mode'], 8) & 0o1777:04o}"
        result.append(entry)
    return result
