"""Figures that a restore has before it begins: chunks, stored bytes, and bytes that are written."""

from __future__ import annotations

import pytest

from qbackup import BackupArchive, MachineError
from qbackup.archive.prefetch import KeyPrefetch
from qbackup.restore.nowhere import NowhereWriter

VAULT = "vault/private.img"


class FullDisk(NowhereWriter):
    """A writer to a disk with no free byte, which has one qube's files already."""

    def free_space(self) -> int | None:
        return 0

    def has_room(self, qube: str, name: str) -> bool:
        return qube != "vault"


@pytest.mark.parametrize("names", [[], ["personal/private.img", "vault"]])
def test_only_what_will_be_written_needs_room(backup: BackupArchive, names: list[str]) -> None:
    wanted = [file for file in backup.files if not names or file.name in (*names, VAULT)]
    needed = sum(file.stored_size for file in wanted if not file.name.startswith("vault/"))
    with pytest.raises(MachineError, match=f"at least {needed} bytes are needed"):
        backup.restore(FullDisk(), names)


def test_keys_are_expected_for_the_chunks_that_are_asked_for(
    backup: BackupArchive, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected: list[int] = []
    monkeypatch.setattr(KeyPrefetch, "expect", lambda self, count: expected.append(count))
    backup.verify(["personal/private.img"])
    assert expected[-1] == backup.file("personal/private.img").chunk_count
