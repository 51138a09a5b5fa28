"""Recipes of the vectors of formats 3 and 2; `tests.make_vectors` makes them.

What can't be restored as a whole is named in `UNRESTORED`, with the reason.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from tests.make_vectors import KIB, MTIME, TEXT, holed, make_home, noise, zeros
from tests.maker import (
    HMAC_TEXTS,
    RELEASE_CANDIDATE,
    Format2Maker,
    Format3Maker,
    OldMaker,
    make_sparse,
)
from tests.support.settingsdata import v3_settings
from tests.support.vectorfiles import LINKS, UNSUPPORTED, WEAK_DIGEST

RULES = b'<QubesFirewallRules policy="allow"/>\n'


def v3_gzip_many_chunks(folder: Path) -> OldMaker:
    """Format 3 as R3.2 writes it: encrypted, gzip, SHA512; several chunks, and an empty one behind
    a stream that needs none; a sparse image; a qube with a netvm of its own.
    """
    maker = Format3Maker(
        folder / "maker",
        chunk_size=12 * KIB,
        empty_chunk_after=["vm5/firewall.xml"],
        passphrase="żółw 🔑",
    )
    files: dict[str, bytes | Path] = {"private.img": holed(folder / "image")}
    files |= {"icon.png": noise(15 * KIB), "firewall.xml": RULES}
    maker.add_qube("work", qid=5, netvm="sys-vpn", files=files)
    return maker


def v3_raw_exact_chunks(folder: Path) -> OldMaker:
    """Encrypted, not compressed; the spelling of openssl 1.1; the encrypted stream of 10,272 bytes
    ends exactly at a full chunk, so an empty one follows.
    """
    text = HMAC_TEXTS["1.1"]
    maker = Format3Maker(
        folder / "maker", compression_filter=None, hmac_text=text, chunk_size=(10 * KIB + 32) // 3
    )
    maker.add_qube("vault", netvm="", label="black", files={"private.img": noise(4 * KIB)})
    return maker


def v3_plain_gzip(folder: Path) -> OldMaker:
    """Compressed, not encrypted: the folder is the qube's own; SHA256, as openssl 3 spells it."""
    text = "SHA2-256(stdin)= {hex}\n"
    maker = Format3Maker(folder / "maker", encrypted=False, digest="SHA256", hmac_text=text)
    maker.add_qube("work", files={"private.img": holed(folder / "image")})
    return maker


def v3_plain_raw(folder: Path) -> OldMaker:
    """Neither encrypted nor compressed; in several chunks; a network qube."""
    maker = Format3Maker(
        folder / "maker", encrypted=False, compression_filter=None, chunk_size=7 * KIB
    )
    maker.add_qube("net", tag="QubesNetVm", files={"private.img": noise(8 * KIB)})
    return maker


def v3_pigz_sha224(folder: Path) -> OldMaker:
    """pigz; SHA224."""
    maker = Format3Maker(folder / "maker", compression_filter="pigz", digest="sha224")
    maker.add_qube("work", files={"private.img": holed(folder / "image")})
    return maker


def v3_bzip2_aes_192(folder: Path) -> OldMaker:
    """bzip2; aes-192-cbc; SHA3-256."""
    maker = Format3Maker(
        folder / "maker", compression_filter="bzip2", cipher="aes-192-cbc", digest="sha3-256"
    )
    maker.add_qube("work", files={"private.img": holed(folder / "image")})
    return maker


def v3_pbzip2_sha384(folder: Path) -> OldMaker:
    """pbzip2, more than one bzip2 stream; SHA384."""
    maker = Format3Maker(folder / "maker", compression_filter="pbzip2", digest="sha384")
    maker.add_qube("work", files={"private.img": noise(64) * (32 * KIB)})
    return maker


def v3_xz_aes_128(folder: Path) -> OldMaker:
    """xz; aes-128-cbc; SHA1, and its short code."""
    maker = Format3Maker(
        folder / "maker", compression_filter="xz", cipher="aes-128-cbc", digest="sha1"
    )
    maker.add_qube("work", files={"private.img": holed(folder / "image")})
    return maker


def v3_lzma_triple_des(folder: Path) -> OldMaker:
    """lzma; des-ede3-cbc, whose blocks have 8 bytes; RIPEMD-160; several chunks."""
    maker = Format3Maker(
        folder / "maker",
        compression_filter="lzma",
        cipher="des-ede3-cbc",
        digest="ripemd160",
        chunk_size=8 * KIB,
    )
    maker.add_qube("work", files={"private.img": noise(9 * KIB)})
    return maker


def v3_zstd_blake2(folder: Path) -> OldMaker:
    """zstd; BLAKE2b-512; an image of nothing but a hole."""
    maker = Format3Maker(folder / "maker", compression_filter="zstd", digest="blake2b512")
    maker.add_qube("work", files={"private.img": zeros(folder / "image")})
    return maker


def v3_zstdmt_camellia(folder: Path) -> OldMaker:
    """zstdmt; a cipher that is not built in everywhere."""
    maker = Format3Maker(folder / "maker", compression_filter="zstdmt", cipher="camellia-256-cbc")
    maker.add_qube("work", files={"private.img": noise(KIB)})
    return maker


def v3_md5(folder: Path) -> OldMaker:
    """An HMAC with MD5, which is not believed unless it is asked for."""
    maker = Format3Maker(folder / "maker", digest="MD5")
    maker.add_qube("work", files={"private.img": noise(KIB)})
    return maker


def v3_template(folder: Path) -> OldMaker:
    """A template as one folder, with images and with symbolic links, whose targets all have the
    prefix too; links were not followed before late 2015.
    """
    maker = Format3Maker(folder / "maker", dereference=False)
    files = {".": make_template(folder / "template")}
    maker.add_qube("fedora", qid=9, klass="TemplateVM", template=None, label="black", files=files)
    return maker


def v3_standalone(folder: Path) -> OldMaker:
    """A standalone HVM: both images, and the folders apps.templates and kernels."""
    maker = Format3Maker(folder / "maker")
    files: dict[str, bytes | Path] = {"private.img": zeros(folder / "image")}
    files |= {name: make_folder(folder / name) for name in ("apps.templates", "kernels")}
    maker.add_qube(
        "alone",
        klass="StandaloneVM",
        tag="QubesHVm",
        template=None,
        files={**files, "root.img": holed(folder / "root")},
    )
    return maker


def v3_home(folder: Path) -> OldMaker:
    """dom0's home; the targets of links that begin with the user's name have the prefix too."""
    maker = Format3Maker(folder / "maker", compression_filter="xz")
    maker.add_home("jo.doe", make_home(folder / "jo.doe"))
    return maker


def v3_home_links_untouched(folder: Path) -> OldMaker:
    """dom0's home with links as they were in dom0, and R2's qubes.xml, which does not list dom0."""
    maker = Format3Maker(folder / "maker", rewrite_links=False, dom0=False)
    maker.add_home("user", make_home(folder / "user"))
    return maker


def v3_link_for_an_image(folder: Path) -> OldMaker:
    """A root.img that is a symbolic link to a device, beside a private.img that is there."""
    return link_for_an_image(Format3Maker(folder / "maker", dereference=False), folder)


def v3_icon_link(folder: Path) -> OldMaker:
    """Backup from before November 2015: icon.png is a link into dom0, beside an image and a folder;
    so is a link to a file of the qube's own.
    """
    maker = Format3Maker(folder / "maker", compression_filter=None, dereference=False)
    return icon_link(maker, folder)


def v2_icon_link(folder: Path) -> OldMaker:
    """Backup as R2 wrote it: icon.png is a link into dom0, beside an image and a folder; so is a
    link to a file of the qube's own.
    """
    return icon_link(Format2Maker(folder / "maker"), folder)


def v3_packed_again(folder: Path) -> OldMaker:
    """Streams without tar's zeros behind them: somebody packed the backup again; gzip."""
    maker = Format3Maker(folder / "maker", named_pipe=False)
    maker.add_qube("work", files={"private.img": noise(9 * KIB)})
    return maker


def v2_beta3_zlib(folder: Path) -> OldMaker:
    """R2 Beta 3, encrypted and compressed: no header, zlib around the cipher text; several volumes
    of a sparse image; SHA1; R2's qubes.xml, without dom0.
    """
    maker = Format2Maker(folder / "maker", zlib_around=True, tape_length=10)
    maker.add_qube("work", files={"private.img": scattered(folder / "image")})
    return maker


def v2_beta3_encrypted(folder: Path) -> OldMaker:
    """R2 Beta 3, encrypted: no header; several volumes of an image without holes."""
    maker = Format2Maker(folder / "maker", tape_length=10)
    maker.add_qube("work", files={"private.img": noise(24 * KIB), "firewall.xml": RULES})
    return maker


def v2_beta3_gzip(folder: Path) -> OldMaker:
    """R2 Beta 3, compressed and not encrypted: the folder is the qube's own; several volumes."""
    maker = Format2Maker(
        folder / "maker", encrypted=False, compression_filter="gzip", tape_length=10
    )
    maker.add_qube("work", files={"private.img": scattered(folder / "image")})
    return maker


def v2_beta3_raw(folder: Path) -> OldMaker:
    """R2 Beta 3, neither encrypted nor compressed; several volumes."""
    maker = Format2Maker(folder / "maker", encrypted=False, tape_length=10)
    maker.add_qube("work", files={"private.img": scattered(folder / "image")})
    return maker


def v2_candidate_gzip(folder: Path) -> OldMaker:
    """As the published page has it: a header without version, each volume compressed, then
    encrypted; SHA512.
    """
    maker = Format2Maker(
        folder / "maker",
        header=RELEASE_CANDIDATE,
        compression_filter="gzip",
        digest="SHA512",
        tape_length=10,
    )
    maker.add_qube("work", files={"private.img": scattered(folder / "image")})
    return maker


def v2_candidate_encrypted(folder: Path) -> OldMaker:
    """A header without version, encrypted and not compressed; one volume."""
    maker = Format2Maker(folder / "maker", header=RELEASE_CANDIDATE, digest="SHA512")
    maker.add_qube("work", files={"private.img": holed(folder / "image")})
    return maker


def v2_version_2(folder: Path) -> OldMaker:
    """A header that says version=2, compressed with a filter that it does not name: gzip."""
    header = b"version=2\nhmac-algorithm=SHA512\ncrypto-algorithm=aes-256-cbc\n"
    maker = Format2Maker(
        folder / "maker",
        header=header + b"encrypted=True\ncompressed=True\n",
        compression_filter="gzip",
        digest="SHA512",
    )
    maker.add_qube("work", files={"private.img": holed(folder / "image")})
    return maker


def v2_bzip2(folder: Path) -> OldMaker:
    """No header, and another program than gzip."""
    maker = Format2Maker(folder / "maker", compression_filter="bzip2", tape_length=10)
    maker.add_qube("work", files={"private.img": scattered(folder / "image")})
    return maker


def v2_template(folder: Path) -> OldMaker:
    """A template as one folder in several volumes; every relative link has the prefix too."""
    maker = Format2Maker(folder / "maker", tape_length=10)
    files = {".": make_template(folder / "template")}
    maker.add_qube("fedora", qid=9, klass="TemplateVM", template=None, label="black", files=files)
    return maker


def v2_standalone(folder: Path) -> OldMaker:
    """A standalone qube: both images, and its folder apps; one volume each, compressed."""
    maker = Format2Maker(folder / "maker", zlib_around=True)
    files: dict[str, bytes | Path] = {"private.img": zeros(folder / "image")}
    files |= {"apps": make_folder(folder / "apps"), "root.img": holed(folder / "root")}
    maker.add_qube("alone", klass="StandaloneVM", template=None, files=files)
    return maker


def v2_home(folder: Path) -> OldMaker:
    """dom0's home in several volumes, which R2's qubes.xml does not list; every relative link has
    the prefix too.
    """
    maker = Format2Maker(folder / "maker", zlib_around=True, tape_length=20)
    maker.add_qube("work", files={"private.img": RULES})
    maker.add_home("jo.doe", make_home(folder / "jo.doe"))
    return maker


def v2_link_for_an_image(folder: Path) -> OldMaker:
    """A root.img that is a symbolic link to a device, beside a private.img that is there."""
    return link_for_an_image(Format2Maker(folder / "maker"), folder)


def v2_md5(folder: Path) -> OldMaker:
    """No header, and HMACs with MD5, which was the default of openssl 1.0."""
    maker = Format2Maker(folder / "maker", digest="MD5")
    maker.add_qube("work", files={"private.img": noise(KIB)})
    return maker


def link_for_an_image(maker: OldMaker, folder: Path) -> OldMaker:
    link = folder / "link"
    link.symlink_to("/dev/mapper/root")
    files: dict[str, bytes | Path] = {"private.img": holed(folder / "image"), "root.img": link}
    maker.add_qube("alone", klass="StandaloneVM", template=None, files=files)
    return maker


def icon_link(maker: OldMaker, folder: Path) -> OldMaker:
    (folder / "icon.png").symlink_to("/usr/share/icons/hicolor/128x128/devices/appvm-red.png")
    (folder / "icon.old").symlink_to("icon.png")
    files: dict[str, bytes | Path] = {"private.img": holed(folder / "image")}
    files |= {name: folder / name for name in ("icon.png", "icon.old")}
    files |= {"firewall.xml": RULES, "apps": make_folder(folder / "apps")}
    maker.add_qube("work", files=files)
    return maker


def combed(path: Path, runs: int) -> Path:
    """An image with so many runs of data, of one block each, and holes as long between them.

    The large one at its end is a real one, without which tar looks for none.
    """
    return make_sparse(path, (runs + KIB) * KIB, {n * KIB: b"%04d" % n * 128 for n in range(runs)})


def scattered(path: Path) -> Path:
    """An image of 2 MiB with 24 KiB of data in it, here and there."""
    data = {number * 256 * KIB: noise(4 * KIB) for number in range(6)}
    return make_sparse(path, 2 * KIB * KIB, data)


def make_template(folder: Path) -> Path:
    """A template's own folder."""
    make_folder(folder / "apps.templates")
    make_folder(folder / "apps")
    (folder / "apps/link").symlink_to("letter.desktop")
    (folder / "icon.png").symlink_to("/usr/share/qubes/icons/black.png")
    (folder / "dangling").symlink_to("no/such/file")
    (folder / "vm-whitelisted-appmenus.list").write_bytes(b"letter.desktop\n")
    holed(folder / "root.img").chmod(0o660)
    zeros(folder / "private.img").chmod(0o660)
    return aged(folder)


def make_folder(folder: Path) -> Path:
    """A small folder of a qube."""
    folder.mkdir(parents=True)
    (folder / "letter.desktop").write_bytes(TEXT[:100])
    (folder / "below").mkdir()
    (folder / "below/empty").write_bytes(b"")
    return aged(folder)


def aged(folder: Path) -> Path:
    """Everything in it, and itself, is of one time."""
    for path in sorted(folder.rglob("*"), reverse=True):
        os.utime(path, (MTIME, MTIME), follow_symlinks=False)
    os.utime(folder, (MTIME, MTIME))
    return folder


OLD_RECIPES: list[Callable[[Path], OldMaker]] = [
    v3_gzip_many_chunks,
    v3_raw_exact_chunks,
    v3_plain_gzip,
    v3_plain_raw,
    v3_pigz_sha224,
    v3_bzip2_aes_192,
    v3_pbzip2_sha384,
    v3_xz_aes_128,
    v3_lzma_triple_des,
    v3_zstd_blake2,
    v3_zstdmt_camellia,
    v3_md5,
    v3_template,
    v3_standalone,
    v3_home,
    v3_home_links_untouched,
    v3_link_for_an_image,
    v3_settings,
    v3_packed_again,
    v2_beta3_zlib,
    v2_beta3_encrypted,
    v2_beta3_gzip,
    v2_beta3_raw,
    v2_candidate_gzip,
    v2_candidate_encrypted,
    v2_version_2,
    v2_bzip2,
    v2_template,
    v2_standalone,
    v2_home,
    v2_link_for_an_image,
    v2_md5,
    v3_icon_link,
    v2_icon_link,
]

#: Vectors that can't be restored as a whole, and why.
UNRESTORED = {
    "v3-zstdmt-camellia": UNSUPPORTED,
    "v3-md5": WEAK_DIGEST,
    "v3-link-for-an-image": LINKS,
    "v2-link-for-an-image": LINKS,
    "v2-md5": WEAK_DIGEST,
}
