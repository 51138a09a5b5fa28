"""The pages in docs/ say what is so: examples are computed again, code and commands run."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import pytest

from tests import docexamples, vectorfiles
from tests.secondreader import Backup

LEFT_OUT = {
    "v3-zstdmt-camellia",  # a cipher that pycryptodome doesn't have
    "zstdmt-real-scrypt",  # seconds of CPU, to show what others show
}
READABLE = sorted(set(vectorfiles.names()) - LEFT_OUT)


class TestFormatPage:
    text = docexamples.PAGE.read_text("utf-8")

    @pytest.mark.parametrize("name", docexamples.EXAMPLES)
    def test_an_example_is_what_the_vectors_hold(self, name: str) -> None:
        assert docexamples.blocks(self.text)[name] == docexamples.EXAMPLES[name]()

    def test_every_example_stands_there_once(self) -> None:
        assert self.text.count("<!-- example: ") == len(docexamples.EXAMPLES)
        assert docexamples.blocks(self.text).keys() == docexamples.EXAMPLES.keys()

    def test_a_changed_digit_is_noticed(self) -> None:
        changed = self.text.replace("09dfd56a", "09dfd56b")
        name = "scrypt-header"
        assert docexamples.blocks(changed)[name] != docexamples.EXAMPLES[name]()
        assert docexamples.rewritten(changed) == self.text


@pytest.mark.parametrize("name", READABLE)
class TestTheSecondReader:
    """The page is enough to write a reader from: one that was reads every vector."""

    def opened(self, name: str) -> tuple[Backup, vectorfiles.Description]:
        vector = vectorfiles.load(name)
        return Backup(vectorfiles.backup_path(name).read_bytes(), vector["passphrase"]), vector

    def test_it_reads_every_file(self, name: str) -> None:
        backup, vector = self.opened(name)
        for file in vector["files"]:
            content = backup.file(file["stored_name"])
            assert len(content) == file["size"]
            assert hashlib.sha256(content).hexdigest() == file["sha256"]
            assert len(backup.chunks(file["stored_name"])) == file["chunks"]

    def test_it_reads_every_folder(self, name: str) -> None:
        backup, vector = self.opened(name)
        for folder in [*vector["homes"], *vector["folders"]]:
            assert backup.is_folder(folder["stored_name"])
            tree = backup.tree(folder["stored_name"])
            assert tree.keys() == {base64.b64decode(e["path_base64"]) for e in folder["entries"]}
            for entry in folder["entries"]:
                self.check(entry, *tree[base64.b64decode(entry["path_base64"])])

    def check(self, entry: dict[str, Any], member: Any, digest: str) -> None:
        if member.type in ("0", "S"):
            assert (member.size, digest) == (entry["size"], entry["sha256"])
        if member.type == "2":
            assert member.link == base64.b64decode(entry["target_base64"])

    def test_it_knows_the_qubes_and_what_must_be_there(self, name: str) -> None:
        backup, vector = self.opened(name)
        qubes = backup.qubes()
        listed = [qube for qube in vector["qubes"] if qube["path"]]
        expected = [(qube["name"], qube["path"].rstrip("/")) for qube in listed]
        assert [(qube.name, qube.path) for qube in qubes] == expected
        for qube in qubes:
            paths = {f"{qube.path}/{file}".removesuffix("/") for file in qube.required}
            assert paths <= set(backup.paths())
