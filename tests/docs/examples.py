"""The worked examples of docs/format.md, computed from the committed vectors.

In the page each is a block of text behind a line `<!-- example: NAME -->`. What computes them is
the second reader, which shares no code with the product.
"""

from __future__ import annotations

import functools
import hashlib
import hmac
import re
from collections.abc import Callable

from tests.docs import PAGES
from tests.secondreader import (
    Backup,
    bytes_to_key,
    hmac_of,
    key_material,
    members,
    openssl_decrypt,
    scrypt_decrypt,
    scrypt_fields,
)
from tests.support import vectorfiles

PAGE = PAGES / "format.md"
_BLOCK = re.compile(r"(<!-- example: ([a-z0-9-]+) -->\n+```[a-z]*\n)(.*?)(\n?```)", re.DOTALL)

PUBLISHED = "gzip-published-header"
OLD = "v3-gzip-many-chunks"
VOLUMES = "v2-beta3-raw"
PIPED = "gzip-early-pipe"


@functools.cache
def backup(name: str) -> Backup:
    """A vector, opened."""
    return Backup(stored(name), vectorfiles.load(name)["passphrase"])


def stored(name: str) -> bytes:
    """A vector's bytes."""
    return vectorfiles.backup_path(name).read_bytes()


def dump(data: bytes, start: int = 0, end: int | None = None) -> str:
    """Bytes in hex and as text, sixteen a line; lines of zeros alone are left out."""
    lines = []
    for at in range(start, len(data) if end is None else end, 16):
        row = data[at : min(at + 16, len(data) if end is None else end)]
        if row.strip(b"\0"):
            shown = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
            lines.append(f"{at:5}  {row.hex(' '):47}  {shown}")
        elif lines and lines[-1] != "       (zeros)":
            lines.append("       (zeros)")
    return "\n".join(lines)


def fields(**values: object) -> str:
    """A value a line."""
    names = {name: name.replace("__", "-").replace("_", " ") for name in values}
    width = max(map(len, names.values()))
    shown = [(names[key], value) for key, value in values.items()]
    return "\n".join(f"{name:{width}}  {_shown(value)}" for name, value in shown)


def _shown(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)


def outer(name: str) -> str:
    """The members of the outer archive."""
    lines = [" header    data  length  name"]
    for member in members(stored(name), concatenated=True):
        lines.append(f"{member.start:7} {member.data:7} {member.stored:7}  {member.name.decode()}")
    return "\n".join(lines)


def header(name: str) -> str:
    """`backup-header`."""
    return backup(name).members["backup-header"].decode().rstrip("\n")


def scrypt_of_header() -> str:
    """The header's copy, opened."""
    copy = backup(PUBLISHED).members["backup-header.hmac"]
    return _scrypt("backup-header!correct horse battery staple", copy)


def scrypt_of_chunk() -> str:
    """A chunk, opened."""
    secret = "20240917T101112-1234!vm1/private.img.000!correct horse battery staple"
    return _scrypt(secret, backup(PUBLISHED).members["vm1/private.img.000.enc"])


def _scrypt(secret: str, data: bytes) -> str:
    parsed = scrypt_fields(data)
    key = key_material(secret.encode(), parsed)
    plain = scrypt_decrypt(secret.encode(), data)
    return fields(
        passphrase=secret,
        parameters=f"N=2^{parsed.log2_n}, r={parsed.r}, p={parsed.p}",
        salt=parsed.salt,
        SHA__256_of_0__47=hashlib.sha256(data[:48]).digest(),
        key_for_AES=key[:32],
        key_for_HMAC=key[32:],
        HMAC_of_0__63=hmac.digest(key[32:], data[:64], "sha256"),
        HMAC_of_all_but_32=hmac.digest(key[32:], data[:-32], "sha256"),
        stored=f"{len(data)} bytes",
        plaintext=f"{len(plain)} bytes, beginning with {plain[:16].hex()}",
    )


def scrypt_dump() -> str:
    """The stored bytes of the header's copy."""
    return dump(backup(PUBLISHED).members["backup-header.hmac"])


def long_passphrase() -> str:
    """A passphrase of which not all counts."""
    name = "lzma-long-passphrase"
    chunk = "vm1/private.img.000"
    secret = f"20240917T101112-1234!{chunk}!{vectorfiles.load(name)['passphrase']}".encode()
    data = backup(name).members[f"{chunk}.enc"]
    parsed = scrypt_fields(data)
    key = key_material(secret[:2047], parsed)
    assert hmac.digest(key[32:], data[:64], "sha256") == parsed.proof
    return fields(
        the_whole_line=f"{len(secret)} bytes",
        what_counts=f"{len(secret[:2047])} bytes, ending in {secret[2040:2047].hex()}",
        HMAC_of_0__63=parsed.proof,
    )


def hmac_line() -> str:
    """What proves the header of format 3."""
    old = backup(OLD)
    data = old.members["backup-header"]
    return fields(
        backup__header=f"{len(data)} bytes",
        key=old.passphrase,
        HMAC__SHA__512=hmac_of(old.passphrase, "SHA512", data),
        backup__header_hmac=old.members["backup-header.hmac"].decode().rstrip("\n"),
    )


def hmac_spellings() -> str:
    """How openssl's versions spell the same."""
    names = {"v2-beta3-raw": "qubes.xml.000", "v3-raw-exact-chunks": "backup-header"}
    names |= {"v3-plain-gzip": "backup-header"}
    lines = []
    for name, member in names.items():
        text = backup(name).members[f"{member}.hmac"].decode().rstrip("\n")
        lines.append(text[:60] + ("…" if len(text) > 60 else ""))
    return "\n".join(lines)


def salted() -> str:
    """The first chunk of an encrypted file of format 3."""
    old = backup(OLD)
    stream = b"".join(old.chunk(name) for name in old.chunks("vm5/icon.png"))
    made = bytes_to_key(old.passphrase, stream[8:16], 48)
    plain = openssl_decrypt(old.passphrase, "aes-256-cbc", stream)
    lengths = " + ".join(str(len(old.chunk(name))) for name in old.chunks("vm5/icon.png"))
    return fields(
        chunks=f"{lengths} bytes",
        first_16_bytes=stream[:16],
        salt=stream[8:16],
        D1=made[:16],
        D2=made[16:32],
        D3=made[32:48],
        key=made[:32],
        IV=made[32:],
        plaintext=f"{len(plain)} bytes, beginning with {plain[:16].hex()}",
        padding=bytes([len(stream) - 16 - len(plain)]) * (len(stream) - 16 - len(plain)),
    )


def empty_chunks() -> str:
    """Chunks of a stream that ends at a full one."""
    shown = backup("uncompressed-exact-chunk")
    names = shown.chunks("vm1/firewall.xml")
    return "\n".join(
        f"{name}.enc  {len(shown.members[name + '.enc']):6} stored {len(shown.chunk(name)):6} plain"
        for name in names
    )


def old_gnu_header() -> str:
    """A sparse member by GNU tar."""
    return dump(backup(PUBLISHED).archive("vm1/private.img")[:512])


def old_gnu_map() -> str:
    """The same, read."""
    return _map(PUBLISHED, "vm1/private.img")


def old_gnu_extension() -> str:
    """An extension block."""
    archive = backup(VOLUMES).archive("appvms/work/private.img")
    return dump(archive, 480, 592)


def pax_map() -> str:
    """A sparse member by Qubes' own writer: headers and map."""
    archive = backup("bzip2-utf8-passphrase").archive("vm12/private.img")
    name, records, own, table = (archive[at : at + 512] for at in range(0, 2048, 512))
    assert name[156:157] == b"x"
    return "\n".join(
        [
            f"    0  type x, name {_text(name)}",
            *(f"  512  {line}" for line in _text(records).splitlines()),
            f" 1024  type {chr(own[156])}, name {_text(own)}, size {_text(own[124:])}",
            f" 1536  {_text(table)!r}",
        ]
    )


def pax_extents() -> str:
    """The same, read."""
    return _map("bzip2-utf8-passphrase", "vm12/private.img")


def zero_image() -> str:
    """An image with nothing in it, by both writers."""
    names = ("lzma-long-passphrase", "zstd-zero-image")
    return "\n".join(_map(name, "vm1/private.img") for name in names)


def _map(name: str, path: str) -> str:
    archive = backup(name).archive(path)
    (member,) = members(archive)
    table = " ".join(f"({offset}, {length})" for offset, length in member.map or ())
    end = len(archive) - member.data - member.stored
    return fields(
        member=f"type {member.type}, {member.spelling}, {member.name.decode()}",
        map=table,
        stored=f"{member.stored} bytes, from byte {member.data} of the archive on",
        length=f"{member.size} bytes",
        behind_it=f"{end} bytes, all zero" if not archive[-end:].strip(b"\0") else "?",
    )


def _text(block: bytes) -> str:
    return block.split(b"\0")[0].decode()


def volumes() -> str:
    """How each volume of a file begins."""
    shown = backup(VOLUMES)
    path = "appvms/work/private.img"
    lines = []
    for name in shown.chunks(path):
        block = shown.chunk(name)[:512]
        kind, size = chr(block[156]), int(_text(block[124:136]), 8)
        length = len(shown.chunk(name))
        lines.append(f"{name}  {length} bytes, begins with type {kind}, size {size}")
    lines.append(f"joined: {len(shown.archive(path))} bytes")
    return "\n".join(lines)


def volume_header() -> str:
    """The header of a volume in which a member goes on."""
    return dump(backup(VOLUMES).chunk("appvms/work/private.img.001")[:512])


def zlib_around() -> str:
    """Beta 3's encrypted and compressed chunk."""
    import zlib

    data = backup("v2-beta3-zlib").members["vm1/private.img.000"]
    inside = zlib.decompress(data)
    return fields(
        stored=f"{len(data)} bytes, beginning with {data[:2].hex()}",
        in_the_zlib_stream=f"{len(inside)} bytes, beginning with {inside[:8].decode()}",
        decrypted=f"{len(backup('v2-beta3-zlib').chunk('vm1/private.img.000'))} bytes",
    )


def stream_padding() -> str:
    """A compressed stream by way of a named pipe, and the chunks it was cut into."""
    read = backup(PIPED)
    path = "vm1/private.img"
    chunks = [read.chunk(name) for name in read.chunks(path)]
    stream = b"".join(chunks)
    lines = [f"{path}.{index:03d}.enc  {len(chunk):5} plain" for index, chunk in enumerate(chunks)]
    zeros = len(stream) - len(stream.rstrip(b"\0"))
    return "\n".join([*lines, f"joined: {len(stream)} bytes, of which the last {zeros} are zero"])


def xml_4() -> str:
    """One qube of R4."""
    text = backup(PUBLISHED).file("qubes.xml").decode()
    start = text.index('<domain id="domain-1"')
    part = text[start : text.index("</domain>", start) + len("</domain>")]
    lines = (line.removeprefix("    ") for line in part.splitlines())
    wanted = ["<domain", "properties", "label", '"name"', "template", "feature", "<volume-", "save"]
    wanted += ["</volume-", "</domain"]
    return "\n".join(line for line in lines if any(word in line for word in wanted))


def xml_3() -> str:
    """One qube of R3."""
    text = backup(OLD).file("qubes.xml").decode()
    start = text.index("<QubesAppVm")
    part = text[start : text.index("/>", start) + 2]
    unused = "uuid|dir_path|memory|vcpus|services|pcidevs"
    part = re.sub(rf' ({unused})="[^"]*"', "", part)
    return part.replace(" backup_content", "\n  backup_content")


def home_names() -> str:
    """Some names and targets of dom0's home in format 3."""
    tree = backup("v3-home").archive("dom0-home/jo.doe")
    lines = []
    for member in members(tree):
        if member.type != "0" and len(member.link) < 40 and member.name.isascii():
            arrow = f" -> {member.link.decode()}" if member.link else ""
            lines.append(f"{member.type}  {member.mode:04o}  {member.name.decode()}{arrow}")
    return "\n".join(lines)


EXAMPLES: dict[str, Callable[[], str]] = {
    "outer-4": lambda: outer(PUBLISHED),
    "outer-3": lambda: outer(OLD),
    "outer-first-header": lambda: dump(stored(PUBLISHED)[:1632]),
    "header-4-published": lambda: header(PUBLISHED),
    "header-4": lambda: header("bzip2-utf8-passphrase"),
    "header-3": lambda: header(OLD),
    "header-2": lambda: header("v2-candidate-gzip"),
    "scrypt-dump": scrypt_dump,
    "scrypt-header": scrypt_of_header,
    "scrypt-chunk": scrypt_of_chunk,
    "long-passphrase": long_passphrase,
    "hmac": hmac_line,
    "hmac-spellings": hmac_spellings,
    "salted": salted,
    "empty-chunk": empty_chunks,
    "old-gnu-header": old_gnu_header,
    "old-gnu-map": old_gnu_map,
    "old-gnu-extension": old_gnu_extension,
    "pax-map": pax_map,
    "pax-extents": pax_extents,
    "zero-image": zero_image,
    "volumes": volumes,
    "volume-header": volume_header,
    "stream-padding": stream_padding,
    "zlib-around": zlib_around,
    "xml-4": xml_4,
    "xml-3": xml_3,
    "home": home_names,
}


def blocks(text: str) -> dict[str, str]:
    """The page's blocks, by the names of their examples."""
    return {match[2]: match[3] for match in _BLOCK.finditer(text)}


def rewritten(text: str) -> str:
    """The page with every block as it must be."""
    return _BLOCK.sub(lambda match: f"{match[1]}{EXAMPLES[match[2]]()}\n```", text)
