"""The published emergency procedures for formats 3 and 2, run step by step with the real programs.

They deviate where openssl and tar have changed since: `-md MD5`, which was the default then; the
HMAC is compared by its digits, as openssl spells the rest in other ways today; and as in the
procedure for format 4, tar's `-p` and the order of the chunks' numbers. Beta 3's zlib around the
encrypted chunk is taken off by Python, as today's openssl is built without `-z`. Zeros that tar put
behind the stream are cut off for programs that refuse them: the published page is no help there.
"""

from __future__ import annotations

import contextlib
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path

from tests.maker.format2 import NEXT_VOLUME
from tests.maker.procedure import chunks_of, extract_outer, run_pipeline, tar_extract
from tests.maker.tools import run

HEADER = "backup-header"
#: Programs that call zeros behind a stream damage, and give status 1; bzip2 reads no further, so
#: that the program in front of it can't write the rest.
REFUSING_ZEROS = ("bzip2", "pbzip2", "lzma", "zstd", "zstdmt")
_OWN_ZEROS = 8  # more than a stream ends with


def published_procedure_3(
    backup: Path,
    passphrase: str,
    member_path: str,
    outdir: Path,
    decompressor: str | None = "gzip",
    *,
    digest: str = "SHA512",
    cipher: str | None = "aes-256-cbc",
) -> Path:
    """Restores one file (`vm1/private.img`, `vm9/.`, `dom0-home/user`) below `outdir` and returns
    its path. The inner archive is unpacked in a folder of its own, beside the chunks.

    `decompressor` None: the inner archive is not compressed; `cipher` None: nothing is encrypted.
    Raises `RuntimeError` where a program fails, and where an HMAC differs.
    """
    extract_outer(backup, outdir)
    verify_hmac(outdir / HEADER, passphrase, digest)
    chunks = chunks_of(outdir, member_path, "")
    for chunk in chunks:
        verify_hmac(chunk, passphrase, digest)
    filters = [decrypt_command(passphrase, cipher)] if cipher else []
    unpacked = _folder(outdir, "unpacked")
    if decompressor in REFUSING_ZEROS:
        packed = run(["cat", *map(str, chunks)])
        for command in filters:
            packed = run(command, stdin=packed)
        run(tar_extract(unpacked), stdin=_without_zeros(decompressor, packed))
        return unpacked / member_path
    filters += [[decompressor, "-d"]] if decompressor else []
    run_pipeline([["cat", *map(str, chunks)], *filters, tar_extract(unpacked)])
    return unpacked / member_path


def _without_zeros(decompressor: str, packed: bytes) -> bytes:
    """A stream unpacked without tar's zeros behind it; a few may be the stream's own."""
    stream = packed.rstrip(b"\0")
    for count in range(_OWN_ZEROS):
        with contextlib.suppress(RuntimeError):
            return run([decompressor, "-d"], stdin=stream + bytes(count))
    raise RuntimeError(f"{decompressor}: no stream")


def published_procedure_2(
    backup: Path,
    passphrase: str,
    member_path: str,
    outdir: Path,
    decompressor: str | None = None,
    *,
    digest: str = "SHA1",
    cipher: str | None = "aes-256-cbc",
    zlib_around: bool = False,
) -> Path:
    """As `published_procedure_3`; each chunk is decrypted and unpacked on its own, then all are
    given to tar as the volumes of one archive. There may be a header or none.
    """
    extract_outer(backup, outdir)
    if (outdir / HEADER).exists():
        verify_hmac(outdir / HEADER, passphrase, digest)
    chunks = chunks_of(outdir, member_path, "")
    steps: list[Callable[[bytes], bytes]] = [zlib.decompress] if zlib_around else []
    steps += [_filter(decrypt_command(passphrase, cipher))] if cipher else []
    steps += [_filter([decompressor, "-d"])] if decompressor else []
    shutil.rmtree(outdir / "volumes", ignore_errors=True)
    volumes = _folder(outdir, "volumes")
    for index, chunk in enumerate(chunks):
        verify_hmac(chunk, passphrase, digest)
        volume = chunk.read_bytes()
        for step in steps:
            volume = step(volume)
        (volumes / f"volume.{index:03d}").write_bytes(volume)
    unpacked = _folder(outdir, "unpacked")
    unpack_volumes(volumes, unpacked)
    return unpacked / member_path


def verify_hmac(file: Path, passphrase: str, digest: str) -> None:
    """`openssl dgst -DIGEST -hmac PASSPHRASE FILE`, compared with what `FILE.hmac` says.

    Raises `RuntimeError` if they differ.
    """
    said = file.with_name(f"{file.name}.hmac").read_text()
    found = run(["openssl", "dgst", f"-{digest}", "-hmac", passphrase, str(file)]).decode()
    if _digits(said) != _digits(found):
        raise RuntimeError(f"{file.name}: the HMAC differs")


def decrypt_command(passphrase: str, cipher: str) -> list[str]:
    """`openssl enc -d`, from standard input to standard output."""
    return ["openssl", "enc", "-d", f"-{cipher}", "-md", "MD5", "-pass", f"pass:{passphrase}"]


def unpack_volumes(volumes: Path, outdir: Path) -> None:
    """`tar --new-volume-script` over `volume.000` and those behind it."""
    script = volumes.parent / "new-volume-script"
    script.write_text(NEXT_VOLUME)
    script.chmod(0o755)
    first = str(volumes / "volume.000")
    command = ["tar", "-x", "-p", "-M", "-f", first, "-C", str(outdir)]
    run([*command, "--new-volume-script", str(script)])


def _folder(outdir: Path, name: str) -> Path:
    folder = outdir / name
    folder.mkdir(exist_ok=True)
    return folder


def _filter(command: list[str]) -> Callable[[bytes], bytes]:
    return lambda data: run(command, stdin=data)


def _digits(text: str) -> str:
    return text.partition("= ")[2].strip()
