"""File systems that keep less than Linux' own do: real ones, and calls that answer as they do."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.maker.tools import SEARCH_PATH, environment

_SIZE = 32 << 20
_REFUSED = set(b'"*:<>?|\\')
_PROGRAMS = {
    "exfat": ("mkfs.exfat", "mount.exfat-fuse", "losetup"),
    "ntfs": ("mkfs.ntfs", "ntfs-3g"),
    "ntfs-windows": ("mkfs.ntfs", "ntfs-3g"),
    "vfat": ("mkfs.vfat",),
}
KINDS = tuple(_PROGRAMS)


@contextlib.contextmanager
def mounted(kind: str, folder: Path) -> Iterator[Path]:
    """A new file system of this kind, mounted; skips where this machine can't do that.

    In continuous integration (`CI` is set) root can mount all of them, so that is a failure there.
    FAT is in the kernel: where this one has none, `.ci/filesystems` runs the tests under one that
    has it.
    """
    missing = [name for name in _PROGRAMS[kind] if shutil.which(name, path=SEARCH_PATH) is None]
    if missing and os.environ.get("CI"):
        pytest.fail(f"not installed: {', '.join(missing)}")
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    if kind == "vfat" and "vfat" not in Path("/proc/filesystems").read_text().split():
        pytest.skip("this kernel has no FAT: see .ci/filesystems")
    image, place = folder / "disk", folder / "mounted"
    with image.open("wb") as file:
        file.truncate(_SIZE)
    place.mkdir()
    with contextlib.ExitStack() as stack:
        _MOUNT[kind](image, place, stack)
        stack.callback(subprocess.run, ["umount", str(place)], check=True)
        yield place


def _exfat(image: Path, place: Path, stack: contextlib.ExitStack) -> None:
    _run("mkfs.exfat", image)
    loop = _try("losetup", "-f", "--show", image).strip()
    stack.callback(subprocess.run, ["losetup", "-d", loop], check=True)
    _try("mount.exfat-fuse", loop, place)


def _ntfs(image: Path, place: Path, *options: str) -> None:
    _run("mkfs.ntfs", "-F", "-q", image)
    _try("ntfs-3g", *options, image, place)


def _vfat(image: Path, place: Path, stack: contextlib.ExitStack) -> None:
    _run("mkfs.vfat", image)
    _try("mount", "-t", "vfat", "-o", "loop,utf8,flush,shortname=mixed", image, place)


_MOUNT: dict[str, Callable[[Path, Path, contextlib.ExitStack], None]] = {
    "exfat": _exfat,
    "ntfs": lambda image, place, stack: _ntfs(image, place),
    "ntfs-windows": lambda image, place, stack: _ntfs(image, place, "-o", "windows_names"),
    "vfat": _vfat,
}


def _run(*command: str | Path) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        env=environment(),
    )
    assert not done.returncode, done.stdout
    return done.stdout


def _try(*command: str | Path) -> str:
    try:
        return _run(*command)
    except AssertionError as error:
        if os.environ.get("CI") and os.geteuid() == 0:
            raise
        pytest.skip(f"can't be mounted here: {error}")


_open = os.open  # the real one


def _names_in(folder: int) -> list[str]:
    """The names in an open folder, by a descriptor of its own: others may list it meanwhile."""
    fd = _open(".", os.O_RDONLY, dir_fd=folder)
    try:
        return os.listdir(fd)
    finally:
        os.close(fd)


class Calls:
    """The system's calls as such a file system answers them; all else is real.

    Names are refused with a number that the test chooses, and those that differ in case alone are
    one. Links can't be made, and permissions don't change.
    """

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        *,
        refuse: int = errno.EINVAL,
        links: int = errno.EPERM,
    ) -> None:
        self._refuse, self._links = refuse, links
        for name in ("open", "mkdir", "lstat", "unlink", "rmdir"):
            monkeypatch.setattr(os, name, self._with_name(name, getattr(os, name)))
        for name in ("rename", "replace"):
            monkeypatch.setattr(os, name, self._with_names(getattr(os, name)))
        monkeypatch.setattr(os, "link", self._no_link)
        monkeypatch.setattr(os, "symlink", self._no_link)
        monkeypatch.setattr(os, "fchmod", lambda fd, mode: None)

    def _no_link(self, *arguments: object, **options: object) -> None:
        raise OSError(self._links, os.strerror(self._links))

    def _with_name(self, call: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def made(path: Any, *arguments: Any, dir_fd: int | None = None, **options: Any) -> Any:
            if dir_fd is None:
                return real(path, *arguments, **options)
            is_new = call == "mkdir" or (call == "open" and arguments[0] & os.O_CREAT)
            return real(self._found(path, dir_fd, is_new), *arguments, dir_fd=dir_fd, **options)

        return made

    def _with_names(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def made(old: Any, new: Any, *, src_dir_fd: int, dst_dir_fd: int) -> Any:
            old, new = self._found(old, src_dir_fd, False), self._found(new, dst_dir_fd, True)
            return real(old, new, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)

        return made

    def _found(self, path: str | bytes, folder: int, is_new: bool) -> bytes:
        """The name that is there, if there is one that differs in case alone."""
        name = os.fsencode(path)
        text = name.decode("utf-8", "surrogateescape")
        if is_new and (set(name) & _REFUSED or min(name) < 32 or not text.isprintable()):
            raise OSError(self._refuse, os.strerror(self._refuse), path)
        for other in _names_in(folder):
            if os.fsencode(other) != name and other.casefold() == text.casefold():
                return os.fsencode(other)
        return name
