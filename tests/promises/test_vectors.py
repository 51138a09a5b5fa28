"""Every committed vector gives what its description says: by file, by pipe, as streams, as files.

The vectors were made by the real tools and are kept, so these tests need no tool.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

import pytest

import qbackup
from qbackup import BackupArchive
from tests.support import vectorfiles
from tests.support.restored import statuses
from tests.support.sources import ReadOnly, piped
from tests.support.vectorfiles import expected_tree

REAL_PARAMETERS = "zstdmt-real-scrypt"  # seconds of CPU for its one chunk, so one way is enough
WAYS = ("file", "pipe", "read")
CASES = [
    # the other ways repeat what the first one shows; a derivation of the real parameters is long
    pytest.param(name, way, marks=() if way == "file" and not number % 3 else pytest.mark.slow)
    for number, name in enumerate(vectorfiles.readable())
    for way in WAYS
    if name != REAL_PARAMETERS or way == "pipe"
]


@contextlib.contextmanager
def opened(name: str, way: str) -> Iterator[BackupArchive]:
    """A vector from its file, from a real pipe, or from an object that has only `read`."""
    path = vectorfiles.backup_path(name)
    passphrase = vectorfiles.load(name)["passphrase"]
    with contextlib.ExitStack() as stack:
        source: Any = path
        if way == "pipe":
            source = stack.enter_context(piped(path))
        elif way == "read":
            source = stack.enter_context(contextlib.closing(ReadOnly(path)))
        yield stack.enter_context(qbackup.open(source, passphrase=passphrase))


def digest_of(stream: BinaryIO) -> dict[str, object]:
    """Size and SHA-256, as a description has them."""
    digest, size = hashlib.sha256(), 0
    while piece := stream.read(100_000):
        digest.update(piece)
        size += len(piece)
    return {"size": size, "sha256": digest.hexdigest()}


def folders(expected: vectorfiles.Description) -> dict[str, vectorfiles.Description]:
    """Everything that comes out as a folder, by its name."""
    homes = {f"dom0/{home['user']}": home for home in expected["homes"]}
    return homes | {f"{f['qube']}/{f['name']}": f for f in expected["folders"]}


def links(expected: vectorfiles.Description) -> dict[str, vectorfiles.Description]:
    """Files that are symbolic links, and left out with a note, by their names."""
    return {f"{link['qube']}/{link['name']}": link for link in expected.get("links", [])}


@pytest.mark.parametrize(("name", "way"), CASES)
class TestEveryVector:
    def test_restore_gives_the_files_back(self, name: str, way: str, tmp_path: Path) -> None:
        expected = vectorfiles.load(name)
        with opened(name, way) as backup:
            report = backup.restore(tmp_path / "out")
        assert report.ok
        for file in expected["files"]:
            path = tmp_path / "out" / file["qube"] / file["name"]
            assert vectorfiles.describe_content(path) == {k: file[k] for k in ("size", "sha256")}
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
        names = [f"{file['qube']}/{file['name']}" for file in expected["files"]]
        for name, folder in folders(expected).items():
            tree = tmp_path / "out" / name
            assert vectorfiles.describe_tree(tree) == expected_tree(folder["entries"])
            names.append(name)
        for name in links(expected):
            assert not os.path.lexists(tmp_path / "out" / name)
            names.append(name)
        assert statuses(report) == dict.fromkeys(["qubes.xml", *names], "ok")

    def test_verify_finds_all_of_it_whole(self, name: str, way: str) -> None:
        expected = vectorfiles.load(name)
        with opened(name, way) as backup:
            report = backup.verify()
        sizes = {f"{r.qube}/{r.name}": r.size for r in report.files if r.qube}
        for file in expected["files"]:
            assert sizes.pop(f"{file['qube']}/{file['name']}") == file["size"]
        assert sizes.keys() == {*folders(expected), *links(expected)}
        chunks = [r.chunks for r in report.files if r.qube]
        described = [*expected["files"], *folders(expected).values(), *links(expected).values()]
        assert sorted(chunks) == sorted(file["chunks"] for file in described)

    def test_streams_give_the_same_bytes(self, name: str, way: str) -> None:
        with opened(name, way) as backup:
            for file in vectorfiles.load(name)["files"]:
                with backup.open(f"{file['qube']}/{file['name']}") as stream:
                    assert digest_of(stream) == {k: file[k] for k in ("size", "sha256")}
                    assert cast(Any, stream).complete

    def test_entries_of_folders_are_as_described(self, name: str, way: str) -> None:
        with opened(name, way) as backup:
            for full_name, folder in folders(vectorfiles.load(name)).items():
                found = {}
                for entry in backup.file(full_name).entries():
                    data = b"".join(bytes(e.data or bytes(e.length)) for e in entry.extents())
                    assert len(data) == entry.size
                    found[entry.path] = (entry.kind, hashlib.sha256(data).hexdigest())
                assert len(found) == len(folder["entries"])
                for entry in folder["entries"]:
                    path = base64.b64decode(entry["path_base64"]).decode("utf-8", "surrogateescape")
                    kind, digest = found[path]
                    kinds = {"directory": "folder"}.get(entry["type"], entry["type"])
                    assert kind in (kinds, "hardlink")
                    if kind == "file":
                        assert digest == entry["sha256"]

    def test_qubes_are_as_described(self, name: str, way: str) -> None:
        expected = vectorfiles.load(name)
        with opened(name, way) as backup:
            found = [(q.name, q.klass, q.label, q.template, q.netvm) for q in backup.qubes]
        assert found == [
            (q["name"], q["class"], q["label"], q["template"], q["netvm"])
            for q in expected["qubes"]
            if way == "file" or q["path"]  # on a pipe nobody knows yet whether it comes
        ]

    def test_the_header_is_the_stored_one(self, name: str, way: str) -> None:
        expected = vectorfiles.load(name)
        with opened(name, way) as backup:
            assert backup.header.version == expected["format"]
            if expected["header"] is None:
                return
            assert backup.header == backup.untrusted_header
            assert backup.header.backup_id == (expected["backup_id"] or "")
            assert backup.header.compression_filter == expected["compression_filter"]
            assert backup.header.compressed == (expected["compression_filter"] is not None)


@pytest.mark.slow
def test_a_vector_has_the_parameters_of_a_real_backup() -> None:
    with opened(REAL_PARAMETERS, "file") as backup:
        (chunk,) = backup.file("sys-usb/notes.txt").chunks
        assert str(chunk.parameters) == "N=2^18, r=8, p=5"
        with chunk.open() as plaintext:
            assert plaintext.read(4) == b"\x28\xb5\x2f\xfd"  # zstd's magic number
