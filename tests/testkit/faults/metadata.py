"""`qubes.xml` under a right MAC: what it names becomes folders, so it is parsed as hostile."""

from __future__ import annotations

from collections.abc import Iterator

from tests.support.tarbytes import archive, header, padded
from tests.testkit.scene import METADATA, Members, Scene
from tests.testkit.scenes import MAIL, VAULT, Scenes
from tests.testkit.vector import Vector

ENTITIES = b"<!ENTITY a 'aaaaaaaaaa'>" + b"".join(
    b"<!ENTITY %c '%s'>" % (98 + n, b"&%c;" % (97 + n) * 10) for n in range(8)
)


def vectors(scenes: Scenes) -> Iterator[Vector]:
    """See the module's text."""
    scene = scenes.small
    yield from _damaged(scene)
    yield from _limits(scene)
    yield from _names(scene)
    yield from _legal(scene)
    yield from _missing(scene)


def _with(scene: Scene, document: bytes) -> Members:
    tar = archive(header(METADATA.encode(), size=len(document)), padded(document))
    return scene.with_inner(METADATA, tar)


def _by_path(scene: Scene) -> dict[str, bytes]:
    return {
        VAULT: scene.files["vault/private.img"],
        MAIL: scene.files["mail/private.img"],
    }


def _lost(
    scene: Scene, name: str, comment: str, document: bytes, expect: str = "file damaged"
) -> Vector:
    return scene.vector(
        f"xml-{name}",
        f"qubes.xml: {comment}",
        _with(scene, document),
        expect=expect,
        lost={METADATA: "damaged"},
        unseen=[*scene.files],
        files=_by_path(scene),
    )


def _damaged(scene: Scene) -> Iterator[Vector]:
    text = scene.files[METADATA]
    name = b'<property name="name">vault</property>'
    path = b'<feature name="backup-path">vm1/</feature>'
    assert name in text
    assert path in text
    documents = {
        "empty": ("it is empty", b""),
        "no-xml": ("it is no XML", b"qubes: []\n"),
        "cut": ("it ends in the middle", text[: len(text) // 2]),
        "two-roots": ("it has a second root", text + b"<qubes/>"),
        "garbage-behind": ("something stands behind its root", text + b"x"),
        "nul": ("it holds a NUL", text.replace(b"vault", b"va\0lt")),
        "not-utf-8": ("it is not UTF-8", text.replace(b"vault", b"va\xfflt")),
        "encoding-unknown": (
            "its encoding is unknown",
            b"<?xml version='1.0' encoding='x-none'?>" + text,
        ),
        "doctype": ("it has a DOCTYPE", b"<!DOCTYPE qubes>" + text),
        "entity": (
            "it has an entity",
            b"<!DOCTYPE qubes [<!ENTITY a 'vault'>]>" + text.replace(b">vault<", b">&a;<"),
        ),
        "entity-file": (
            "it has an entity that is a file of this machine",
            b"<!DOCTYPE qubes [<!ENTITY a SYSTEM 'file:///etc/passwd'>]>"
            + text.replace(b">vault<", b">&a;<"),
        ),
        "entity-bomb": (
            "it has entities that stand for 1 GB",
            b"<!DOCTYPE qubes [" + ENTITIES + b"]>" + text.replace(b">vault<", b">&i;<"),
        ),
        "entity-undefined": (
            "it has an entity that it does not define",
            text.replace(b">vault<", b">&x;<"),
        ),
        "root-other": (
            "its root is that of format 3",
            text.replace(b"qubes>", b"QubesVmCollection>"),
        ),
        "name-missing": ("a qube has no name", text.replace(name, b"")),
        "name-empty": ("a qube's name is empty", text.replace(name, name.replace(b"vault", b""))),
        "path-missing": ("a qube has no backup-path", text.replace(path, b"")),
        "path-empty": (
            "a qube's backup-path is empty",
            text.replace(path, path.replace(b"vm1/", b"")),
        ),
        "path-slash": (
            "a qube's backup-path is a slash",
            text.replace(path, path.replace(b"vm1/", b"/")),
        ),
        "two-names": (
            "two qubes have one name",
            text.replace(name, name.replace(b"vault", b"mail")),
        ),
        "two-paths": (
            "two qubes have one backup-path",
            text.replace(path, path.replace(b"vm1/", b"vm2/")),
        ),
        "two-dom0": (
            "a qube is called dom0, as dom0 is; both are in the backup",
            text.replace(b">vault<", b">dom0<").replace(
                b'<feature name="backup-content" />',
                b'<feature name="backup-content">1</feature>'
                b'<feature name="backup-path">dom0-home/u</feature>',
                1,
            ),
        ),
    }
    for fault, (comment, document) in documents.items():
        yield _lost(scene, fault, comment, document)


def _limits(scene: Scene) -> Iterator[Vector]:
    qubes = b"<qubes><domains>" + b"<domain/>" * 20_001 + b"</domains></qubes>"
    yield _lost(scene, "too-many-qubes", "it has 20,001 qubes", qubes, "limit")
    elements = b"<qubes>" + b"<x/>" * 350_000 + b"</qubes>"
    yield _lost(scene, "too-many-elements", "it has 350,000 elements", elements, "limit")
    deep = b"<x>" * 400_000
    yield _lost(scene, "too-deep", "it has elements in elements, 400,000 deep", deep, "limit")


def _names(scene: Scene) -> Iterator[Vector]:
    """A qube's name becomes a folder: this one's files are refused, the others' come out."""
    text = scene.files[METADATA]
    names = {
        "dot-dot": ("..", ".."),
        "dot": (".", "."),
        "upward": ("led upwards", "../evil"),
        "absolute": ("an absolute path", "/qubes-testkit/evil"),
        "slash": ("a path", "a/b"),
        "controls": ("full of control characters", "a&#9;b&#10;c"),
        "too-long": ("256 bytes long", "n" * 256),
        "too-long-in-bytes": ("255 letters long and 510 bytes", "\u00fc" * 255),
    }
    for name, (comment, said) in names.items():
        document = text.replace(b">vault<", f">{said}<".encode())
        meant = said.replace("&#9;", "\t").replace("&#10;", "\n")
        yield scene.vector(
            f"xml-name-{name}",
            f"qubes.xml: a qube's name is {comment}",
            _with(scene, document),
            expect="name refused",
            lost={f"{meant}/private.img": "refused"},
            unseen=["vault"],
            files={METADATA: document},
        )


def _reserved(scene: Scene, text: bytes, image: bytes) -> Iterator[Vector]:
    """Legal names that are in the way of what a restore itself puts into the folder."""
    names = {
        "part": ("one that unfinished files have", "vault.part", "vault%2Epart"),
        "document": ("that of qubes.xml itself", "qubes.xml", "qubes%2Exml"),
    }
    for name, (comment, said, folder) in names.items():
        document = text.replace(b">vault<", f">{said}<".encode())
        yield scene.vector(
            f"xml-name-{name}",
            f"qubes.xml: a qube's name is {comment}",
            _with(scene, document),
            unseen=["vault"],
            files={METADATA: document, f"{folder}/private.img": image},
            warnings=[folder],
        )


def _legal(scene: Scene) -> Iterator[Vector]:
    text = scene.files[METADATA]
    image = scene.files["vault/private.img"]
    names = {
        "longest": ("255 bytes long", "n" * 255),
        "spaces": ("of words", "my vault"),
        "unicode": ("not ASCII", "sejf-\u0142"),
        "flag": ("like an option", "-rf"),
        "backslash": ("full of backslashes and quotes", "a\\b'c"),
        "case-clash": ("another's in capitals; where case is ignored, it is in the way", "MAIL"),
        "bidirectional": ("made to be read backwards", "v\u202etluav"),
    }
    for name, (comment, said) in names.items():
        document = text.replace(b">vault<", f">{said}<".encode())
        yield scene.vector(
            f"xml-name-legal-{name}",
            f"qubes.xml: a qube's name is {comment}",
            _with(scene, document),
            unseen=["vault"],
            files={METADATA: document, f"{said}/private.img": image},
        )
    yield from _reserved(scene, text, image)
    documents = {
        "label-unknown": (
            "a qube's label does not exist",
            text.replace(b">label-8<", b">label-99<"),
        ),
        "size-huge": (
            "a qube's size is estimated at 8 EiB, which is no length",
            text.replace(b">1048576<", b">9223372036854775807<", 1),
        ),
        "size-text": ("a qube's size is no number", text.replace(b">1048576<", b">big<")),
        "size-missing": (
            "no qube's size is there",
            text.replace(b'<feature name="backup-size">1048576</feature>', b""),
        ),
        "no-labels": ("it has no labels", text.replace(b"labels>", b"colours>")),
        "comments": ("it has comments", text.replace(b"<domains>", b"<!-- x --><domains>")),
        "white-space": (
            "it has much white space",
            text.replace(b"<domains>", b"<domains>" + b" " * 100_000),
        ),
        "unknown-elements": (
            "it has elements that nobody knows",
            text.replace(b"<domains>", b"<x><y/></x><domains>"),
        ),
    }
    for name, (comment, document) in documents.items():
        yield scene.vector(
            f"xml-{name}",
            f"qubes.xml: {comment}",
            _with(scene, document),
            files={METADATA: document},
        )


def _missing(scene: Scene) -> Iterator[Vector]:
    """What qubes.xml requires and the archive does not hold."""
    text = scene.files[METADATA]
    path = b'<feature name="backup-path">vm1/</feature>'
    end = b"</volume-config>"
    saved = b'<volume name="%s" save_on_stop="True" />' + end
    for name, comment, document, lost in (
        (
            "path-other",
            "a qube's backup-path leads to nothing",
            text.replace(path, path.replace(b"vm1/", b"vm9/")),
            {"vault/private.img": "missing"},
        ),
        (
            "path-dot-dot",
            "a qube's backup-path leads upwards",
            text.replace(path, path.replace(b"vm1/", b"../../vm1/")),
            {"vault/private.img": "missing"},
        ),
        (
            "path-prefix",
            "a qube's backup-path is the beginning of another's",
            text.replace(path, path.replace(b"vm1/", b"vm")),
            {"vault/private.img": "missing"},
        ),
    ):
        yield scene.vector(
            f"xml-{name}",
            f"qubes.xml: {comment}",
            _with(scene, document),
            expect="file missing",
            lost=lost,
            files={METADATA: document},
            warnings=[VAULT],
        )
    for name, comment, wanted in (
        ("image-required", "it requires an image that the archive does not have", "root"),
        ("image-upward", "it requires an image whose name leads upwards", "../evil"),
    ):
        document = text.replace(end, saved % wanted.encode(), 1)
        yield scene.vector(
            f"xml-{name}",
            f"qubes.xml: {comment}",
            _with(scene, document),
            expect="file missing",
            lost={f"vault/{wanted}.img": "missing"},
            files={METADATA: document},
        )
    content = b'<feature name="backup-content">1</feature>'
    document = text.replace(content, content.replace(b"1<", b"<"), 1)
    yield scene.vector(
        "xml-not-in-the-backup",
        "qubes.xml: it says that a qube is not in the backup, whose files are",
        _with(scene, document),
        unseen=["vault"],
        files={METADATA: document},
        warnings=[VAULT],
    )
