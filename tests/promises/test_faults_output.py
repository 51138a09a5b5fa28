"""Faults of the place that is restored to: it is full, may not be written, or is changed by
somebody else meanwhile. What is whole stays, nothing else gets a name, a second run completes.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import pytest

from tests.support.commandline import Ended, run
from tests.support.faults import (
    KEY,
    Restores,
    become_ordinary,
    compressed_backup,
    small_disk,
    undisturbed,
)
from tests.support.librarybackup import Made
from tests.support.restored import Snapshot, content, snapshot
from tests.support.speed import rows

Compressed = tuple[Path, Snapshot]


@pytest.fixture(scope="module")
def compressed(tools: None, tmp_path_factory: pytest.TempPathFactory) -> Compressed:
    folder = tmp_path_factory.mktemp("compressed")
    backup = compressed_backup(folder)
    return backup, undisturbed(backup, folder / "undisturbed")


@pytest.fixture(scope="module")
def final(made: Made, tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    return undisturbed(made.path, tmp_path_factory.mktemp("undisturbed") / "out")


@pytest.fixture
def restores(made: Made, tmp_path: Path, final: Snapshot) -> Restores:
    return Restores(made.path, tmp_path / "out", final)


class TestFullDisk:
    """Of 180 KiB, or of 20 files and folders, that are needed there is room for some."""

    SIZES_KIB: ClassVar[list[int]] = [4, 8, 64, 68, 72, 76, 84, 88, 124, 132, 140, 152, 164, 176]

    def restore(self, compressed: Compressed, folder: Path, options: str) -> tuple[Ended, set[str]]:
        """A first run with too little room, and a second with enough; its statuses."""
        with small_disk(folder, options) as mount_again:
            restores = Restores(compressed[0], folder / "out", compressed[1])
            first = run(*restores.arguments("--json", "-q"), env=KEY)
            restores.left()
            mount_again("size=4m,nr_inodes=100")
            return first, restores.check_second()

    def check_first(self, first: Ended) -> None:
        assert first.status == 5
        assert first.document["ok"] is False
        assert first.document["kind"] == "MachineError"
        assert "No space left on device" in first.document["error"]
        assert first.err.count("No space left on device") == 1

    @rows("size", SIZES_KIB, quick=2)
    def test_of_any_size(self, compressed: Compressed, tmp_path: Path, size: int) -> None:
        first, _ = self.restore(compressed, tmp_path / "disk", f"size={size}k")
        self.check_first(first)

    @rows("inodes", range(1, 19))
    def test_that_can_not_hold_one_more_file(
        self, compressed: Compressed, tmp_path: Path, inodes: int
    ) -> None:
        """The output folder, qubes.xml, a qube's folder, its file, the journal, parts of a home."""
        first, _ = self.restore(compressed, tmp_path / "disk", f"size=4m,nr_inodes={inodes}")
        self.check_first(first)

    @pytest.mark.slow
    def test_what_took_the_last_room_is_known_to_the_second_run(
        self, compressed: Compressed, tmp_path: Path
    ) -> None:
        """Five: the disk's own folder, the output folder, qubes.xml, and a qube with its file."""
        for options in ("size=4m,nr_inodes=6", "size=72k"):
            first, statuses = self.restore(compressed, tmp_path / "disk", options)
            assert "journal" not in first.err
            assert statuses == {"ok", "kept"}

    def test_with_just_enough_room(self, compressed: Compressed, tmp_path: Path) -> None:
        first, statuses = self.restore(compressed, tmp_path / "disk", "size=200k,nr_inodes=40")
        assert first.status == 0
        assert statuses == {"kept"}


class TestMayNotWrite:
    """As a user whom permissions bind."""

    def restore(self, restores: Restores) -> Ended:
        return run(*restores.arguments("-q"), env=KEY, before=become_ordinary)

    def test_where_the_folder_should_be_made(self, made: Made, tmp_path: Path) -> None:
        parent = tmp_path / "parent"
        parent.mkdir(mode=0o500)
        ended = self.restore(Restores(made.path, parent / "out", {}))
        assert ended.status == 5
        reason = f"can't use the output folder {parent / 'out'}: Permission denied"
        assert ended.err == f"qbackup: {reason}\n"

    def test_in_the_folder(self, restores: Restores) -> None:
        restores.out.mkdir(mode=0o500)
        ended = self.restore(restores)
        assert ended.status == 5
        assert ended.err.endswith("qbackup: can't write qubes.xml: Permission denied\n")
        assert restores.left() == {}
        restores.out.chmod(0o700)
        restores.check_second()

    def test_in_a_qube_s_folder(self, restores: Restores) -> None:
        restores.out.mkdir()
        (restores.out / "vault").mkdir(mode=0o500)
        ended = self.restore(restores)
        assert ended.status == 5
        assert ended.err.endswith("qbackup: can't write private.img: Permission denied\n")
        assert "personal/private.img" in restores.left()
        (restores.out / "vault").chmod(0o700)
        restores.check_second()

    @pytest.mark.slow
    def test_over_a_file_that_may_be_replaced(self, restores: Restores) -> None:
        """Replacing needs no permission for the file itself; the folder's counts."""
        path = restores.out / "vault/private.img"
        path.parent.mkdir(parents=True)
        path.write_bytes(b"mine")
        path.chmod(0o400)
        path.parent.chmod(0o500)
        arguments = restores.arguments("-q", "--overwrite")
        assert run(*arguments, env=KEY, before=become_ordinary).status == 5
        assert path.read_bytes() == b"mine"
        path.parent.chmod(0o700)
        assert run(*arguments, env=KEY, before=become_ordinary).status == 0
        assert snapshot(restores.out, folders=True) == restores.final


MIDDLE = ("vm2/private.img.002.enc", "vault/private.img.part")


class TestChangedMeanwhile:
    """Somebody else works in the output folder while `vault/private.img` is being written."""

    def change(self, restores: Restores, change: Callable[[], object]) -> Ended:
        with restores.paused(*MIDDLE) as paused:
            change()
            return paused.go_on()

    def check_costs_its_file(self, ended: Ended, name: str = "vault/private.img") -> str:
        """Only this file is not whole; why."""
        assert ended.status == 1
        files = ended.document["files"]
        (bad,) = (file for file in files if file["status"] != "ok")
        assert f"{bad['qube']}/{bad['name']}" == name
        return str(bad["error"])

    def test_the_output_folder_removed(self, restores: Restores) -> None:
        ended = self.change(restores, lambda: shutil.rmtree(restores.out))
        assert ended.status == 5
        assert "can't write user: No such file or directory" in ended.err
        assert not restores.out.exists()
        restores.check_second()

    @pytest.mark.slow
    def test_the_qube_s_folder_removed(self, restores: Restores) -> None:
        ended = self.change(restores, lambda: shutil.rmtree(restores.out / "vault"))
        assert "removed in the output folder" in self.check_costs_its_file(ended)
        assert "dom0/user/link" in restores.left()
        restores.check_second()

    @rows("instead", ["nothing", "a link", "a file", "another folder"])
    def test_the_qube_s_folder_replaced(
        self, restores: Restores, tmp_path: Path, instead: str
    ) -> None:
        vault, away, elsewhere = restores.out / "vault", tmp_path / "away", tmp_path / "elsewhere"
        elsewhere.mkdir()

        def replace() -> None:
            vault.rename(away)
            if instead == "a link":
                vault.symlink_to(elsewhere)
            elif instead == "a file":
                vault.write_bytes(b"mine")
            elif instead == "another folder":
                vault.mkdir()

        ended = self.change(restores, replace)
        assert "moved, replaced or removed" in self.check_costs_its_file(ended)
        assert snapshot(away) == snapshot(elsewhere) == {}
        if instead in ("a link", "a file"):
            vault.unlink()  # it was not touched
        restores.check_second()

    @rows("instead", ["nothing", "a link", "a file", "a folder"])
    def test_the_unfinished_file_replaced(
        self, restores: Restores, tmp_path: Path, instead: str
    ) -> None:
        """Then what stands there is not what was verified, and gets no final name."""
        part, elsewhere = restores.out / MIDDLE[1], tmp_path / "elsewhere"
        elsewhere.write_bytes(b"precious")

        def replace() -> None:
            part.unlink()
            if instead == "a link":
                part.symlink_to(elsewhere)
            elif instead == "a file":
                part.write_bytes(b"evil")
            elif instead == "a folder":
                part.mkdir()

        ended = self.change(restores, replace)
        assert "moved, replaced or removed" in self.check_costs_its_file(ended)
        assert elsewhere.read_bytes() == b"precious"
        assert not (restores.out / "vault/private.img").exists()
        restores.check_second()

    @pytest.mark.slow
    def test_a_file_under_the_final_name_is_left_alone(self, restores: Restores) -> None:
        path = restores.out / "vault/private.img"
        ended = self.change(restores, lambda: path.write_bytes(b"mine"))
        assert "was left alone" in self.check_costs_its_file(ended)
        assert snapshot(restores.out)["vault/private.img"] == content(b"mine")
        path.unlink()
        restores.check_second()

    @rows("what", ["a link", "a file"])
    def test_the_place_of_a_folder_that_comes_later(
        self, restores: Restores, tmp_path: Path, what: str
    ) -> None:
        elsewhere, dom0 = tmp_path / "elsewhere", restores.out / "dom0"
        elsewhere.mkdir()

        def put() -> None:
            if what == "a link":
                dom0.symlink_to(elsewhere)
            else:
                dom0.write_bytes(b"mine")

        ended = self.change(restores, put)
        assert "can't be written here" in self.check_costs_its_file(ended, "dom0/user")
        assert snapshot(elsewhere) == {}
        dom0.unlink()
        restores.check_second()

    @pytest.mark.slow
    @pytest.mark.parametrize("what", ["dom0", "dom0/user.part"])
    def test_a_home_removed(self, restores: Restores, what: str) -> None:
        with restores.paused("dom0-home/user.001.enc", "dom0/user.part") as paused:
            while (restores.out / what).exists():  # the restore may remove what it has made
                shutil.rmtree(restores.out / what, ignore_errors=True)
            ended = paused.go_on()
        assert ended.status in (1, 5)
        assert "vault/private.img" in restores.left()
        restores.check_second()
