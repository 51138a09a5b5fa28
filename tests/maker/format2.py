"""`Format2Maker`: backups as Qubes R2 Beta 3 and its release candidates wrote them."""

from __future__ import annotations

import shutil
import zlib
from collections.abc import Iterator
from pathlib import Path

from tests.maker.collected import PASSPHRASE, Member
from tests.maker.old import HMAC_TEXTS, OldMaker
from tests.maker.tarwriter import inner_tar_command
from tests.maker.tools import run

#: The next volume's name, as in the published procedure: `NAME.000`, `NAME.001` and so on.
NEXT_VOLUME = """#!/bin/sh
printf '%s.%03d\\n' "${TAR_ARCHIVE%.*}" $((TAR_VOLUME - 1)) >"/dev/fd/$TAR_FD"
"""
#: Qubes' own `--tape-length`, in units of 1,024 bytes.
TAPE_LENGTH = 100_000
RELEASE_CANDIDATE = "no version"


class Format2Maker(OldMaker):
    """A file is an archive of several volumes; each is compressed and encrypted on its own.

    `header`: None for none, as in Beta 3; `RELEASE_CANDIDATE` for one without a version; or its
    whole text. `tape_length`: of a volume, in units of 1,024 bytes, at least 10 (tar's record).
    `zlib_around`: Beta 3's `openssl enc -z`, a zlib stream around the encrypted volume; today's
    openssl is built without it, so Python puts it there. `holes_by_reading`: tar takes each block
    of zeros for a hole, as it did at that time, and doesn't ask the file system. Other options as
    in `OldMaker`.
    """

    def __init__(
        self,
        workdir: Path,
        *,
        header: bytes | str | None = None,
        passphrase: str = PASSPHRASE,
        encrypted: bool = True,
        compression_filter: str | None = None,
        zlib_around: bool = False,
        cipher: str = "aes-256-cbc",
        digest: str = "SHA1",
        hmac_text: str | None = HMAC_TEXTS["1.0"],
        dom0: bool = False,
        rewrite_links: bool = True,
        tape_length: int = TAPE_LENGTH,
        holes_by_reading: bool = False,
    ) -> None:
        super().__init__(
            workdir,
            header=header if isinstance(header, bytes) else None,
            passphrase=passphrase,
            encrypted=encrypted,
            compression_filter=compression_filter,
            cipher=cipher,
            digest=digest,
            hmac_text=hmac_text,
            dereference=False,
            dom0=dom0,
            rewrite_links=rewrite_links,
            chunk_size=tape_length << 10,
        )
        self.zlib_around = zlib_around
        self.holes_by_reading = holes_by_reading
        if header == RELEASE_CANDIDATE:
            self.header = "".join(f"{line}\n" for line in self._default_lines()).encode("ascii")
        self._script = workdir / "next-volume"
        self._script.write_text(NEXT_VOLUME)
        self._script.chmod(0o755)

    def volumes(self, source: Path, subdir: str, name: str) -> Iterator[Path]:
        """The archive's volumes, as tar writes them; gone when the next file's are made.

        Names get their prefix by `s:^[^/]:`, which changes every relative target of a symbolic link
        too.
        """
        folder = self.workdir / "volumes"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        command = inner_tar_command(
            source,
            subdir,
            compression_filter=None,
            dereference=False,
            sparse=True,
            name=name,
            pattern="^[^/]",
            rewrite_links=self.rewrite_links,
        )
        first = folder / "volume.000"
        command[command.index("-f") + 1] = str(first)
        options = ["--tape-length", str(self.chunk_size >> 10)]
        options += ["--hole-detection=raw"] if self.holes_by_reading else []
        run([*command[:-1], *options, "--new-volume-script", str(self._script), command[-1]])
        yield from sorted(folder.iterdir(), key=lambda path: int(path.suffix[1:]))

    def store(self, volume: bytes) -> bytes:
        """A volume as its chunk is stored."""
        if self.compression_filter is not None:
            volume = run([self.compression_filter, "-c"], stdin=volume)
        if self.encrypted:
            volume = run(self.encrypt_command(), stdin=volume)
        return zlib.compress(volume) if self.zlib_around else volume

    def _chunks(self, source: Path, subdir: str, name: str) -> Iterator[Member]:
        for index, volume in enumerate(self.volumes(source, subdir, name)):
            stored_name = f"{subdir}{name}.{index:03d}"
            yield from self._pair(stored_name, self.store(volume.read_bytes()))
