"""`BackupArchive`, the public class through which programs use a backup.

Trust comes in three steps, and each is a different object. Anybody could have written
`untrusted_header`. `header` exists only after `unlock` has compared the header with its
authenticated copy. `qubes` exists only after ``qubes.xml`` was read under that header.
Nothing is derived or read before the caller asks for it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Executor
from typing import BinaryIO

from qbackup.archive.file import BackupFile
from qbackup.archive.firewalls import Firewall, read_firewalls
from qbackup.archive.opened import OpenedBackup
from qbackup.archive.options import OpenOptions
from qbackup.archive.passphrase import Passphrase
from qbackup.archive.qube import Qube
from qbackup.base.limits import Limits
from qbackup.base.names import METADATA_PATH
from qbackup.base.report import OnProgress, Report
from qbackup.formats.header import BackupHeader
from qbackup.restore.sinks import Writer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from qbackup.archive.backends import Backends
    from qbackup.archive.estimate import Cost
    from qbackup.archive.unlock.id_search import IdSearchProgress
    from qbackup.image.image import Image


class BackupArchive:
    """A Qubes OS backup, as a context manager; `close` releases everything.

    `qbackup.open` makes one, and describes its arguments and errors.
    """

    def __init__(
        self,
        source: str | os.PathLike[str] | BinaryIO,
        *,
        passphrase: Passphrase | None = None,
        limits: Limits | None = None,
        jobs: int | None = None,
        memory: int | None = None,
        executor: Executor | None = None,
        executor_jobs: int | None = None,
        compression_filter: str | None = None,
        hmac_algorithm: str | None = None,
        salvage: bool = False,
        also: Sequence[str | os.PathLike[str] | BinaryIO] = (),
        backup_id: str | None = None,
    ) -> None:
        options = OpenOptions(
            limits=limits or Limits(),
            jobs=jobs,
            memory=memory,
            executor=executor,
            executor_jobs=executor_jobs,
            compression_filter=compression_filter,
            hmac_algorithm=hmac_algorithm,
            salvage=salvage,
            also=tuple(also),
            backup_id=backup_id,
        )
        self._opened = OpenedBackup(source, options, passphrase)

    def __enter__(self) -> BackupArchive:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes everything opened and abandons work under way. Never raises."""
        self._opened.close()

    @property
    def untrusted_header(self) -> BackupHeader:
        """The header as anybody could have written it.

        Raises HeaderAltered where it can't be understood. Only its HMAC could show damage.
        """
        return self._opened.front.untrusted_header

    @property
    def header(self) -> BackupHeader:
        """The authenticated header. Raises UsageError while the archive is locked."""
        return self._opened.header

    @property
    def salvaged(self) -> tuple[str, ...]:
        """Faults that salvage passed over until now, in words; empty without salvage."""
        return self._opened.salvaged

    @property
    def warnings(self) -> list[str]:
        """Harmless faults that were passed over until now, in words."""
        return self._opened.warnings.texts

    @property
    def is_unlocked(self) -> bool:
        """True if the passphrase was given and fits."""
        return self._opened.is_unlocked

    @property
    def is_seekable(self) -> bool:
        """True if files can be read in any order."""
        return self._opened.source.seekable

    def unlock(self, passphrase: Passphrase, *, ahead: bool = False) -> None:
        """Authenticates the header with the passphrase; may be called again after a failure.

        Args:
            passphrase: str, bytes, or a callable that is called once.
            ahead: derive the key of ``qubes.xml`` at the same time, for a caller that asks for the
                qubes next. The key is not used before the header is verified.

        Raises:
            UsageError: the passphrase is no str or bytes, or can't be written in UTF-8.
            WrongPassphrase: the passphrase does not fit.
            HeaderAltered: the passphrase fits, but the header was changed after it was written.
            LimitExceeded: the derivation would cost more than allowed; none was started.
            UnsupportedFormat: the authenticated header names something that can't be read.
        """
        self._opened.unlock(passphrase, ahead=ahead)

    def find_backup_id(
        self,
        passphrase: Passphrase,
        window: str = "",
        *,
        progress: Callable[[IdSearchProgress], None] = lambda state: None,
    ) -> str | None:
        """Searches for the id after `unlock` has raised BackupIdUnknown; `unlock` then uses it.

        Gives None if no id of the window, ``SECONDS[,PID-PID][,TIME]``, fits. `progress` is called
        after each try. Raises UsageError if the window makes no sense. See docs/library.md.
        """
        return self._opened.find_backup_id(passphrase, window, progress)

    def expect_all(self) -> None:
        """Announces that everything is going to be read; called before or after `unlock`.

        A library that derives keys faster is loaded meanwhile, if it is installed and the work
        is large enough to pay for loading it.
        """
        self._opened.prefetch.expect_all()

    def expect_list(self) -> None:
        """Announces that the list of qubes is going to be read; like `expect_all`."""
        self._opened.prefetch.expect(2)

    @property
    def metadata(self) -> bytes:
        """``qubes.xml``, verified. Raises Damaged where it is missing or can't be believed."""
        return self._opened.qubes.metadata

    @property
    def qubes(self) -> tuple[Qube, ...]:
        """The qubes in the backup according to ``qubes.xml``.

        With salvage and without a usable ``qubes.xml``, each folder of the archive is a qube. In
        R2, ``qubes.xml`` does not mark dom0, so dom0 is listed if its home is found.

        Raises:
            Damaged: ``qubes.xml`` is missing, or can't be believed.
        """
        return self._opened.qubes.qubes

    @property
    def known_qubes(self) -> tuple[Qube, ...]:
        """`qubes`, then the other qubes in ``qubes.xml``; raises as that does."""
        return self._opened.qubes.known_qubes

    def firewalls(self, qubes: Collection[str] | None = None) -> dict[str, Firewall]:
        """Reads the firewall rules of each qube that has a ``firewall.xml``.

        Several files are read side by side, but each costs the derivation of a key. From a pipe,
        the whole backup passes. A damaged file costs its own rules only: the error stands in
        their place.

        Args:
            qubes: names of the qubes whose rules are wanted; None: all.

        Raises:
            MachineError: this machine can't go on.
        """
        return read_firewalls(self._opened, qubes)

    @property
    def files(self) -> tuple[BackupFile, ...]:
        """The files of all qubes; on a pipe, the files read so far."""
        return tuple(map(BackupFile, self._opened.qubes.files))

    def file(self, name: str) -> BackupFile:
        """Gives the file called ``QUBE/FILE``, or with this path in the archive.

        Raises:
            NotInBackup: there is no such file.
            AlreadyPassed: the file has already passed on the pipe.
        """
        return BackupFile(self._opened.qubes.file(name))

    def open(self, name: str) -> BinaryIO:
        """Opens the content of ``QUBE/FILE`` as a binary stream, see `BackupFile.open`."""
        return self.file(name).open()

    def browse(
        self,
        name: str,
        *,
        partition: int | None = None,
        spool: str | os.PathLike[str] | None = None,
        progress: OnProgress | None = None,
    ) -> Image:
        """Opens the image ``QUBE/FILE`` to browse its files.

        The image is read to its end and verified first.

        Args:
            name: ``QUBE/FILE``, or its path in the archive.
            partition: its number; default: the image itself, or its largest partition with ext4.
            spool: folder where the image's data is kept meanwhile, encrypted; default: the
                system's folder for temporary files. Small data stays in memory.
            progress: called after every chunk.

        Raises:
            NotInBackup: there is no such image.
            Damaged: the image is not whole, or its file system makes no sense.
            UnsupportedFormat: there is no ext4 in it.
            MachineError: there is no room for it.
        """
        from qbackup.archive.browse import browse

        return browse(self._opened, name, partition=partition, spool=spool, progress=progress)

    # Restoring and verifying

    def restore(
        self,
        output: str | os.PathLike[str] | Writer,
        names: Sequence[str] = (),
        *,
        overwrite: bool = False,
        keep_damaged: bool = False,
        unverified: bool = False,
        progress: OnProgress | None = None,
        check: bool = True,
    ) -> Report:
        """Writes ``output/QUBE/FILE`` for each file asked for, and ``output/qubes.xml``.

        Files that an earlier run restored from this very backup are read again, and kept if they
        are still the same. All other files in the folder are left alone, or replaced on demand.

        Args:
            output: the folder, made if it does not exist; or a `Writer`, which gets all that is
                restored. `overwrite` and `keep_damaged` are for folders.
            names: ``QUBE`` or ``QUBE/FILE``; none means all.
            overwrite: replace files that exist already and differ.
            keep_damaged: leave the verified bytes of a damaged file as ``NAME.damaged``;
                the report says which of its bytes are good.
            unverified: with `keep_damaged`, in format 4, not from a pipe: leave what nothing proves
                of it as ``NAME.unverified``. Whoever held the disk may have chosen these bytes.
            progress: called after every chunk.
            check: raise Incomplete unless every file is there and whole.

        Raises:
            UsageError: the output is no path and no Writer, or an argument does not go with it.
            NotInBackup: a name is not in the backup; nothing was written.
            AlreadyPassed: a file asked for has already passed on the pipe; nothing was written.
            MachineError: this machine failed; its `report` says what was done.
            Incomplete: with `check`, the report is not ok.
        """
        job = self._opened.restore_job(names, progress=progress, check=check)
        return job.restore(
            output, overwrite=overwrite, keep_damaged=keep_damaged, unverified=unverified
        )

    def verify(
        self,
        names: Sequence[str] = (),
        *,
        progress: OnProgress | None = None,
        check: bool = True,
    ) -> Report:
        """Does everything that `restore` does but the writing; arguments and errors are alike."""
        return self._opened.restore_job(names, progress=progress, check=check).verify()

    # Facts about the archive as a whole, for programs that show or estimate

    @property
    def errors(self) -> tuple[str, ...]:
        """Faults of the archive as a whole, in words: `salvaged`, and where the archive breaks off.

        Only the bytes read so far count. After `read_to_end`, or on a seekable archive after any
        access to its files, that is the whole archive; no chunk is decrypted for this.
        """
        return self._opened.errors

    @property
    def caveats(self) -> tuple[str, ...]:
        """Promises that the format of this backup can't keep, in sentences; none for format 4."""
        return tuple(self._opened.format.caveats)

    @property
    def backends(self) -> Backends:
        """The libraries of this machine that derive keys, decrypt and decompress.

        Raises MachineError where there is no scrypt on this machine.
        """
        from qbackup.archive.backends import Backends

        return Backends.of(self._opened.deriver, self._opened.pipeline)

    def estimate(self) -> Cost:
        """Estimates the cost of a full restore on this machine; no passphrase needed.

        Reads the first bytes of every chunk, all of a pipe, and times one small derivation.
        """
        from qbackup.archive.estimate import estimate

        return estimate(self._opened)

    def iter_files(self) -> Iterator[BackupFile]:
        """Yields the files of all qubes in the archive's order; on a pipe, each as it comes, once.

        Raises UsageError where the archive is locked.
        """
        self._opened.unlocked()
        readers = self._opened.files.coming()
        return (BackupFile(reader) for reader in readers if reader.path != METADATA_PATH)

    def holds_folder(self, file: BackupFile) -> bool:
        """Tells if a file is a folder archive; reads its beginning where the name is no proof.

        On a pipe the name alone decides, as a file can't be read twice there.
        """
        return file.is_folder or self._opened.files.holds_folder(file.path)

    def read_to_end(self) -> None:
        """Reads through the rest of the archive, so that `files` and `errors` are complete.

        On a pipe, the files that pass here can't be read any more.
        """
        self._opened.catalog.drain()
