"""`Format3Maker`: backups as Qubes R2.1 to R3.2 wrote them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from tests.maker.collected import CHUNK_BYTES, PASSPHRASE, Member
from tests.maker.old import HMAC_TEXTS, OldMaker
from tests.maker.stored import split_chunks
from tests.maker.tarwriter import inner_tar, process


class Format3Maker(OldMaker):
    """A file is one archive, compressed, then encrypted, then cut into chunks.

    `chunk_size` is in bytes. `header` replaces the whole header text. `empty_chunk_after`: stored
    names of files that get one more, empty chunk, which the writer of R3.2 adds when tar ends late.
    `named_pipe`: tar wrote onto one, as every writer of this format had it; False is what somebody
    packed again. Other options as in `OldMaker`.
    """

    def __init__(
        self,
        workdir: Path,
        *,
        header: bytes | None = None,
        passphrase: str = PASSPHRASE,
        encrypted: bool = True,
        compression_filter: str | None = "gzip",
        cipher: str = "aes-256-cbc",
        digest: str = "SHA512",
        hmac_text: str | None = HMAC_TEXTS["1.0"],
        dereference: bool = True,
        dom0: bool = True,
        rewrite_links: bool = True,
        chunk_size: int = CHUNK_BYTES,
        empty_chunk_after: Sequence[str] = (),
        named_pipe: bool = True,
    ) -> None:
        super().__init__(
            workdir,
            header=header,
            passphrase=passphrase,
            encrypted=encrypted,
            compression_filter=compression_filter,
            cipher=cipher,
            digest=digest,
            hmac_text=hmac_text,
            dereference=dereference,
            dom0=dom0,
            rewrite_links=rewrite_links,
            chunk_size=chunk_size,
        )
        self.empty_chunk_after = empty_chunk_after
        self.named_pipe = named_pipe
        if header is None:
            self.header = self._default_header()

    def _default_header(self) -> bytes:
        lines = ["version=3", *self._default_lines()]
        if self.compression_filter is not None:
            lines.append(f"compression-filter={self.compression_filter}")
        return "".join(f"{line}\n" for line in lines).encode("ascii")

    def _chunks(self, source: Path, subdir: str, name: str) -> Iterator[Member]:
        index = -1
        with ExitStack() as stack:
            archive = inner_tar(
                source,
                subdir,
                compression_filter=self.compression_filter,
                dereference=self._follows(subdir),
                name=name,
                rewrite_links=self.rewrite_links,
                named_pipe=self.named_pipe,
            )
            stream = stack.enter_context(archive)
            if self.encrypted:
                stream = stack.enter_context(process(self.encrypt_command(), stream))
            for index, chunk in enumerate(split_chunks(stream, self.chunk_size, self.workdir)):
                yield from self._pair(f"{subdir}{name}.{index:03d}", chunk.read_bytes())
        if subdir + name in self.empty_chunk_after:
            yield from self._pair(f"{subdir}{name}.{index + 1:03d}", b"")
