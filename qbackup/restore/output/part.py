"""``NAME.part``, the name of a file or folder until it is whole: made, and removed at the end."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable

from qbackup.base.names import display, encode
from qbackup.restore.output.folders import exists, remove
from qbackup.restore.output.naming import make, remove_empty
from qbackup.restore.output.side_names import part_name
from qbackup.restore.sinks import CannotWrite


class PartMaker:
    """Maker of one ``NAME.part``, which `close` removes unless it has another name by then.

    A signal can end the making between the system's call and its return. Therefore the name is
    noted before the call, and `close` removes what stands there.

    Args:
        begin: makes a new file or folder of a name in a folder; returns its descriptor.
        is_own: a ``.part`` that is there already was left by a killed run, and is replaced.
            Otherwise it may be the user's, and is an error.
    """

    def __init__(self, begin: Callable[[int, bytes], int], *, is_own: bool) -> None:
        self._begin = begin
        self._is_own = is_own
        self._folder = -1
        self._name: str | None = None
        self._fd = -1

    def make(self, folder: int, name: str) -> int:
        """Makes ``NAME.part``; returns its descriptor, which `close` closes.

        Args:
            folder: descriptor of its folder, which stays open until `close`.
            name: ``NAME``.

        Raises:
            CannotWrite: a ``NAME.part`` is there that may be the user's.
            NameRefused: the name is refused.
            OSError: the folder or the disk has a fault.
        """
        part = encode(part_name(folder, name))

        def call(candidate: bytes) -> int:
            if candidate != part:  # `make` tries another name to find the cause of an error
                return self._begin(folder, candidate)
            self._name = None
            self._clear(folder, name)
            self._folder, self._name = folder, name
            try:
                return self._begin(folder, candidate)
            except FileExistsError:  # another program has just made this name
                self._name = None
                raise

        self._fd = make(folder, part, call)
        return self._fd

    def close(self) -> None:
        """Closes ``NAME.part``, and removes it if it still has this name."""
        if self._name is None:
            return
        name, self._name = part_name(self._folder, self._name), None
        with contextlib.suppress(OSError):
            if self._is_own or self._is_there(name):
                remove(self._folder, name)
            elif self._fd < 0:  # the making was interrupted; another program may have made it
                remove_empty(self._folder, encode(name))
        if self._fd >= 0:
            os.close(self._fd)

    def _is_there(self, part: str) -> bool:
        """Tells if this is the file or folder that was made, and not another program's."""
        if self._fd < 0:
            return False
        state = os.lstat(encode(part), dir_fd=self._folder)
        return os.path.samestat(state, os.fstat(self._fd))

    def _clear(self, folder: int, name: str) -> None:
        part = part_name(folder, name)
        if self._is_own:
            remove(folder, part)
        elif exists(folder, part):
            raise CannotWrite(
                f"{display(part)}, its name until it is whole, is taken: by a copy that was killed,"
                " or by something else of yours. Move or remove that, or copy to another name"
            )
