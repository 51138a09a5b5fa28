"""Folders with very many names: as they come, and in memory that does not grow with them."""

from __future__ import annotations

import gc
import io
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest

from qbackup.base.errors import LimitExceeded, NotInImage
from qbackup.base.limits import Limits
from qbackup.cli.main import main
from qbackup.image import open_image, walk
from qbackup.image.folder_names import SORTED_LIMIT
from tests.support.commandline import call
from tests.support.crowded import NAMES, crowded
from tests.support.speed import rows


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets 500 names be very many."""
    monkeypatch.setattr("qbackup.image.folder_names.SORTED_LIMIT", 500)


class Nowhere(io.StringIO):
    """An output that keeps nothing, and counts the objects in memory when something comes."""

    peak = 0

    def write(self, text: str) -> int:
        self.peak = max(self.peak, sys.getallocatedblocks())
        return len(text)


def peak_of(*arguments: str) -> int:
    """The largest number of objects during a command, besides those that were there before."""
    with mock.patch.object(sys, "stdout", Nowhere()) as nowhere:
        gc.collect()
        before = sys.getallocatedblocks()
        assert main(list(arguments)) == 0
        return nowhere.peak - before


class TestMemory:
    """Before, an entry took 344 bytes in five objects, and 2,800 in thirty with `--json`."""

    @rows("options", [("-R", "--json"), (), ("--json",), ("-R",)])
    def test_does_not_grow_with_the_names(
        self, few: None, options: tuple[str, ...], tmp_path: Path
    ) -> None:
        peaks = []
        for count in (1000, 1000, 5000):  # the first time loads modules
            path = tmp_path / str(count)
            path.write_bytes(crowded(count))
            peaks.append(peak_of("ls", f"{path}:/many", "-q", *options))
        assert peaks[2] - peaks[1] < 4000

    @pytest.mark.slow
    @pytest.mark.parametrize("options", [(), ("--json",)])
    def test_does_not_grow_beyond_what_is_sorted(
        self, options: tuple[str, ...], tmp_path: Path
    ) -> None:
        path = tmp_path / "image"
        path.write_bytes(crowded())
        call("ls", f"{path}:/", *options)
        assert peak_of("ls", f"{path}:/many", "-q", *options) < 4 * SORTED_LIMIT

    def test_of_folders_that_were_entered_is_a_bit_for_each(self) -> None:
        """A hostile image can have a million folders in one."""
        entered: dict[tuple[int, int], int] = {}
        folder = mock.Mock()
        tracemalloc.start()
        for number in range(50_000):
            folder.key = (0, number)
            page, bit = walk._place(folder)
            entered[page] = entered.get(page, 0) | bit
        size = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        assert size < 50_000 * 8


class TestOrder:
    def test_of_few_names_is_that_of_the_names(self) -> None:
        with open_image(io.BytesIO(crowded(SORTED_LIMIT))) as image:
            names = [node.name for node in image.list("/many")]
        assert len(names) == SORTED_LIMIT
        assert names == sorted(names)

    def test_of_very_many_is_that_in_which_they_are_stored(self) -> None:
        with open_image(io.BytesIO(crowded(SORTED_LIMIT + 1))) as image:
            names = [node.name for node in image.list("/many")]
        expected = [f"name-{n * 7919 % 10_000_000:07}" for n in range(SORTED_LIMIT + 1)]
        assert names == expected

    def test_gives_each_name_once_in_a_walk(self, few: None) -> None:
        with open_image(io.BytesIO(crowded(2000))) as image:
            paths = [node.path for node in image.walk("/")]
        assert len(paths) == len(set(paths)) == 2000 + 4


class TestPaths:
    def test_of_very_many_are_found(self, few: None) -> None:
        with open_image(io.BytesIO(crowded(3000))) as image:
            for number in (0, 1, 1500, 2999):
                name = f"name-{number * 7919 % 10_000_000:07}"
                assert image.stat(f"/many/{name}").name == name
            with pytest.raises(NotInImage, match="there is no name-x"):
                image.stat("/many/name-x")

    def test_keep_no_names_of_such_a_folder(self, few: None) -> None:
        with open_image(io.BytesIO(crowded(3000))) as image:
            image.stat("/many/name-0000000")
            assert sum(map(len, image._tree._folders.values())) < 10

    def test_of_which_two_are_equal_lead_to_the_smaller_number(self, few: None) -> None:
        data = bytearray(crowded(3000))
        at = data.rindex(b"name-")
        data[at : at + 12] = b"name-0007919"
        data[at - 8] = 11
        with open_image(io.BytesIO(data)) as image:
            assert image.stat("/many/name-0007919").stat.number == 11


class TestLimits:
    def test_count_names_that_come_later(self, few: None) -> None:
        limits = Limits(tree_entries=900)
        with open_image(io.BytesIO(crowded(2000)), limits=limits) as image:
            found = []
            with pytest.raises(LimitExceeded) as caught:
                for node in image.list("/many"):
                    found.append(node)
        assert caught.value.limit == "tree_entries"
        assert 500 <= len(found) <= 900

    def test_are_reported_behind_what_could_be_read(self, few: None) -> None:
        limits, faults = Limits(tree_entries=900), []
        with open_image(io.BytesIO(crowded(2000)), limits=limits) as image:
            nodes = image.list("/many", on_error=lambda path, error: faults.append((path, error)))
            assert len(list(nodes)) == 900
        assert [path for path, _ in faults] == ["/many"]


class TestDamage:
    @pytest.fixture
    def image(self, tmp_path: Path) -> Path:
        """The last block of the folder is damaged."""
        data = bytearray(crowded(5000))
        at = data.rindex(b"name-") // 1024 * 1024
        data[at + 4 : at + 6] = b"\xff\xff"
        path = tmp_path / "image"
        path.write_bytes(data)
        return path

    def test_of_a_later_part_is_named_with_all_else_listed(self, few: None, image: Path) -> None:
        ended = call("ls", f"{image}:/many", "--json")
        assert ended.status == 1
        assert ended.document["error"] == "/many: a block of the folder is damaged"
        assert len(ended.document["entries"]) > 4900
        ended = call("ls", f"{image}:/many")
        assert ended.status == 1
        assert len(ended.out.splitlines()) > 4900


def read_some(nodes: Iterator[object], count: int) -> int:
    return sum(1 for _, _ in zip(range(count), nodes, strict=False))


def test_first_names_come_before_the_last_are_read() -> None:
    with open_image(io.BytesIO(crowded())) as image:
        nodes = image.list("/many")
        assert read_some(nodes, 100) == 100
        assert NAMES > 2 * SORTED_LIMIT
