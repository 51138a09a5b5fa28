"""The published emergency procedure for format 4, run step by step with the real programs.

It is the independent check: what it gives is what a backup holds. It deviates in two things: tar's
`-p`, and chunks are taken in the order of their numbers, where the page's pattern `???` would stop
at `.999`.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.maker.tools import check, environment, run


def published_procedure(
    backup: Path,
    passphrase: str,
    member_path: str,
    outdir: Path,
    decompressor: str | None = "gzip",
) -> Path:
    """Restores one file (`vm1/private.img`, `qubes.xml`, `dom0-home/user`) below `outdir` and
    returns its path.

    `decompressor` None: the inner archive is not compressed. Raises `RuntimeError` where a program
    fails, and where the header is not the verified one.
    """
    extract_outer(backup, outdir)
    backup_id = verified_backup_id(outdir, passphrase)
    chunks = encrypted_chunks(outdir, member_path)
    for encrypted in chunks:
        name = str(encrypted.relative_to(outdir)).removesuffix(".enc")
        scrypt_decrypt(encrypted, outdir / name, f"{backup_id}!{name}!{passphrase}")
    unpack([chunk.with_suffix("") for chunk in chunks], outdir, decompressor)
    return outdir / member_path


def extract_outer(backup: Path, outdir: Path) -> Path:
    """Step 1: `tar -i -xf`."""
    outdir.mkdir(parents=True, exist_ok=True)
    run(["tar", "-i", "-xf", str(backup), "-C", str(outdir)])
    return outdir


def verified_backup_id(outdir: Path, passphrase: str) -> str:
    """Steps 3 to 5: the header, compared with the one inside `backup-header.hmac`, and its id."""
    verified = outdir / "backup-header.verified"
    scrypt_decrypt(outdir / "backup-header.hmac", verified, f"backup-header!{passphrase}")
    header = verified.read_bytes()
    if header != (outdir / "backup-header").read_bytes():
        raise RuntimeError("backup-header differs from the verified one")
    fields = dict(line.split("=", 1) for line in header.decode("ascii").splitlines())
    return fields.get("backup-id") or fields["backup_id"]


def encrypted_chunks(outdir: Path, member_path: str) -> list[Path]:
    """The chunks of one file of format 4 in the order of their numbers."""
    return chunks_of(outdir, member_path, ".enc")


def chunks_of(outdir: Path, member_path: str, suffix: str) -> list[Path]:
    """The chunks of one file in the order of their numbers; their names end in `suffix`.

    Raises `RuntimeError` if there is none.
    """
    folder, _, file = member_path.rpartition("/")
    found = {
        int(number): path
        for path in (outdir / folder).iterdir()
        for base, _, number in [path.name.removesuffix(suffix).rpartition(".")]
        if path.name.endswith(suffix) and base == file and number.isdigit()
    }
    if not found:
        raise RuntimeError(f"no chunk of {member_path}")
    return [found[number] for number in sorted(found)]


def scrypt_decrypt(encrypted: Path, plain: Path, passphrase: str) -> None:
    """Step 6: `echo PASSPHRASE | scrypt dec -P`."""
    run(["scrypt", "dec", "-P", str(encrypted), str(plain)], stdin=f"{passphrase}\n".encode())


def unpack(chunks: list[Path], outdir: Path, decompressor: str | None) -> None:
    """Step 7: `cat CHUNKS | gzip -d | tar -x`; `-p`, so that modes are kept for a user who is not
    root.
    """
    filters = [[decompressor, "-d"]] if decompressor else []
    run_pipeline([["cat", *map(str, chunks)], *filters, tar_extract(outdir)])


def tar_extract(outdir: Path) -> list[str]:
    """What unpacks the inner archive from standard input."""
    return ["tar", "-x", "-p", "-f", "-", "-C", str(outdir)]


def run_pipeline(commands: Sequence[Sequence[str]]) -> None:
    """Runs programs, each reading what the one before it writes.

    Raises `RuntimeError` when the exit status of one is not 0.
    """
    running: list[subprocess.Popen[bytes]] = []
    for command in commands:
        last = command is commands[-1]
        process = subprocess.Popen(
            command,
            stdin=running[-1].stdout if running else subprocess.DEVNULL,
            stdout=None if last else subprocess.PIPE,
            stderr=subprocess.PIPE if last else None,
            env=environment(),
        )
        if running and running[-1].stdout:
            running[-1].stdout.close()
        running.append(process)
    _, message = running[-1].communicate()
    for command, process in zip(commands, running, strict=True):
        check(command[:1], process.wait(), message)
