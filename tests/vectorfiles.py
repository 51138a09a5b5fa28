"""What stands beside each vector: a description that says what a restore must give.

`NAME.json` beside `NAME.qbackup`:

    about               what the vector is there for
    passphrase          text, UTF-8 in the backup
    backup_id           as in the header
    compression_filter  the program that compressed it; null for none
    header              the whole backup-header, as text
    members             names of the stored members, in order
    qubes               of those backed up: name, class, label, template, netvm (null: default),
    path files               qube, name, stored_name, chunks, size in bytes, sha256 homes
    user, stored_name, chunks, entries

An entry of a home has `path` below it ("." is the home itself), `type` (directory, file, symlink),
`mode` (octal text), `mtime` (whole seconds), for files `size` and `sha256`, for symbolic links
`target`. Names are any bytes: `path_base64` and `target_base64` are exact, `path` and `target` are
for reading. `source_target` is there where tar's --xform rewrote a target: what it was before.
Entries with the same `hard_link` number are one file.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import stat
from pathlib import Path
from typing import Any

from tests.maker import BackupMaker, Member, Qube

FOLDER = Path(__file__).parent / "vectors"

Description = dict[str, Any]


def names() -> list[str]:
    """Names of the committed vectors."""
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def load(name: str) -> Description:
    """The description of one vector."""
    description: Description = json.loads((FOLDER / f"{name}.json").read_text("utf-8"))
    return description


def backup_path(name: str) -> Path:
    """The backup of one vector."""
    return FOLDER / f"{name}.qbackup"


def describe(maker: BackupMaker, about: str) -> Description:
    """The description of what a maker was given; nothing is read back from the backup."""
    members = maker.members()
    homes = [qube for qube in maker.qubes if qube.home]
    return {
        "about": about,
        "passphrase": maker.passphrase,
        "backup_id": maker.backup_id,
        "compression_filter": maker.compression_filter,
        "header": maker.header.decode("ascii"),
        "members": [member.name for member in members],
        "qubes": [_describe_qube(qube) for qube in maker.qubes],
        "files": [
            _describe_file(qube, name, members)
            for qube in maker.qubes
            if not qube.home
            for name in qube.files
        ],
        "homes": [_describe_home(qube, members) for qube in homes],
    }


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


def _describe_qube(qube: Qube) -> Description:
    domain = qube.domain
    return {
        "name": domain.name,
        "class": domain.klass,
        "label": domain.label,
        "template": domain.template if domain.klass in ("AppVM", "DispVM") else None,
        "netvm": domain.netvm,
        "path": domain.backup_path,
    }


def _describe_file(qube: Qube, name: str, members: list[Member]) -> Description:
    stored_name = qube.subdir + name
    return {
        "qube": qube.domain.name,
        "name": name,
        "stored_name": stored_name,
        "chunks": _count_chunks(stored_name, members),
        **describe_content(qube.files[name]),
    }


def _describe_home(qube: Qube, members: list[Member]) -> Description:
    ((user, tree),) = qube.files.items()
    entries = describe_tree(tree)
    for entry in entries:
        target = base64.b64decode(entry.get("target_base64", ""))
        if target.startswith(os.fsencode(user)):  # as --xform=s:^USER:dom0-home/\0: does
            entry["source_target"] = entry["target"]
            entry |= _text("target", b"dom0-home/" + target)
    stored_name = f"{qube.subdir}{user}"
    chunks = _count_chunks(stored_name, members)
    return {"user": user, "stored_name": stored_name, "chunks": chunks, "entries": entries}


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
    stems = (member.name.removesuffix(".enc").rpartition(".")[0] for member in members)
    return sum(stem == stored_name for stem in stems)
