"""Two speeds: what `make test` leaves to `make test-all` has the mark `slow`.

A slow test takes over a second, or repeats with more inputs what a quick one shows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

import pytest


def spread(rows: Sequence[Any], quick: int = 1) -> list[Any]:
    """Values of a parametrised fixture or test, of which so many stay quick: the first, the last
    and others in equal steps between them. The rest are slow.
    """
    return _spread(rows, quick, single=True)


def rows(
    names: str | Sequence[str],
    values: Any,
    *,
    quick: int = 1,
    ids: Iterable[str | int | None] | Callable[[Any], object | None] | None = None,
    indirect: bool = False,
) -> pytest.MarkDecorator:
    """Parametrises a test like `pytest.mark.parametrize`; `quick` rows stay quick, as in `spread`.

    Of two such decorators on one test, only quick rows of both make a quick test.
    """
    single = isinstance(names, str) and "," not in names
    return pytest.mark.parametrize(
        names, _spread(list(values), quick, single), indirect=indirect, ids=ids
    )


def _spread(values: Sequence[Any], quick: int, single: bool) -> list[Any]:
    last = len(values) - 1
    chosen = {round(step * last / max(1, quick - 1)) for step in range(quick)}
    return [
        value if index in chosen else _marked(value, single) for index, value in enumerate(values)
    ]


def _marked(value: Any, single: bool) -> Any:
    """The same row, slow."""
    slow = pytest.mark.slow
    if isinstance(value, type(pytest.param())):
        row = cast(Any, value)
        return pytest.param(*row.values, marks=[*row.marks, slow], id=row.id)
    return pytest.param(value, marks=slow) if single else pytest.param(*value, marks=slow)
