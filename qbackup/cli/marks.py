"""Marks of files that lost bytes of a damaged image hit, for `ls` and `cat`."""

from __future__ import annotations

from qbackup.base.names import display
from qbackup.cli import output
from qbackup.image.faults import HITS
from qbackup.image.image import Image
from qbackup.image.node import Node

MARK = "  (DAMAGED)"  # behind the name of an entry


class Marks:
    """Marks of entries, and their number.

    Args:
        image: the image; nothing is marked if its lost bytes are not known.
    """

    def __init__(self, image: Image) -> None:
        self._image = image
        self.is_used = image.knows_losses
        self._counts = {True: 0, False: 0}

    def is_hit(self, node: Node) -> bool:
        """Tells if an entry is hit, and counts the entry; to be asked once for each."""
        if not self.is_used:
            return False
        is_hit = node.kind in HITS and self._image.is_hit(node)
        self._counts[is_hit] += 1
        return is_hit

    @property
    def hit_count(self) -> int:
        """Number of entries that are hit."""
        return self._counts[True]

    @property
    def whole_count(self) -> int:
        """Number of entries that are certified."""
        return self._counts[False]

    @property
    def errors(self) -> list[str]:
        """The sum, in a sentence, if any entry is hit."""
        return [sum_of(self.whole_count, self.hit_count)] if self.hit_count else []

    def print_sum(self) -> None:
        """Prints the sum on standard error if no entry is hit; else the sum is an error."""
        if self.is_used and not self.hit_count:
            output.print_message(f"note: {sum_of(self.whole_count, 0)}")


def sum_of(whole: int, hit: int) -> str:
    """Gives the sum: how many are certified, and how many are hit."""
    return f"of a damaged image: {whole} whole, {hit} hit by lost bytes"


def content_errors(image: Image, path: str) -> list[str]:
    """Gives the reason why the content of a file is not whole; nothing if the file is certified."""
    node = image.stat(path)
    if image.knows_losses and image.is_hit(node):
        return [f"{display(node.path)}: {HITS['file']}"]
    if image.knows_losses:
        output.print_message(f"note: {display(node.path)} is whole, in a damaged image")
    return []
