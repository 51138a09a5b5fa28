"""Beginning of a restored file or folder: its folders and its ``NAME.part``.

Anybody who can write to the backup's storage can add members with names of their choice. So before
the first verified bytes of a file come, nothing is made for it: such a name leaves no folder behind
that could stand in the way of a true file. Until then its place is only looked at.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator

from qbackup.base.names import encode
from qbackup.restore.output.destination import Destination
from qbackup.restore.output.folders import Folders, check_no_old, exists, take_back
from qbackup.restore.output.locations import Locations
from qbackup.restore.output.name_locks import NameLocks
from qbackup.restore.output.naming import listed_as
from qbackup.restore.output.openfile import translated
from qbackup.restore.output.part import PartMaker
from qbackup.restore.output.side_names import DAMAGED_SUFFIX
from qbackup.restore.output.standins import stand_ins
from qbackup.restore.output.whereabouts import make_parents, plain_path
from qbackup.restore.sinks import AlreadyExists, CannotWrite, NameRefused


class Beginnings:
    """Beginnings of the files and folders of one restore.

    Args:
        locations: paths of the files below the output folder.
        overwrite: replace existing files.
        is_own: see `qbackup.restore.output.writer.FolderWriter`.
        is_taken: tells if a file of the backup has this path, for names of damaged files.
    """

    def __init__(
        self,
        locations: Locations,
        *,
        overwrite: bool,
        is_own: bool,
        is_taken: Callable[[str], bool],
    ) -> None:
        self.locations = locations
        self.overwrite = overwrite
        self.is_own = is_own
        self.is_taken = is_taken
        self._name_locks = NameLocks()

    @contextlib.contextmanager
    def of(
        self, qube: str, name: str, begin: Callable[[int, bytes], int], *, is_spare: bool = False
    ) -> Iterator[Beginning]:
        """Reserves a file's name, and gives its beginning; a ``NAME.part`` is removed at the end.

        Args:
            qube: name of the file's qube.
            name: name of the file.
            begin: makes a new file or folder of a name in a folder; returns its descriptor.
            is_spare: the file takes the next free name in the end, so nothing is in its way, and
                it overwrites nothing.

        Raises:
            AlreadyExists: something of this name is there.
        """
        path = self.locations.components(qube, name)
        with (
            self._name_locks.hold("/".join(path)),
            contextlib.closing(self.locations.folders()) as folders,
            contextlib.closing(PartMaker(begin, is_own=self.is_own)) as part,
        ):
            beginning = Beginning(self, (qube, name), path, folders, part, is_spare=is_spare)
            beginning.look()
            try:
                yield beginning
            finally:
                beginning.close()


class Beginning:
    """Beginning of one file or folder.

    Args:
        context: settings of the restore.
        file: names of the qube and of the file.
        path: the usual components of its path, see `Locations.components`.
        folders: opener of folders below the output folder; the caller closes it.
        part: maker of ``NAME.part``; the caller closes it.
        is_spare: see `Beginnings.of`.
    """

    def __init__(
        self,
        context: Beginnings,
        file: tuple[str, str],
        path: list[str],
        folders: Folders,
        part: PartMaker,
        *,
        is_spare: bool,
    ) -> None:
        self._context = context
        self._file = file
        self._path = path
        self._folders = folders
        self._part = part
        self._is_spare = is_spare
        self._begun: tuple[Destination, int] | None = None
        self._is_closed = False

    @property
    def name(self) -> str:
        """Name that the file has, or is going to get if the file system takes that name."""
        return self._path[-1] if self._begun is None else self._begun[0].name

    def look(self) -> None:
        """Looks at the file's place and makes nothing there.

        A replacement that a killed run has left half done is undone.

        Raises:
            AlreadyExists: something of this name is there.
        """
        if self._is_spare or not self._context.is_own:
            return  # nothing is in its way, or `begin` follows at once
        *parents, base = self._context.locations.there(self._path)
        try:
            folder = self._folders.open(parents)
        except OSError:  # there is no such folder yet, or `begin` reports the fault
            return
        with translated(base):
            if self._is_there(folder, base) and not self._context.overwrite:
                raise AlreadyExists

    def begin(self) -> tuple[Destination, int]:
        """Makes the folders above and ``NAME.part``, once.

        Returns:
            The destination, and the descriptor of ``NAME.part``.

        Raises:
            AlreadyExists: something of this name is there.
            CannotWrite: the name can't be had here.
            MachineError: the folder or the disk has a fault.
        """
        if self._is_closed:
            raise CannotWrite("the work on this file has ended")
        if self._begun is None:
            self._begun = self._make()
        return self._begun

    def close(self) -> None:
        """Ends the beginning, so that nothing is made any more."""
        self._is_closed = True

    def _make(self) -> tuple[Destination, int]:
        *parents, base = self._path
        with translated(base):
            there = make_parents(self._folders, parents)
            folder = self._folders.open(there)
            final, fd = self._make_part(folder, there, base)
        destination = Destination(
            self._context.locations.root,
            tuple(there),
            folder,
            final,
            self._may_replace(),
            self._is_taken,
            self._context.is_own,
            "" if self._is_spare else DAMAGED_SUFFIX,
        )
        return destination, fd

    def _is_taken(self, other: str) -> bool:
        """Tells if a file of the backup has this name beside the file."""
        above = plain_path(*self._file)[:-1]
        return self._context.is_taken("/".join([*above, other]))

    def _make_part(self, folder: int, parents: list[str], base: str) -> tuple[str, int]:
        """Begins a file under its name, or under a stand-in where the disk refuses the name."""
        for candidate in itertools.chain((base,), stand_ins(base)):
            if self._context.is_own and listed_as(folder, encode(candidate)) not in (
                None,
                candidate,
            ):
                continue  # the file system takes this name for another one
            self._context.locations.remember(*self._file, "/".join([*parents, candidate]))
            try:
                self._check_free(folder, candidate)
                return candidate, self._part.make(folder, candidate)
            except NameRefused as error:
                if error.taken_by is not None:
                    raise
        raise CannotWrite("can't be written here: the file system refuses its name")

    def _check_free(self, folder: int, base: str) -> None:
        """Raises AlreadyExists if something is there that may not be replaced."""
        if self._is_spare:
            return
        if self._is_there(folder, base) and not self._may_replace():
            raise AlreadyExists

    def _is_there(self, folder: int, base: str) -> bool:
        """Tells if anything has this name, after a replacement that was killed is undone."""
        try:
            is_there = exists(folder, base)
        except OSError:  # the file system refuses the name
            return False
        if self._context.is_own:
            return is_there or take_back(folder, base)
        if self._context.overwrite:
            check_no_old(folder, base)
        return is_there

    def _may_replace(self) -> bool:
        """Tells if what has the file's name may be replaced.

        A file that this very restore has written is never overwritten: where the file system
        ignores case, two files of the backup can have one name.
        """
        context = self._context
        return not self._is_spare and context.overwrite and context.locations.claim(*self._file)
