"""Repeated runs of a restore: whole files in the output folder are kept, the others are written.

`ResumingWriter` is a `FolderWriter` with a `Journal`. Its sinks are in `journaled`. An existing
file of the same name is looked up in the journal, read again, and kept if it is the same.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal

from qbackup.base.limits import Limits
from qbackup.base.names import display
from qbackup.restore.output.rehash import hash_image, hash_tree
from qbackup.restore.output.writer import FolderWriter
from qbackup.restore.resume.journal import Journal
from qbackup.restore.resume.journaled import JournaledImage, JournaledRename, JournaledTree
from qbackup.restore.resume.records import Record
from qbackup.restore.sinks import AlreadyExists, ExistingFile, FileSink, SpareSink, TreeSink

_NAMES_FACTOR = 2  # CIFS shows two names of one file as two files, and both are read
_NOTHING_KNOWN = ExistingFile()
_ONLY_NOTED = ("a device, which is never made", "a pipe, which is never made")


class ResumingWriter:
    """Writer below one folder, which keeps files that an earlier run wrote of the same backup.

    Args:
        path: path of the output folder.
        key: key of this backup's lines in the journal.
        limits: limits for the journal, and for folders that are read again.
        overwrite: replace existing files that are not the same.
        keep_damaged: see `FolderWriter`. Damaged files are never journaled.
        is_taken: see `FolderWriter`.
        by_path: the list of qubes is lost, so files get names from their paths in the archive.
        warn: called with a sentence on each fault of the journal.

    Raises:
        MachineError: see `FolderWriter`.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        key: bytes,
        limits: Limits,
        overwrite: bool,
        keep_damaged: bool,
        is_taken: Callable[[str], bool],
        by_path: bool,
        warn: Callable[[str], None],
    ) -> None:
        self.goes_past_damage = self.keeps_damaged = keep_damaged
        self._limits = limits
        self._overwrite = overwrite
        self._warn = warn
        self._found: dict[tuple[str, str], ExistingFile] = {}
        self._writer = FolderWriter(
            path, overwrite=overwrite, keep_damaged=keep_damaged, is_taken=is_taken
        )
        try:
            self._journal = Journal(self._writer.folder, key, limit=limits.journal, warn=warn)
            if by_path:
                self._journal.warn_of_others()
        except BaseException:  # an interrupt too: a journal can be long
            self._writer.close()
            raise

    def close(self) -> None:
        """Closes the journal and the folder."""
        self._journal.close()
        self._writer.close()

    def has_room(self, qube: str, name: str) -> bool:
        """Tells if the file would be written, as far as its name and the journal show."""
        if self._writer.has_room(qube, name, is_known=self._is_known(qube, name)):
            return not (self._overwrite and self._is_expected(qube, name))
        return False

    def is_needed(self, qube: str, name: str) -> bool:
        """Tells if the file has to be read. With overwrite, an existing file is compared first."""
        if not self._writer.has_room(qube, name, is_known=self._is_known(qube, name)):
            return False
        return not (self._overwrite and self.found(qube, name).is_whole)

    def found(self, qube: str, name: str) -> ExistingFile:
        """Gives the facts about the file in the way, which is read once.

        If it is whole, leftovers of a killed run beside it are removed.
        """
        found = self._found.get((qube, name))
        if found is None:
            record = self._journal.find(qube, name)
            found = _NOTHING_KNOWN if record is None else self._look(record)
            self._found[qube, name] = found
        return found

    def free_space(self) -> int | None:
        """Gives the number of bytes that can be written."""
        return self._writer.free_space()

    def foreseen(self, sizes: Mapping[str, int]) -> Sequence[str]:
        """Gives sentences on files that can't be written here."""
        return self._writer.foreseen(sizes)

    def check_size(self, size: int) -> None:
        """Raises NotHere if a file of this length can't be written here."""
        self._writer.check_size(size)

    def holds(self, name: str, data: bytes) -> bool:
        """Tells if the output folder has a file of exactly this content."""
        return self._writer.holds(name, data)

    @contextlib.contextmanager
    def image(self, qube: str, name: str) -> Iterator[FileSink]:
        """Makes a file of a qube, and journals it."""
        self._refuse_whole(qube, name)
        with self._writer.image(qube, name) as sink:
            if not qube:  # qubes.xml needs no journal: its content is compared, see `holds`
                yield sink
                return
            image = JournaledImage(sink, self._rename(qube, name, "file"))
            with contextlib.closing(image):  # must end before its descriptor is closed
                yield image

    @contextlib.contextmanager
    def tree(self, qube: str, name: str) -> Iterator[TreeSink]:
        """Makes a folder of a qube, and journals it."""
        self._refuse_whole(qube, name)
        with self._writer.tree(qube, name) as sink:
            yield JournaledTree(sink, self._rename(qube, name, "folder"), self._warn)

    def spare(self, qube: str, name: str) -> contextlib.AbstractContextManager[SpareSink]:
        """Opens a new file beside another one, as `Writer` says. Such a file is not journaled."""
        return self._writer.spare(qube, name)

    def beside(self, qube: str, name: str) -> contextlib.AbstractContextManager[SpareSink]:
        """Opens a new file beside a kept one, as `Writer` says. Such a file is not journaled."""
        return self._writer.beside(qube, name)

    def unverified(self, qube: str, name: str) -> contextlib.AbstractContextManager[SpareSink]:
        """Opens a new file for bytes that nothing proves. Such a file is not journaled."""
        return self._writer.unverified(qube, name)

    def _rename(self, qube: str, name: str, kind: Literal["file", "folder"]) -> JournaledRename:
        return JournaledRename(self._journal, qube, name, kind)

    def restored_as(self, qube: str, name: str) -> str | None:
        """Gives the file's path in the output folder; None if that is QUBE/NAME."""
        return self._writer.restored_as(qube, name)

    @property
    def warnings(self) -> Sequence[str]:
        """Sentences on what the file system can't keep."""
        return self._writer.warnings

    def _is_known(self, qube: str, name: str) -> bool:
        return self._journal.find(qube, name) is not None

    def _is_expected(self, qube: str, name: str) -> bool:
        """Tells if the file is probably there and whole, by its name and not its content."""
        if self._journal.find(qube, name) is None:
            return False
        try:
            return self._writer.is_there(qube, name, is_known=True)
        except OSError:
            return False

    def _refuse_whole(self, qube: str, name: str) -> None:
        """Raises AlreadyExists if the file there is whole.

        Its name is claimed then, so that no other file that the disk takes for it replaces it.
        """
        if self._overwrite and self.found(qube, name).is_whole:
            self._writer.claim(qube, name)
            raise AlreadyExists

    def _look(self, record: Record) -> ExistingFile:
        root, form = self._writer.folder, record.form
        path = self._writer.locate(record.qube, record.name, is_known=True)
        if record.kind == "file":
            content = hash_image(root, path, record.size, form=form)
        else:
            most = record.size * _NAMES_FACTOR
            content = hash_tree(root, path, most, self._limits, modes=record.modes, form=form)
            if not record.modes:
                self._writer.unkept.note("permissions")
        if content != record.sha256:
            return ExistingFile(is_known=True)
        if not self._journal.is_whole(record):
            self._writer.clear_up(record.qube, record.name)
            self._journal.whole(record)
        refused, notes = _as_told_now(record)
        return ExistingFile(True, True, record.size, record.chunks, refused, notes)


def _as_told_now(record: Record) -> tuple[tuple[tuple[str, str], ...], tuple[str, ...]]:
    """Gives a folder's refusals and notes as they are reported now.

    Earlier versions recorded devices and pipes as refused. They become notes, so that a second run
    reports the same of such a folder as a first run.
    """
    refused, notes = [], list(record.notes)
    for path, reason in record.refused:
        if reason in _ONLY_NOTED:
            notes.append(f"{display(path)}: {reason}; left out")
        else:
            refused.append((path, reason))
    return tuple(refused), tuple(notes)
