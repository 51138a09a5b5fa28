"""`Image`: the files in an image, for callers."""

from __future__ import annotations

import io
from collections.abc import Iterator
from types import TracebackType
from typing import BinaryIO, cast

from qbackup.base.errors import UsageError
from qbackup.base.events import Extent
from qbackup.base.names import decode, display
from qbackup.image.content import FileContent
from qbackup.image.disk import ImagePartition
from qbackup.image.faults import OnError
from qbackup.image.node import Node
from qbackup.image.tree import NO_DAMAGE, ImageTree
from qbackup.image.walk import walk

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os

    from qbackup.image.copying import CopyReport

_BUFFER_SIZE = 1 << 20


class Image:
    """The files in an image. A context manager; one thread at a time.

    Paths begin at the image's root, with or without ``/`` in front. Every method raises, besides
    the errors it names: NotInImage, where there is no such path; Damaged, where the file system
    makes no sense; LimitExceeded; MachineError, where the image can't be read.

    Args:
        tree: the files by path.
        stream: with the bytes of the image, closed with this.
    """

    def __init__(self, tree: ImageTree, stream: BinaryIO) -> None:
        self._tree = tree
        self._stream = stream

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
        """Name of the file system."""
        mounts = self._tree.mounts
        return decode(mounts.system(mounts.root).label)

    @property
    def is_remains(self) -> bool:
        """True for the rest of a damaged image: zeros stand in place of its lost bytes."""
        return self._tree.damage != NO_DAMAGE

    @property
    def knows_losses(self) -> bool:
        """True for the rest of a damaged image whose lost bytes are known, so `is_hit` can tell."""
        return self._tree.damage.lost is not None

    def is_hit(self, node: Node) -> bool:
        """Tells whether lost bytes are in a file, or may be; False certifies the file.

        Bytes count: of the content as far as the file's length, of the tables that lead there, of
        the inode, and of each of the same of the folders above. A folder is hit where names may be
        missing. If the lost bytes of a damaged image are not known, all of its files may be hit.
        """
        return self._tree.is_hit(node)

    @property
    def doubt(self) -> str | None:
        """Reason why `is_hit` can't tell which files of a damaged image are hit; else None."""
        return self._tree.damage.doubt

    @property
    def obstacle(self) -> str | None:
        """Reason why files may be missing without a trace; None without one.

        Examples are partitions that can't be read, and a damaged journal. If a partition was named,
        the choice of the partition is never a reason.
        """
        return "; ".join(self._tree.obstacles) or None

    @property
    def warning(self) -> str | None:
        """Warning of files that may be missing, e.g. if it was not unmounted; else None."""
        return "; ".join(self.warnings) or None

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings of the image itself, then of each partition below it that was entered."""
        return self._tree.mounts.warnings

    @property
    def partitions(self) -> tuple[ImagePartition, ...]:
        """The partitions of a disk; none of an image that is one file system."""
        return self._tree.mounts.partitions

    def notes(self, path: str, *, below: bool = True) -> tuple[str, ...]:
        """Lists mounts of the running system that are not shown at a path, above or below it.

        Nothing of this disk is missing there: e.g. another disk was mounted.

        Args:
            path: of a node.
            below: whether notes on places below the path count.
        """
        return self._tree.mounts.notes(path, below)

    # One path

    def stat(self, path: str, *, follow: bool = True) -> Node:
        """Finds a path. Follows a symbolic link at its end, unless `follow` is False."""
        return self._tree.stat(path, follow=follow)

    def readlink(self, path: str) -> str:
        """Reads the text of a symbolic link. Raises UsageError for anything else."""
        node = self.stat(path, follow=False)
        if node.kind != "symlink":
            raise UsageError(f"this is a {node.kind}, not a symbolic link", file=display(path))
        return self.link_of(node)

    def open(self, path: str) -> BinaryIO:
        """Opens a file as a seekable binary stream, good until the image is closed.

        `read()` of the stream without a size gives no more than `Limits.read_all`.

        Raises:
            UsageError: the path leads to a folder, or to a file without content.
            UnsupportedFormat: the file is encrypted by the file system itself.
        """
        node = self.stat(path)
        if node.kind != "file":
            raise UsageError(f"this is a {node.kind}, not a file", file=display(path))
        system = self._tree.system_of(node)
        content = FileContent(system, node, self._tree.limits.read_all)
        return cast(BinaryIO, io.BufferedReader(content, _BUFFER_SIZE))

    def extents_of(self, node: Node) -> Iterator[Extent]:
        """Reads data and holes of a file in order, from its first byte to its last."""
        return self._tree.extents_of(node)

    def link_of(self, node: Node) -> str:
        """Reads the text of a symbolic link that was found."""
        return self._tree.link_of(node)

    # Many

    def list(self, path: str = "/", *, on_error: OnError | None = None) -> Iterator[Node]:
        """Lists a folder by name. Of a file, gives the file itself.

        More than 20,000 names come in the order in which they are stored, as they are read.

        Args:
            path: of the folder.
            on_error: called with a path and an error, where a name or its inode makes no sense;
                without this function the error is raised.
        """
        node = self.stat(path)
        if node.kind != "folder":
            return iter([node])
        return self._tree.nodes(node, self._tree.names(node, on_error), on_error)

    def walk(self, path: str = "/", *, on_error: OnError | None = None) -> Iterator[Node]:
        """Lists a folder and all below, each folder before its content. Follows no links.

        Args:
            path: to begin with.
            on_error: as in `list`; the walk goes on behind the error.
        """
        return walk(self._tree, self.stat(path), on_error)

    def copy(
        self,
        path: str,
        destination: str | os.PathLike[str],
        *,
        overwrite: bool = False,
        check: bool = True,
    ) -> CopyReport:
        """Copies a file, or a folder with all in it, out of the image.

        Args:
            path: in the image; a symbolic link is followed, in the image.
            destination: a folder that is there, to copy into it; else the name of the copy.
            overwrite: replace a file or folder that is there under that name.
            check: raise Incomplete unless all of it was copied. The rest of a damaged image is
                never known to be complete.

        Raises:
            UsageError: the path can't be copied, e.g. a device, or the root without a new name.
            Incomplete: with `check`; its `report` is the value returned without.
        """
        from qbackup.image.copying import copy

        return copy(self._tree, path, destination, overwrite=overwrite, check=check)
