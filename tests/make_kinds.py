"""Fronts of files that people take for a backup: `python -m tests.make_kinds`, with the real tools.

Each is kept as its first `HEAD_SIZE` bytes, xz-compressed, in `tests/vectors/kinds`.
"""

from __future__ import annotations

import lzma
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

FOLDER = Path(__file__).parent / "vectors" / "kinds"
HEAD_SIZE = 68 << 10
_KEY = "Key-Type: EDDSA\nKey-Curve: ed25519\nSubkey-Type: ECDH\nSubkey-Curve: cv25519\n"
_PAGE = b"\n<!DOCTYPE html>\n<html><head><title>Log in</title></head><body></body></html>\n"
_TEXT = b"This stands for a backup.\n" * 1000


def _run(folder: Path, *command: str, stdin: bytes = b"") -> bytes:
    done = subprocess.run(command, cwd=folder, input=stdin, capture_output=True, check=True)
    return done.stdout


def _image(*command: str, size: str) -> Callable[[Path], bytes]:
    def make(folder: Path) -> bytes:
        _run(folder, "truncate", "-s", size, "out")
        _run(folder, *command, "out")
        with (folder / "out").open("rb") as file:
            return file.read(HEAD_SIZE)

    return make


def _filtered(*command: str) -> Callable[[Path], bytes]:
    return lambda folder: _run(folder, *command, stdin=_TEXT)


def _disk(label: str) -> Callable[[Path], bytes]:
    def make(folder: Path) -> bytes:
        _run(folder, "truncate", "-s", "8M", "out")
        _run(folder, "sfdisk", "-q", "out", stdin=f"label: {label}\nstart=2048\n".encode())
        return (folder / "out").read_bytes()

    return make


def _gpg(*options: str) -> Callable[[Path], bytes]:
    def make(folder: Path) -> bytes:
        gpg = ("gpg", "--homedir", str(folder), "--batch", "--no-options", "--quiet")
        key = f"{_KEY}Name-Real: Somebody\nExpire-Date: 0\n%no-protection\n%commit\n"
        _run(folder, *gpg, "--gen-key", stdin=key.encode())
        secret = ("--pinentry-mode", "loopback", "--passphrase", "x")
        return _run(folder, *gpg, *secret, "--trust-model", "always", *options, stdin=_TEXT)

    return make


def _packed(*command: str) -> Callable[[Path], bytes]:
    def make(folder: Path) -> bytes:
        (folder / "backup").write_bytes(_TEXT)
        _run(folder, *command, "backup")
        return (folder / command[-1]).read_bytes()

    return make


def _luks(folder: Path) -> bytes:
    quick = ("--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000")
    _run(folder, "truncate", "-s", "20M", "out")
    _run(folder, "cryptsetup", "luksFormat", "-q", *quick, "out", "-", stdin=b"x")
    return (folder / "out").read_bytes()[:4096]  # what follows is random


def _encrypted(folder: Path) -> bytes:
    return _run(folder, "openssl", "enc", "-aes-256-cbc", "-pbkdf2", "-pass", "pass:x", stdin=b"x")


def _qcow2(folder: Path) -> bytes:
    _run(folder, "qemu-img", "create", "-q", "-f", "qcow2", "out", "4M")
    return (folder / "out").read_bytes()


RECIPES: dict[str, Callable[[Path], bytes]] = {
    "ext4": _image("mkfs.ext4", "-q", "-F", size="4M"),
    "ext2-small-blocks": _image("mkfs.ext2", "-q", "-F", "-b", "1024", size="1M"),
    "btrfs": _image("mkfs.btrfs", "-q", size="120M"),
    "xfs": _image("mkfs.xfs", "-q", size="320M"),
    "ntfs": _image("mkfs.ntfs", "-q", "-F", "-f", size="8M"),
    "fat": _image("mkfs.vfat", "-F", "16", size="32M"),
    "fat32": _image("mkfs.vfat", "-F", "32", size="64M"),
    "gpt": _disk("gpt"),
    "mbr": _disk("dos"),
    "iso9660": lambda folder: _run(folder, "genisoimage", "-quiet", "."),
    "luks": _luks,
    "gzip": _filtered("gzip"),
    "bzip2": _filtered("bzip2"),
    "xz": _filtered("xz"),
    "zstd": _filtered("zstd"),
    "lz4": _filtered("lz4"),
    "zip": _packed("zip", "-q", "out.zip"),
    "7z": _packed("7z", "a", "out.7z"),
    "qcow2": _qcow2,
    "gpg-symmetric": _gpg("--symmetric"),
    "gpg-to-a-key": _gpg("--encrypt", "--recipient", "Somebody"),
    "gpg-armored": _gpg("--symmetric", "--armor"),
    "openssl": _encrypted,
    "html": lambda folder: _PAGE,
}


def main() -> None:
    """Makes all of them."""
    FOLDER.mkdir(exist_ok=True)
    for name, make in RECIPES.items():
        with tempfile.TemporaryDirectory() as scratch:
            head = make(Path(scratch))[:HEAD_SIZE]
        (FOLDER / f"{name}.xz").write_bytes(lzma.compress(head, preset=9))


if __name__ == "__main__":
    main()
