"""Paths of a restore's files in the output folder: usual ones, unusual ones, and claimed ones."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from qbackup.restore.output.locations import Locations


@pytest.fixture
def locations(tmp_path: Path) -> Iterator[Locations]:
    root = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield Locations(root)
    os.close(root)


class TestLocate:
    @pytest.mark.parametrize(
        ("qube", "name", "path"),
        [
            ("work", "private.img", "work/private.img"),
            ("work", "folder/file", "work/folder/file"),
            ("", "qubes.xml", "qubes.xml"),
            ("qubes.xml", "root.img", "qubes%2Exml/root.img"),
            ("work", "x.part", "work/x%2Epart"),
        ],
    )
    def test_it_is_the_usual_path(
        self, locations: Locations, qube: str, name: str, path: str
    ) -> None:
        assert locations.locate(qube, name) == path
        assert locations.components(qube, name) == path.split("/")

    def test_nothing_is_made(self, locations: Locations, tmp_path: Path) -> None:
        locations.locate("work", "private.img", is_known=True)
        assert os.listdir(tmp_path) == []

    def test_a_stand_in_of_an_earlier_run_is_the_file(
        self, locations: Locations, tmp_path: Path
    ) -> None:
        (tmp_path / "work").mkdir()
        (tmp_path / "work/b%3Ab.txt").write_text("earlier")
        assert locations.locate("work", "b:b.txt") == "work/b:b.txt"
        assert locations.locate("work", "b:b.txt", is_known=True) == "work/b%3Ab.txt"
        assert locations.locate("work", "b:b.txt") == "work/b%3Ab.txt"
        assert locations.restored_as("work", "b:b.txt") == "work/b%3Ab.txt"

    def test_what_was_made_under_another_name_is_found_there(self, locations: Locations) -> None:
        locations.remember("work", "what?", "work/what%3F")
        assert locations.locate("work", "what?") == "work/what%3F"
        assert locations.components("work", "what?") == ["work", "what%3F"]


class TestRestoredAs:
    def test_is_none_for_the_usual_path(self, locations: Locations) -> None:
        locations.remember("work", "private.img", "work/private.img")
        assert locations.restored_as("work", "private.img") is None

    def test_names_a_reserved_one(self, locations: Locations) -> None:
        assert locations.restored_as("work", "x.part") == "work/x%2Epart"

    def test_is_known_when_the_folder_is_closed(self, locations: Locations) -> None:
        locations.remember("work", "what?", "work/what%3F")
        locations.close()
        assert locations.restored_as("work", "what?") == "work/what%3F"
        with pytest.raises(OSError, match="descriptor"):
            locations.locate("work", "other")


class TestClaim:
    def test_the_same_file_may_claim_its_path_again(self, locations: Locations) -> None:
        assert locations.claim("work", "private.img")
        assert locations.claim("work", "private.img")

    def test_a_name_that_differs_in_case_is_taken(self, locations: Locations) -> None:
        assert locations.claim("work", "private.img")
        assert not locations.claim("Work", "Private.img")

    def test_a_folder_is_not_claimed_over_its_file(self, locations: Locations) -> None:
        assert locations.claim("work", "private.img")
        assert not locations.claim("work", ".")

    def test_a_file_is_not_claimed_in_a_claimed_folder(self, locations: Locations) -> None:
        assert locations.claim("work", ".")
        assert not locations.claim("work", "private.img")
        assert locations.claim("vault", "private.img")

    def test_a_claim_of_another_thread_meanwhile_is_no_error(self, locations: Locations) -> None:
        class Claiming(str):
            def startswith(self, *arguments: object) -> bool:
                locations._claimed.setdefault("another", "another")
                return False

        locations._claimed[Claiming("first")] = "first"
        assert locations.claim("work", ".")
