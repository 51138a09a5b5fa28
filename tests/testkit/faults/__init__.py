"""What each group of vectors is about; the order is that of the format, from outside in."""

from collections.abc import Callable, Iterator

from tests.testkit.faults import (
    ages,
    authenticity,
    bombs,
    chunks,
    cuts,
    everyday,
    filters,
    format2,
    format3,
    header,
    home,
    images,
    inner,
    maps,
    metadata,
    order,
    outer,
    padding,
    passphrases,
    pax,
    planted,
    scrypt,
    sparse,
)
from tests.testkit.scenes import Scenes
from tests.testkit.vector import Vector

GROUPS: tuple[Callable[[Scenes], Iterator[Vector]], ...] = (
    outer.vectors,
    pax.vectors,
    order.vectors,
    cuts.vectors,
    everyday.vectors,
    header.vectors,
    authenticity.vectors,
    passphrases.vectors,
    scrypt.vectors,
    chunks.vectors,
    filters.vectors,
    bombs.vectors,
    inner.vectors,
    images.vectors,
    sparse.vectors,
    metadata.vectors,
    home.vectors,
    format3.vectors,
    format2.vectors,
    padding.vectors,
    maps.vectors,
    ages.vectors,
    planted.vectors,
)
