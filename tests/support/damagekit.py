"""A backup that is damaged in many ways, and what must be said and be there after each of them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from qbackup import Report
from qbackup.base.names import parse_chunk_name
from tests.maker import Member, outer_member
from tests.maker.collected import Collector
from tests.support.restored import Snapshot, content, errors, of_tree, snapshot, statuses

KIB = 1024
CHUNK = 8 * KIB
Members = list[Member]


def noise(size: int) -> bytes:
    return random.Random(size).randbytes(size)


FILES = {
    # the last chunk has some of it too, in front of the end
    ("work", "private.img"): noise(48 * KIB),
    ("work", "firewall.xml"): b"<firewall/>",
    ("vault", "private.img"): noise(20 * KIB),
    ("vault", "notes.txt"): b"Nothing to see here.\n",
}


@dataclass
class Kit:
    """Members of a whole backup, what a restore of it gives, and a quick way to assemble them."""

    maker: Collector
    home: Path
    piped: bool = False
    stored: dict[Path, bytes] = field(default_factory=dict)

    @property
    def members(self) -> Members:
        return self.maker.members()

    def whole(self) -> Snapshot:
        """All that a restore of the undamaged backup leaves."""
        found = {f"{qube}/{name}": content(data) for (qube, name), data in FILES.items()}
        found |= of_tree("dom0/user", self.home)
        return found | {"qubes.xml": content(self.maker.default_qubes_xml())}

    def names(self) -> list[str]:
        """Every file that a report of the undamaged backup names."""
        return ["qubes.xml", *(f"{qube}/{name}" for qube, name in FILES), "dom0/user"]

    def assemble(self, members: Sequence[Member], out: Path) -> Path:
        """As `tests.maker.assemble`, running tar only for members that are new."""
        with out.open("wb") as archive:
            for member in members:
                known = member.directory is not None and member.path in self.stored
                if not known:
                    folder = member.directory or self._under_its_name(member, out)
                    self.stored[member.path] = outer_member(folder, member.name)
                data = self.stored[member.path]
                if member.directory is None:
                    del self.stored[member.path]
                archive.write(data)
        return out

    def _under_its_name(self, member: Member, out: Path) -> Path:
        folder = out.parent / "renamed"
        (folder / member.name).parent.mkdir(parents=True, exist_ok=True)
        (folder / member.name).write_bytes(member.path.read_bytes())
        return folder

    def chunks(self, path: str) -> list[str]:
        """Names of a file's members, in order."""
        return [
            member.name
            for member in self.members
            if (name := parse_chunk_name(member.name.removesuffix(".enc"))) and name.path == path
        ]


@dataclass
class Outcome:
    """What must be said and what must be there after one file was lost."""

    kit: Kit
    report: Report
    out: Path

    def lost(self, status: str, *names: str, says: str = "", chunk: str = "") -> None:
        """Those files, and no other, have that status; nothing of them is there; all else is."""
        expected = dict.fromkeys(self.kit.names(), "ok") | dict.fromkeys(names, status)
        assert statuses(self.report) == expected
        assert not self.report.ok
        for name in names:
            assert says in errors(self.report)[name]
            assert chunk in errors(self.report)[name]
        whole = self.kit.whole()
        left = {
            path: what
            for path, what in whole.items()
            if not any(path == name or path.startswith(f"{name}/") for name in names)
        }
        assert snapshot(self.out) == left
