"""`Image`: what an image holds, by path.

Symbolic links are followed inside the image only: one that begins with ``/`` starts at the
image's root, ``..`` stops there. A folder is gone through once in a walk, so no folder that
contains itself can make it endless. Where the system on a disk mounts a partition, the files of
that partition are found, and those below it are hidden, as they were on the running system.
"""

from __future__ import annotations

import dataclasses
import io
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import BinaryIO, TypeAlias, cast

from qbackup.base.errors import (
    Damaged,
    LimitExceeded,
    NotInImage,
    PartitionUnreadable,
    QBackupError,
    Unreadable,
    UsageError,
)
from qbackup.base.events import Extent
from qbackup.base.limits import Limits
from qbackup.base.names import decode, display, encode, unsafe_reason
from qbackup.image.choosing import Choice
from qbackup.image.disk import ImagePartition, Volume
from qbackup.image.ext4.content import FileContent, extents
from qbackup.image.ext4.filesystem import Ext4
from qbackup.image.ext4.inode import ROOT, Inode, Kind
from qbackup.image.mounted import Mounted
from qbackup.image.mounts import Mount

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os

    from qbackup.image.copying import CopyReport

_Names: TypeAlias = list[tuple[bytes, int]]
OnError: TypeAlias = Callable[[str, QBackupError], None]

_LINKS_LIMIT = 40  # as the kernel
_BUFFER_SIZE = 1 << 20
_SEARCH_LIMIT = 512 << 20  # bytes of folders for one path; no single one may be larger
_CACHED_NAMES = 20_000  # about 4 MiB
REMAINS = (
    "this is what was left of a damaged image: what is lost of it reads as zeros, and nothing shows"
    " which files that hits; `restore` has told which bytes they are"
)
#: What is wrong with one file of an image, and not with the image or this machine.
OWN_FAULT = (Damaged, Unreadable)


@dataclass(frozen=True, slots=True)
class Node:
    """A file, folder or link in an image.

    Args:
        path: from the image's root, ``/`` itself.
        stat: all that is known of it.
        partition: number of the partition that it is in, and that its number of inode belongs to;
            0 in an image without partitions.
    """

    path: str
    stat: Inode
    partition: int = 0

    @property
    def name(self) -> str:
        """The last component of the path; "" of the root."""
        return self.path.rpartition("/")[2]

    @property
    def kind(self) -> Kind:
        """What it is."""
        return self.stat.kind

    @property
    def size(self) -> int:
        """Length in bytes, holes included."""
        return self.stat.size


class Image:
    """The files in an image. A context manager; one thread at a time.

    Paths begin at the image's root, with or without ``/`` in front. Every method raises, besides
    what it says: NotInImage, where there is no such path; Damaged, where the file system makes no
    sense; LimitExceeded; MachineError, where the image can't be read.

    Args:
        system: the file system.
        stream: what it is read from, closed with this.
        is_remains: it is what was left of a damaged image, with zeros for what is lost. Nothing
            shows which files that hits.
        disk: its partitions, and which of them has the file system.
        search_limit: bytes of folders that are read to find one path; None for 512 MiB.

    Attributes:
        obstacle: what of the disk can't be shown, though it may be what is looked for; None where
            that is nothing, and where a partition was named.
    """

    def __init__(
        self,
        system: Ext4,
        stream: BinaryIO,
        *,
        is_remains: bool = False,
        disk: tuple[Sequence[Volume], Choice] | None = None,
        search_limit: int | None = None,
    ) -> None:
        self.system = system
        self.is_remains = is_remains
        self._stream = stream
        self.obstacle = disk[1].obstacle if disk else None
        volumes, chosen = (disk[0], disk[1].volume) if disk else ((), None)
        self._mounted = Mounted(system, volumes, chosen)
        self._bound: dict[str, Node] = {}  # the folders that are shown at these places, too
        self._folders: OrderedDict[tuple[int, int], dict[bytes, int]] = OrderedDict()
        self._search_limit = search_limit
        self._searched = 0  # bytes of folders that were read for the path under way

    def __enter__(self) -> Image:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the stream."""
        self._stream.close()

    @property
    def label(self) -> str:
        """The file system's name."""
        return decode(self.system.superblock.label)

    @property
    def warning(self) -> str | None:
        """What may be missing, in words: of a file system that was not unmounted; else None."""
        return "; ".join(self.warnings) or None

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings of the image itself, then of each partition below it that was entered."""
        return self._mounted.warnings

    # Several file systems

    @property
    def partitions(self) -> tuple[ImagePartition, ...]:
        """The partitions of a disk; none of an image that is one file system."""
        return self._mounted.partitions

    def system_of(self, node: Node) -> Ext4:
        """The file system that a node is in."""
        return self._mounted.system(node.partition)

    def notes(self, path: str, *, below: bool = True) -> tuple[str, ...]:
        """Sentences on what the running system had at a path, above or below it, and this is not.

        Nothing of this disk is missing then: another disk was mounted there, for one.

        Args:
            path: that was found.
            below: whether notes on what is below it count.
        """
        return self._mounted.notes(path, below)

    def mount(self, plan: Callable[[Image], Iterable[Mount]]) -> None:
        """Puts file systems of other partitions into their places.

        Args:
            plan: gives them, those above first; called with this.
        """
        obstacle, self.obstacle = self.obstacle, None  # no answer as long as this is not done
        try:
            mounts = list(plan(self))
            self._searched = 0  # once for all, or many long ways would take long
            late = [mount for mount in mounts if not mount.folder and not self._mount(mount)]
            for mount in mounts:
                if mount.folder:
                    self._bind(mount)
            for mount in late:  # in a folder that was bound
                if not self._mount(mount):
                    self._tell_missing(mount)
        except OWN_FAULT as error:
            text = f"the mounts of /etc/fstab are not shown, or not all of them: {error}"
            obstacle = f"{obstacle}; {text}" if obstacle else text
        self.obstacle = obstacle

    def _mount(self, mount: Mount) -> bool:
        """Mounts something; returns whether its place is there."""
        if self._mounted.is_place(mount.path):  # whatever can be said of what is there until now
            self._mounted.add(mount.path, mount)
            return True
        node = self._place(mount.path)
        if node is None:
            return False
        self._mounted.add(node.path, mount)
        return True

    def _tell_missing(self, mount: Mount) -> None:
        """Adds a note: systems with systemd make a folder then, and others do not mount it."""
        if mount.volume is not None:
            text = f"/etc/fstab mounts {mount.volume.words} here, where there is no folder for it"
            note = dataclasses.replace(mount, volume=None, obstacle="", note=text)
            self._mounted.add(mount.path, note)

    def _place(self, path: str) -> Node | None:
        """The folder at which something can be mounted; None where there is none."""
        try:
            node = self._resolve(path, True)
        except NotInImage:
            return None
        except OWN_FAULT:
            self._check_search()
            return None  # whoever asks for this path meets the same error
        return node if node.kind == "folder" and node.path != "/" else None

    def _bind(self, mount: Mount) -> None:
        """Lets the place of a mount lead to the folder that is bound there."""
        place = self._place(mount.path)
        if place is None or self._mounted.hides(place.path):
            return
        folder = None
        try:
            folder = self._resolve(mount.folder, True)
        except NotInImage:
            pass
        except OWN_FAULT as error:
            self._check_search()
            text = f"this is {display(mount.folder)}, which can't be read: {error.reason}"
            mount = dataclasses.replace(mount, note="", obstacle=text)
        is_shown = folder is not None and not self._mounted.notes(folder.path, below=False)
        self._mounted.add(place.path, mount)
        if folder is not None and is_shown and folder.kind == "folder":
            self._bound[place.path] = folder

    def _check_search(self) -> None:
        if self._searched > (self._search_limit or _SEARCH_LIMIT):
            raise Damaged("links lead through its folders again and again")

    def _node(self, path: str, parent: Node, number: int) -> Node:
        """Finds what is at a path: an inode of the folder's file system, or a mounted root."""
        entered = self._mounted.enter(path)
        if entered is None:
            return self._below(path, parent, number)
        number, system = entered
        inode = system.inode(ROOT)
        if inode.kind != "folder":
            raise Damaged("the file system has no root folder")
        return Node(path, inode, number)

    def _below(self, path: str, parent: Node, number: int) -> Node:
        """Finds the same as `_node`, whatever is mounted there."""
        return Node(path, self.system_of(parent).inode(number), parent.partition)

    # One path

    def stat(self, path: str, *, follow: bool = True) -> Node:
        """What is known of a path; of what it leads to, if it is a symbolic link."""
        self._searched = 0
        with _PathErrors(path):
            try:
                return self._resolve(path, follow)
            except NotInImage as error:
                if self.obstacle is None:
                    raise
                raise PartitionUnreadable(f"{error.reason}; {self.obstacle}") from error

    def readlink(self, path: str) -> str:
        """The text of a symbolic link. Raises UsageError for anything else."""
        node = self.stat(path, follow=False)
        if node.kind != "symlink":
            raise UsageError(f"it is a {node.kind}, not a symbolic link", file=display(path))
        return self.link_of(node)

    def open(self, path: str) -> BinaryIO:
        """The content of a file: a seekable binary stream, good until the image is closed.

        Its `read()` without a size gives no more than `Limits.read_all`.

        Raises:
            UsageError: it is a folder, or what has no content.
            UnsupportedFormat: it is encrypted by the file system itself.
        """
        node = self.stat(path)
        if node.kind != "file":
            raise UsageError(f"it is a {node.kind}, not a file", file=display(path))
        content = FileContent(self.system_of(node), node.stat, _name_adder(node.path))
        return cast(BinaryIO, io.BufferedReader(content, _BUFFER_SIZE))

    def extents_of(self, node: Node) -> Iterator[Extent]:
        """Data and holes of a file in order, from its first byte to its last."""
        with _PathErrors(node.path):
            yield from extents(self.system_of(node), node.stat)

    def link_of(self, node: Node) -> str:
        """The text of a symbolic link that was found."""
        with _PathErrors(node.path):
            return decode(self.system_of(node).link(node.stat))

    # Many

    def list(self, path: str = "/", *, on_error: OnError | None = None) -> Iterator[Node]:
        """What is in a folder, by name; a file itself.

        Args:
            path: of the folder.
            on_error: called with the path and what is wrong with it, where a name or what it stands
                for makes no sense; without it that is raised.
        """
        node = self.stat(path)
        if node.kind != "folder":
            return iter([node])
        return self._nodes(node, self._sorted(node, on_error), on_error)

    def walk(self, path: str = "/", *, on_error: OnError | None = None) -> Iterator[Node]:
        """A folder and all below it, each folder before what is in it. Links are not followed.

        Args:
            path: to begin with.
            on_error: as in `list`; the walk goes on behind it.
        """
        return self.walk_from(self.stat(path), on_error)

    def walk_from(self, node: Node, on_error: OnError | None = None) -> Iterator[Node]:
        """As `walk`, from what was found already."""
        yield node
        if node.kind != "folder":
            return
        seen = {(node.partition, node.stat.number)}
        left = {node.partition: self.system_of(node).superblock.size - node.stat.size}
        limits = self.system.limits
        names = self._sorted(node, on_error)
        way, held = [self._nodes(node, names, on_error)], [len(names)]
        while way:
            child = next(way[-1], None)
            if child is None:
                way.pop()
                held.pop()
                continue
            if child.kind != "folder":
                yield child
                continue
            left.setdefault(child.partition, self.system_of(child).superblock.size)
            left[child.partition] -= 0 if child.stat.is_inline else child.stat.size
            fault = self._fault(child, seen, left) or _too_deep(child, len(way), limits)
            if fault is not None:
                self._tell(child.path, fault, on_error)
                continue
            seen.add((child.partition, child.stat.number))
            yield child
            names = self._sorted(child, on_error, sum(held))
            way.append(self._nodes(child, names, on_error))
            held.append(len(names))

    def copy(
        self,
        path: str,
        destination: str | os.PathLike[str],
        *,
        overwrite: bool = False,
        check: bool = True,
    ) -> CopyReport:
        """Copies a file, or a folder with all in it, out of the image; see `copying.copy`."""
        from qbackup.image.copying import copy

        return copy(self, path, destination, overwrite=overwrite, check=check)

    def _nodes(self, folder: Node, names: _Names, on_error: OnError | None) -> Iterator[Node]:
        above = folder.path.rstrip("/")
        for name, number in names:
            path = f"{above}/{decode(name)}"
            try:
                with _PathErrors(path):
                    _check_name(name)
                    node = self._listed(path, folder, number)
            except OWN_FAULT as error:
                self._tell(path, error, on_error)
                continue
            yield node

    def _listed(self, path: str, folder: Node, number: int) -> Node:
        """Gives what `_node` gives, or the folder below a mounted partition that can't be read."""
        try:
            return self._node(path, folder, number)
        except PartitionUnreadable:
            return self._below(path, folder, number)

    def _fault(
        self, folder: Node, seen: set[tuple[int, int]], left: dict[int, int]
    ) -> QBackupError | None:
        """Finds out why a walk must not go into this folder."""
        try:
            self._mounted.enter(folder.path)
        except PartitionUnreadable as error:
            return error
        if (folder.partition, folder.stat.number) in seen:
            fault = Damaged("the folder has a second name, or contains itself")
        elif left[folder.partition] < 0:
            fault = Damaged("the folders are larger than the file system")
        else:
            return None
        fault.file = display(folder.path)
        return fault

    def _sorted(self, folder: Node, on_error: OnError | None, held: int = 0) -> _Names:
        """Names and numbers; of a damaged folder those that can be read.

        Args:
            folder: that they are in.
            on_error: see `list`.
            held: how many names of the folders above are in memory.
        """
        found: _Names = []
        limit = self.system.limits.tree_entries
        try:
            with _PathErrors(folder.path):
                for entry in self.system_of(folder).names(folder.stat):
                    found.append((entry.name, entry.number))
                    if len(found) + held > limit:
                        above = ", with those that it is in" if held else ""
                        raise LimitExceeded(
                            f"the folder has more than {limit} entries{above}",
                            limit="tree_entries",
                        )
        except OWN_FAULT as error:
            self._tell(folder.path, error, on_error)
        return sorted(found)

    def _tell(self, path: str, error: QBackupError, on_error: OnError | None) -> None:
        if on_error is None:
            raise error
        on_error(path, error)

    # From a path to its inode

    def _resolve(self, path: str, follow: bool) -> Node:
        todo = deque(path.split("/"))
        way = [Node("/", self.system.inode(ROOT), self._mounted.root)]
        links = 0
        while todo:
            part = todo.popleft()
            if part in ("", "."):
                continue
            if part == "..":
                way = way[:-1] or way
                continue
            node = self._child(way[-1], part)
            node = self._bound.get(node.path, node)
            if node.kind != "symlink" or not (follow or any(todo)):
                way.append(node)
                continue
            links += 1
            if links > _LINKS_LIMIT:
                raise Damaged("too many symbolic links lead on to each other")
            text = self.link_of(node)
            way = way[:1] if text.startswith("/") else way
            todo.extendleft(reversed(text.split("/")))
        if way[0].kind != "folder":
            raise Damaged("the file system has no root folder")
        return way[-1]

    def _child(self, folder: Node, name: str) -> Node:
        if folder.kind != "folder":
            raise NotInImage(f"{display(folder.path)} is a {folder.kind}, not a folder")
        number = self._names(folder).get(encode(name))
        if number is None:
            raise NotInImage(f"there is no {display(name)} in {display(folder.path)}")
        return self._node(f"{folder.path.rstrip('/')}/{name}", folder, number)

    def _names(self, folder: Node) -> dict[bytes, int]:
        """The names of a folder; those of the last ones stay in memory. The first of two counts."""
        number = (folder.partition, folder.stat.number)
        names = self._folders.pop(number, None)
        if names is None:
            self._searched += folder.stat.size
            self._check_search()
            names = {}
            for name, child in self._sorted(folder, None):
                names.setdefault(name, child)
        self._folders[number] = names
        while len(self._folders) > 1 and sum(map(len, self._folders.values())) > _CACHED_NAMES:
            self._folders.popitem(last=False)
        return names


def _check_name(name: bytes) -> None:
    """A name that no folder can have comes from a damaged file system, or from an enemy."""
    reason = unsafe_reason(decode(name), any_byte=True)
    if b"/" in name:
        reason = "a name with a slash in it"
    if reason:
        raise Damaged(reason)


def _too_deep(folder: Node, depth: int, limits: Limits) -> QBackupError | None:
    """Finds a fault as `_fault` does. A long path costs memory for each name in the folder."""
    if depth > limits.depth:
        fault = LimitExceeded("it is in too many folders", limit="depth")
    elif len(encode(folder.path)) > limits.name:
        fault = LimitExceeded(f"its path is longer than {limits.name} bytes", limit="name")
    else:
        return None
    fault.file = display(folder.path)
    return fault


class _PathErrors:
    """Puts a path into errors that pass."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, QBackupError):
            _name_adder(self._path)(error)


def _name_adder(path: str) -> Callable[[QBackupError], None]:
    def add(error: QBackupError) -> None:
        if error.file is None:
            error.file = display(path)

    return add
