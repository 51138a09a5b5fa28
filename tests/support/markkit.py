"""Damaged images of real file systems, and what is known of their files without the product.

The truth about content is the folder that `mkfs.ext4 -d` copied. The truth about blocks is
`debugfs`, asked about the healthy image: blocks of each file and of its tables (`blocks`), and
the place of its inode (`imap`).
"""

from __future__ import annotations

import io
import os
import random
import re
import stat
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from qbackup.base.errors import QBackupError
from qbackup.base.report import ByteRange
from qbackup.image import open_image
from qbackup.image.copying import CopyReport
from tests.maker import make_ext4

MIB = 1 << 20
Spans = Sequence[tuple[int, int]]

#: Options of mkfs.ext4, so that each kind of table, inode and checksum occurs.
KINDS: dict[str, Sequence[str]] = {
    "4k": ("-b", "4096"),
    "1k": ("-b", "1024"),
    "no-checksums": ("-O", "^metadata_csum", "-b", "1024"),
    "no-extents": ("-O", "^extent,^64bit,^metadata_csum", "-b", "1024"),
    "no-extents-checksums": ("-O", "metadata_csum,^extent,^64bit", "-b", "1024"),
    "ext2": ("-t", "ext2", "-b", "1024"),
    "inline": ("-O", "inline_data", "-I", "256", "-b", "4096"),
    "small-groups": ("-O", "^flex_bg", "-b", "1024", "-g", "1024"),
    "small-inodes": ("-I", "128", "-b", "2048"),
}


@dataclass(frozen=True)
class Healthy:
    """A healthy image.

    Attributes:
        data: its bytes.
        tree: the folder with its files.
        places: by path, spans of the bytes that a file stands on: content, tables, inode, and the
            same of the folders above.
        general: spans that all files stand on.
        aims: spans to aim at: blocks of files, tables, inodes, and folders.
    """

    data: bytes
    tree: Path
    places: dict[str, Spans]
    general: Spans
    aims: Sequence[Spans]


def make_tree(folder: Path) -> Path:
    """Makes small files in many folders, large and sparse ones, links of each kind."""
    noise = random.Random(11).randbytes
    for number in range(12):
        below = folder / f"folder-{number}" / "with a folder in it"
        below.mkdir(parents=True)
        for size in (1, 50, 100, 900, 5000, 20_000):
            (below / f"file of {size}").write_bytes(noise(size + number))
        (below / "link").symlink_to("file of 50")
        (below / "long-link").symlink_to("./" * 40 + "file of 50")
    (folder / "large").write_bytes(noise(900_000))
    (folder / "zeros").write_bytes(bytes(50_000))
    many = folder / "many"
    many.mkdir()
    for number in range(150):
        (many / f"a file with a rather long name, number {number:06}").write_bytes(b"%d" % number)
    os.link(folder / "large", folder / "folder-0/large too")
    with (folder / "sparse").open("wb") as file:
        for number in range(40):
            file.seek(number * 30_000 + 7000)
            file.write(b"%05d" % number * 100)
    return folder


def make_healthy(kind: str, folder: Path) -> Healthy:
    """Makes an image with the tree, and asks `debugfs` about the blocks of each file."""
    tree = folder / "tree"
    if not tree.exists():
        make_tree(tree)
    image = make_ext4(folder / kind, 8 * MIB, tree, KINDS[kind])
    paths = [f"/{path.relative_to(tree)}" for path in tree.rglob("*")]
    own = _own_spans(image, ["/", *paths])
    places: dict[str, Spans] = {}
    for path in own:
        above = ["/", *(str(parent) for parent in Path(path).parents if str(parent) != "/")]
        places[path] = [span for each in (path, *above) for span in own[each]]
    inodes = [spans[0] for spans in own.values()]
    folders = [s for p, spans in own.items() if (tree / p[1:]).is_dir() for s in spans[1:]]
    files = [s for p, spans in own.items() if not (tree / p[1:]).is_dir() for s in spans[1:]]
    aims = [files, _tables(image, paths), inodes, folders]
    return Healthy(image.read_bytes(), tree, places, _general(image), [a for a in aims if a])


def _own_spans(image: Path, paths: Sequence[str]) -> dict[str, Spans]:
    """Gives a file's inode, then its blocks and those of its tables, as spans of bytes."""
    size, inode_size = _number(image, "Block size"), _number(image, "Inode size")
    found: dict[str, Spans] = {}
    asked = [line for path in paths for line in (f'imap "{path}"', f'blocks "{path}"')]
    answers = _ask(image, asked)
    for path in paths:
        place, blocks = answers[f'imap "{path}"'], answers[f'blocks "{path}"']
        match = re.search(r"located at block (\d+), offset 0x([0-9a-f]+)", place)
        assert match, place
        start = int(match[1]) * size + int(match[2], 16)
        inode = (start, start + inode_size)
        numbers = [int(word) for word in blocks.split() if word.isdigit() and word != "0"]
        found[path] = [inode, *((number * size, (number + 1) * size) for number in numbers)]
    return found


def _tables(image: Path, paths: Sequence[str]) -> Spans:
    """Gives the blocks with extents or with numbers of blocks."""
    size = _number(image, "Block size")
    answers = _ask(image, [f'stat "{path}"' for path in paths])
    numbers = re.findall(r"\((?:[DT]?IND|ETB\d)\):(\d+)", "".join(answers.values()))
    return [(int(number) * size, (int(number) + 1) * size) for number in numbers]


def _ask(image: Path, commands: Sequence[str]) -> dict[str, str]:
    """Gives the answers of `debugfs` to commands."""
    done = subprocess.run(
        ["debugfs", "-f", "-", str(image)],
        input="\n".join(commands) + "\n",
        capture_output=True,
        text=True,
        check=True,
    )
    parts = re.split(r"^debugfs: (.*)\n", done.stdout, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def _number(image: Path, name: str) -> int:
    done = subprocess.run(["dumpe2fs", "-h", str(image)], capture_output=True, text=True)
    match = re.search(rf"^{name}:\s+(\d+)$", done.stdout, re.MULTILINE)
    assert match
    return int(match[1])


def _general(image: Path) -> Spans:
    """Gives the spans of the superblock, and of the groups' descriptors behind it."""
    size, first = _number(image, "Block size"), _number(image, "First block")
    return [(0, 1024 + size), ((first + 1) * size, (first + 3) * size)]


def damage(healthy: Healthy, seed: int) -> tuple[bytes, list[ByteRange]]:
    """Loses some ranges of an image, at any bytes; some are aimed at inodes and folders."""
    chance = random.Random(seed)
    length = len(healthy.data)
    is_lost = bytearray(length)
    for _ in range(chance.choice((1, 2, 5, 15))):
        size = chance.choice((1, 1, 2, 8, 100, 700, 4096, 30_000, 300_000))
        start = chance.randrange(length)
        if chance.random() < 0.8:
            start, end = chance.choice(
                chance.choices(healthy.aims, (6, 2, 2, 1)[: len(healthy.aims)])[0]
            )
            start = chance.randrange(start - min(size, 4096), end)
        start = min(max(start, 0 if chance.random() < 0.05 else 2048), length - 1)
        end = min(start + size, length)
        is_lost[start:end] = b"\1" * (end - start)
    data, ranges = bytearray(healthy.data), []
    at = 0
    for match in re.finditer(rb"\x01+", is_lost):
        data[match.start() : match.end()] = bytes(match.end() - match.start())
        ranges.append(ByteRange(at, match.start(), "good"))
        ranges.append(ByteRange(match.start(), match.end(), "zero-filled"))
        at = match.end()
    ranges.append(ByteRange(at, length, "good"))
    return bytes(data), [part for part in ranges if part.start != part.end]


@dataclass
class Tally:
    """Sums over many damages, so that no test passes because nothing was hit.

    Attributes:
        wrong: files, folders and links that are not there, or not as they were.
        changed: those of them that are there.
        right: those that are right and stand on good blocks alone.
        named: those that the reports named.
        unreadable: images that can't be opened.
        doubtful: images all of whose files are called into doubt.
    """

    wrong: int = 0
    changed: int = 0
    right: int = 0
    named: int = 0
    unreadable: int = 0
    doubtful: int = 0


def check(healthy: Healthy, seed: int, out: Path, tally: Tally) -> None:
    """Copies all files out of a damaged image, and compares each with the truth."""
    data, ranges = damage(healthy, seed)
    try:
        with open_image(io.BytesIO(data), ranges=ranges) as image:
            report = image.copy("/", out, check=False)
    except QBackupError:  # nothing was copied
        tally.unreadable += 1
        return
    lost = [(part.start, part.end or 0) for part in ranges if part.state != "good"]
    named = {result.name for result in report.bad}
    if "*" in named:  # all are under suspicion
        tally.doubtful += 1
        return
    assert _is_consistent(report, named)
    for path, places in healthy.places.items():
        is_right = path == "/" or _is_same(healthy.tree / path[1:], out / path[1:])
        if is_right and not _overlap(lost, [*places, *healthy.general]):
            assert path not in named, f"seed {seed}: {path} is right, and accused"
            tally.right += 1
        if not is_right:
            above = {str(parent) for parent in Path(path).parents}
            is_named = path in named or (not _is_there(out / path[1:]) and bool(above & named))
            assert is_named, f"seed {seed}: {path} is wrong, and not named"
            tally.wrong += 1
            tally.changed += _is_there(out / path[1:])
    tally.named += len(named)


def _is_consistent(report: CopyReport, named: set[str]) -> bool:
    if report.hit_count is None or report.whole_count is None:
        return False
    made = report.file_count + report.folder_count + report.link_count
    return report.hit_count + report.whole_count == made and report.hit_count <= len(named)


def _overlap(lost: Spans, places: Spans) -> bool:
    return any(start < end_b and start_b < end for start, end in lost for start_b, end_b in places)


def _is_there(path: Path) -> bool:
    return os.path.lexists(path)


def _is_same(path: Path, copy: Path) -> bool:
    """Tells if a copy has the kind, the content, the mode and the time of a file."""
    if not _is_there(copy):
        return False
    states = path.lstat(), copy.lstat()
    if stat.S_IFMT(states[0].st_mode) != stat.S_IFMT(states[1].st_mode):
        return False
    if path.is_symlink():
        return path.readlink() == copy.readlink()
    if states[0].st_mode != states[1].st_mode:
        return False
    return path.is_dir() or path.read_bytes() == copy.read_bytes()
