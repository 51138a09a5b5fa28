"""The hash by which restored content is known again: of the content alone, whatever way it came."""

from __future__ import annotations

import hashlib
import itertools
import os
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qbackup.base.limits import Limits
from qbackup.restore.output import digest, rehash
from qbackup.restore.output.digest import BLOCKWISE, ContentHash, TreeHash
from qbackup.restore.output.rehash import hash_file, hash_tree
from qbackup.restore.output.zeros import is_zeros
from tests.maker import make_sparse

KIB, GIB = 1 << 10, 1 << 30
BLOCK = 64 * KIB
NOISE = random.Random(3).randbytes(3 * BLOCK)


def counting(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The blocks that count, each with its number before it."""
    for number in range(0, -(-len(data) // BLOCK)):
        block = data[number * BLOCK : (number + 1) * BLOCK].ljust(BLOCK, b"\0")
        if block.strip(b"\0"):
            yield number.to_bytes(8, "big"), block


def by_definition(data: bytes) -> str:
    """As docs/decisions.md has it, word for word."""
    numbers = b"".join(number for number, _ in counting(data))
    content = hashlib.sha256(b"".join(block for _, block in counting(data))).digest()
    return hashlib.sha256(numbers + content + len(data).to_bytes(8, "big")).hexdigest()


def of_earlier_versions(data: bytes) -> str:
    """The form that earlier versions left in journals, word for word."""
    listed = b"".join(n + hashlib.sha256(block).digest() for n, block in counting(data))
    return hashlib.sha256(listed + len(data).to_bytes(8, "big")).hexdigest()


def in_pieces(data: bytes, cuts: Sequence[int], holes: Sequence[int] = ()) -> str:
    """Fed in pieces; those whose number is in `holes` are left out."""
    content = ContentHash()
    edges = sorted({0, len(data), *cuts})
    for number, (start, end) in enumerate(itertools.pairwise(edges)):
        if number not in holes:
            content.update(start, memoryview(data)[start:end])
    return content.finish(len(data))


CONTENTS = {
    "nothing": b"",
    "a byte": b"x",
    "a zero": b"\0",
    "a block": NOISE[:BLOCK],
    "a block and a byte": NOISE[: BLOCK + 1],
    "a block of zeros": bytes(BLOCK),
    "zeros and a byte": bytes(2 * BLOCK) + b"x",
    "a byte and zeros": b"x" + bytes(2 * BLOCK),
    "noise": NOISE,
    "noise, zeros, noise": NOISE + bytes(5 * BLOCK + 7) + NOISE[:1000],
}


class TestContent:
    @pytest.mark.parametrize("name", CONTENTS)
    def test_is_as_it_is_defined(self, name: str) -> None:
        data = CONTENTS[name]
        expected = by_definition(data)
        assert in_pieces(data, []) == expected
        assert in_pieces(data, range(0, len(data), 10_007)) == expected
        assert in_pieces(data, range(0, len(data), BLOCK)) == expected

    def test_of_all_contents_is_different(self) -> None:
        more = [bytes(n) for n in (2, BLOCK - 1, BLOCK + 1)] + [NOISE[BLOCK:], NOISE[:-1]]
        hashes = {in_pieces(data, []) for data in [*CONTENTS.values(), *more]}
        assert len(hashes) == len(CONTENTS) + len(more)

    @given(
        st.lists(st.sampled_from([NOISE[:4096], bytes(4096), bytes(BLOCK)]), max_size=40),
        st.lists(st.integers(0, 40 * BLOCK)),
    )
    def test_is_the_same_in_whatever_pieces_it_comes(
        self, parts: list[bytes], cuts: list[int]
    ) -> None:
        data = b"".join(parts)
        assert in_pieces(data, [cut for cut in cuts if cut < len(data)]) == by_definition(data)

    def test_is_the_same_whether_zeros_are_written_or_left_out(self) -> None:
        data = NOISE[:5000] + bytes(3 * BLOCK) + NOISE
        cuts = [5000, 5000 + 3 * BLOCK]
        assert in_pieces(data, cuts, holes=[1]) == in_pieces(data, cuts) == by_definition(data)

    @pytest.mark.parametrize("position", [0, BLOCK // 2, BLOCK - 1])
    def test_one_byte_in_a_block_of_zeros_counts(self, position: int) -> None:
        data = bytes(BLOCK + position) + b"\1" + bytes(BLOCK - position - 1)
        assert in_pieces(data, [BLOCK]) == by_definition(data) != by_definition(bytes(2 * BLOCK))
        assert not is_zeros(memoryview(data)[BLOCK:])


class TestFile:
    @pytest.mark.parametrize("name", CONTENTS)
    def test_on_the_disk_has_the_same(self, tmp_path: Path, name: str) -> None:
        path = tmp_path / "file"
        path.write_bytes(CONTENTS[name])
        data = CONTENTS[name]
        with path.open("rb") as file:
            assert hash_file(file.fileno(), len(data)) == by_definition(data)
            old = hash_file(file.fileno(), len(data), form=BLOCKWISE)
            assert old == of_earlier_versions(data)

    @pytest.mark.parametrize("can_tell", [True, False])
    def test_holes_make_no_difference(
        self, tmp_path: Path, can_tell: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Nor whether the system can tell where they are."""
        if not can_tell:
            monkeypatch.delattr(os, "SEEK_DATA")
        parts = {3000: NOISE[:5000], 40 * KIB: NOISE[:100], 700 * KIB: NOISE}
        path = make_sparse(tmp_path / "sparse", 2000 * KIB, parts)
        with path.open("rb") as file:
            assert hash_file(file.fileno(), 2000 * KIB) == by_definition(path.read_bytes())
            old = hash_file(file.fileno(), 2000 * KIB, form=BLOCKWISE)
            assert old == of_earlier_versions(path.read_bytes())

    def test_a_hole_of_terabytes_takes_no_time(self, tmp_path: Path) -> None:
        """The suite's time limit is what would be met."""
        path = make_sparse(tmp_path / "sparse", 8192 * GIB, {4096 * GIB: b"data"})
        content = ContentHash()
        content.update(4096 * GIB, memoryview(b"data"))
        with path.open("rb") as file:
            assert hash_file(file.fileno(), 8192 * GIB) == content.finish(8192 * GIB)

    def test_one_that_ends_before_has_none(self, tmp_path: Path) -> None:
        path = tmp_path / "file"
        path.write_bytes(NOISE)
        with path.open("rb") as file:
            assert hash_file(file.fileno(), len(NOISE) + 1) is None
            assert hash_file(file.fileno(), len(NOISE) + 1, form=BLOCKWISE) is None

    @pytest.mark.parametrize("start", [2, 100, BLOCK - 1])
    def test_zeros_before_the_first_byte_of_a_block_count(self, tmp_path: Path, start: int) -> None:
        """They go by before anybody knows that the block counts."""
        data = bytes(start) + b"x" + bytes(2 * BLOCK)
        cuts = [start // 2, start]
        assert in_pieces(data, cuts) == in_pieces(data, cuts, holes=[0]) == by_definition(data)


def hash_of(folder: Path, size: int = 0, limits: Limits | None = None) -> str | None:
    parent = os.open(folder.parent, os.O_RDONLY)
    try:
        return hash_tree(parent, folder.name, size, limits or Limits())
    finally:
        os.close(parent)


class TestFolder:
    def test_on_the_disk_has_the_same_in_any_order(self, tmp_path: Path) -> None:
        tree = tmp_path / "tree"
        (tree / "sub/empty").mkdir(parents=True, mode=0o700)
        (tree / "sub/file").write_bytes(NOISE)
        os.link(tree / "sub/file", tree / "a second name")
        (tree / "sub/link").symlink_to("file")
        for path, mode in ((tree, 0o700), (tree / "sub", 0o750), (tree / "sub/file", 0o640)):
            path.chmod(mode)
        first, second = TreeHash(), TreeHash()
        for made in (first, second):
            made.folder("sub/empty")
            made.file("sub/file", 0o640, len(NOISE), by_definition(NOISE))
            if made is first:
                made.symbolic_link("sub/link", "file")
            made.hard_link("a second name", "sub/file")
            made.folder("sub", 0o750)
        second.symbolic_link("sub/link", "file")
        assert hash_of(tree, len(NOISE)) == first.finish() == second.finish()
        assert hash_of(tree, len(NOISE) - 1) is None

    def test_names_may_hold_any_bytes(self, tmp_path: Path) -> None:
        tree = tmp_path / "tree"
        tree.mkdir(mode=0o700)
        (tree / os.fsdecode(b"\xff\n")).symlink_to(os.fsdecode(b"\xfe"))
        made = TreeHash()
        made.symbolic_link("\udcff\n", "\udcfe")
        assert hash_of(tree) == made.finish()

    def test_one_with_more_in_it_than_a_restore_makes_is_not_gone_through(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(rehash, "ENTRIES_LIMIT", 10)
        tree = tmp_path / "tree"
        tree.mkdir()
        for number in range(10):
            (tree / f"{number}").touch()
        assert hash_of(tree) is not None
        (tree / "10").touch()
        assert hash_of(tree) is None

    def test_one_that_is_deeper_than_allowed_is_not_gone_through(self, tmp_path: Path) -> None:
        (tmp_path / "tree/a/b/c").mkdir(parents=True)
        assert hash_of(tmp_path / "tree", limits=Limits(depth=3)) is not None
        assert hash_of(tmp_path / "tree", limits=Limits(depth=2)) is None

    def test_one_that_is_too_large_has_none(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(digest, "ENTRIES_LIMIT", 10)
        made = TreeHash()
        for number in range(9):
            made.symbolic_link(f"{number}", "target")
        assert made.finish() is not None
        for number in range(9, 1000):
            made.symbolic_link(f"below/{number}", "target")
        assert made.finish() is None
        assert len(made._paths) < 12, "it goes on to grow"


def test_no_memory_for_a_hash_is_a_fault_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenSSL's word for it is a ValueError, which nobody would take for that."""

    def failing(data: bytes = b"") -> None:
        raise ValueError("[digital envelope routines] initialization error")

    monkeypatch.setattr("qbackup.restore.output.digest.hashlib.sha256", failing)
    with pytest.raises(MemoryError):
        ContentHash()
