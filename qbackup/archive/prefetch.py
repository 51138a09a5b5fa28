"""`KeyPrefetch`: derivation of keys before they are asked for, and loading of the lane kernel."""

from __future__ import annotations

import itertools
from collections.abc import Callable

from qbackup.archive.unlock.header import HeaderAuthenticator
from qbackup.base.errors import Damaged, MachineError, Unlockable, Unreadable
from qbackup.crypto.scrypt_format import ScryptParameters
from qbackup.formats.protocol import UnlockedFormat
from qbackup.pipeline.chunk_opener import ChunkOpening
from qbackup.pipeline.pipeline import Pipeline
from qbackup.storage.catalog import Catalog

MANY_CHUNKS = 64  # assumed number on a pipe, where the real one is unknown


class KeyPrefetch:
    """Announcement of coming work to one archive's pipeline.

    Args:
        front: gives the parameters of a key.
        catalog: gives the chunks that come first.
        pipeline: derives keys.
        seekable: the heads of chunks can be read beforehand.
    """

    def __init__(
        self, front: HeaderAuthenticator, catalog: Catalog, pipeline: Pipeline, *, seekable: bool
    ) -> None:
        self._front = front
        self._catalog = catalog
        self._pipeline = pipeline
        self._seekable = seekable
        self._expects_all = False

    def expect_all(self) -> None:
        """Announces that the whole backup is going to be read."""
        self._expects_all = True
        # Each member but the header has a key.
        self.expect(self._catalog.member_count() - 1 if self._seekable else MANY_CHUNKS)

    def expect(self, count: int) -> None:
        """Announces how many keys are going to be asked for."""
        parameters = self._front.untrusted_parameters
        if parameters is not None:
            self._pipeline.expect_keys(parameters, count)

    def begin(self, make_format: Callable[[], UnlockedFormat], most: ScryptParameters) -> None:
        """Has the next keys derived beside the header's key and after that.

        These are the key of qubes.xml, and of one chunk for each job if the whole backup is going
        to be read; no key that costs more than the header's. The header is not verified yet, so
        a key may turn out useless. No chunk is opened before the header is verified.

        Args:
            make_format: gives the format that the unverified header names.
            most: parameters of the header's key.
        """
        if not self._seekable:
            return
        first = self._catalog.metadata_file()
        files = [first] if first is not None else []
        count = len(files)
        if self._expects_all:
            files.extend(itertools.islice(self._catalog.files(), self._pipeline.jobs + count))
            count += self._pipeline.jobs
        seen = {file.path: file.chunks for file in files}
        try:
            format_ = make_format()
            for chunk in itertools.islice(itertools.chain.from_iterable(seen.values()), count):
                key = ChunkOpening(format_, format_.file(), chunk).derivation
                if key is not None and key.parameters.work <= most.work:
                    self._pipeline.expect(key)
        except (Damaged, Unlockable, Unreadable, MachineError):
            return  # the same error is reported when the chunk is read
