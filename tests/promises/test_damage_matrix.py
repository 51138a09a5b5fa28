"""Each kind of damage once: all that can be proven of a backup's images comes out, and no more.

`make damage` does the same to ten backups, one for each filter and format.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.damage import optimum
from tests.damage.blocks import blocks_of
from tests.damage.inflate import check, gzip_header_size, trace
from tests.damage.kinds import KINDS
from tests.damage.samples import Sample, make_sample
from tests.damage.trial import restore
from tests.maker import run

SHARE = 0.98


@pytest.fixture(scope="module")
def sample(tools: None, tmp_path_factory: pytest.TempPathFactory) -> Sample:
    """An uncompressed backup of format 4, of which each chunk that is left gives its bytes."""
    return make_sample("4-raw", tmp_path_factory.mktemp("sample"), files=(8, 5))


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_proven_comes_out(sample: Sample, kind: str, tmp_path: Path) -> None:
    damage = KINDS[kind](sample, random.Random(kind))
    outcomes = restore(sample, damage, tmp_path)
    for path, outcome in outcomes.items():
        assert outcome.wrong == 0
        assert outcome.right >= SHARE * optimum.provable(sample, sample.images[path], damage)


def test_without_damage_all_is_proven(sample: Sample) -> None:
    for image in sample.images.values():
        whole = optimum.known_bytes(sample, image, [True] * len(image.chunks))
        assert optimum.data_bytes(image, whole) == image.data_size > 0
        first_lost = [False, *[True] * (len(image.chunks) - 1)]
        assert optimum.data_bytes(image, optimum.known_bytes(sample, image, first_lost)) == 0


def test_the_trace_of_inflating_agrees_with_zlib(tools: None) -> None:
    words = random.Random(1).choices([b"one ", b"two ", b"three ", b"four "], k=20_000)
    data = b"".join(words) + random.Random(2).randbytes(70_000)
    stream = run(["gzip", "-c"], stdin=data)
    raw = stream[gzip_header_size(stream) :]
    found = trace(raw)
    check(raw, found)
    assert sum(found.known([(0, len(raw))])) == len(data)
    blocks = blocks_of(raw)
    assert list(blocks.starts) == [*found.block_bits, found.end_bit]
    quarter, half = len(raw) // 4, len(raw) // 2
    for parts in ([(0, len(raw))], [(0, quarter), (half, len(raw))], [(999, len(raw) - 5)]):
        assert blocks.known(parts) == found.known(parts)
    assert 0 < sum(found.known([(0, quarter), (half, len(raw))])) < len(data)
