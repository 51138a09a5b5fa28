"""Lists of the good and the lost bytes of a damaged image, in files beside its kept part."""

from __future__ import annotations

from dataclasses import replace

from qbackup.base.names import display
from qbackup.base.report import FileResult
from qbackup.restore.damage_map import DamageMap
from qbackup.restore.output.side_names import MAP_SUFFIX, RANGES_SUFFIX
from qbackup.restore.sinks import CannotWrite, Writer


def with_ranges(result: FileResult, damage: DamageMap, writer: Writer) -> FileResult:
    """Writes the files beside the kept part; gives the result with the name of the first one.

    Args:
        result: of the damaged image, whose part was kept.
        damage: its ranges.
        writer: has kept the part.
    """
    notes: list[str] = []
    names: list[str | None] = []
    for suffix, content in ((RANGES_SUFFIX, damage.to_json()), (MAP_SUFFIX, damage.to_map())):
        name = f"{result.kept_as}{suffix}"
        try:
            written = _write(result, name, content, writer)
        except CannotWrite as error:
            notes.append(f"the list of its good and lost bytes can't be kept: {error}")
            continue
        if written is not None and written != name:
            notes.append(
                f"the name {display(name)} is taken, or too long here; what would be in it is in"
                f" {display(written)}, where ls, cp and cat do not look for it"
            )
        names.append(written)
    ranges_as = names[0] if names else None
    return replace(result, notes=(*result.notes, *notes), ranges_as=ranges_as)


def _write(result: FileResult, name: str, content: bytes, writer: Writer) -> str | None:
    above, slash, _ = result.name.rpartition("/")
    with writer.beside(result.qube, f"{above}{slash}{name}") as file:
        file.write(0, memoryview(content))
        return file.keep(len(content))
