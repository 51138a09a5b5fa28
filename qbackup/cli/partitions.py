"""The partitions of a disk image, for people and for programs."""

from __future__ import annotations

from qbackup.base.names import display
from qbackup.cli import output
from qbackup.cli.documents import Document, named
from qbackup.cli.progress import human_size
from qbackup.image.disk import ImagePartition
from qbackup.image.image import Image
from qbackup.image.kinds import READABLE_KINDS

_SHOWN = 20


def print_partitions(image: Image) -> None:
    """Prints a line for each partition on standard error, where there are several."""
    partitions = image.partitions
    if len(partitions) < 2:
        return
    for partition in partitions[:_SHOWN]:
        output.print_message(_line(partition))
    if len(partitions) > _SHOWN:
        output.print_message(f"and {len(partitions) - _SHOWN} more partitions (--json names all)")


def _line(partition: ImagePartition) -> str:
    """``partition 3: ext4 "root", 20.0 GiB, at /``."""
    label = display(partition.label or partition.name)
    content = f'{partition.description} "{label}"' if label else partition.description
    text = f"partition {partition.number}: {content}, {human_size(partition.size)}"
    if partition.mounted_at is not None:
        text += f", at {display(partition.mounted_at)}"
    if partition.error is not None:
        reason = "can't be read here"
        is_damaged = partition.kind in READABLE_KINDS
        return f"{text}, {reason}: {partition.error}" if is_damaged else f"{text}, {reason}"
    if partition.kind in READABLE_KINDS and partition.mounted_at is None:
        text += f", not shown (--partition {partition.number} shows it)"
    return text


def partition_documents(image: Image) -> list[Document]:
    """The list ``"partitions"`` of `ls --json` and `cp --json`."""
    return [_document(partition) for partition in image.partitions]


def _document(partition: ImagePartition) -> Document:
    place = partition.mounted_at
    document: Document = {
        "number": partition.number,
        "start": partition.start,
        "size": partition.size,
        "kind": partition.kind,
        **named("label", partition.label),
        **named("name", partition.name),
        "uuid": named("uuid", partition.uuid)["uuid"],
        **({"mounted_at": None} if place is None else named("mounted_at", place)),
    }
    return document if partition.error is None else {**document, "error": partition.error}
