"""Bounds on untrusted input, all in one place.

A backup may come from a damaged disk or from an enemy, so every size, count and
parameter in it is compared with one of these bounds before it costs memory, time or a
path. The defaults let through everything that Qubes OS is known to have written, and
more; the comment behind each gives its reason.
"""

from __future__ import annotations

from dataclasses import dataclass

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB
TIB = 1024 * GIB


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Bounds on what a backup may ask for. Sizes are in bytes.

    Args:
        scrypt_memory: 128·N·r of one derivation lane.
        scrypt_work: N·r·p of one derivation; time is proportional to it.
        scrypt_growth: times the memory and work of the header's own derivation that a chunk's may
            need, where that is more than N=2^21, r=8, p=1, the most that writers ask for; one
            writer's parameters differ by 8 at most, as they follow the machine's load.
        scrypt_lanes: r·p; the derivation holds 128·r·p bytes besides the lanes.
        header: length of ``backup-header``.
        metadata: length of ``qubes.xml``, and of a front that is kept beside a backup.
        qubes: number of domains in ``qubes.xml``.
        members: number of members of the outer archive.
        chunk: stored length of one chunk.
        name: length of a name of the outer archive, of a path in an inner one, or of a folder's
            path in an image.
        depth: number of components of a path that a restore or a copy makes, or that is searched
            in a folder that is a backup.
        pax_header: length of one pax header.
        sparse_entries: number of runs of data of one sparse file.
        image_extents: number of extents of one file in an image.
        copy_losses: number of files that a copy from an image names because they are lost or not
            whole; more are counted.
        damaged_ranges: number of good and lost ranges of one damaged image; behind the last one
            good bytes count as lost.
        file_size: length of one restored file, holes included, or of a file in an image.
        tree_entries: number of entries of one folder archive, of one folder in an image, or of one
            copy from an image.
        tree_deferred: bytes of names and targets kept until the end of a folder archive.
        trailing_zeros: bytes of padding after the end of an inner archive.
        zeros: bytes of zeros behind a member of the outer archive that are read in search of the
            next one; of further zeros only samples are read.
        front: bytes at the beginning of a file that does not begin as a backup does, in which the
            error's maker looks for parts of one; salvage searches all of a file.
        decoder_memory: memory of the decompressor.
        small_streams: number of compressed streams one after another in a file, besides one for
            each 4 KiB of plaintext.
        compressed_excess: bytes of a compressed file beyond five quarters of its plaintext.
        journal: length of the journal in the output folder.
        read_all: number of bytes that ``read()`` without a size returns at once.
    """

    scrypt_memory: int = 8 * GIB  # 2^23 at r=8; scrypt's defaults give 2^18 to 2^21
    scrypt_work: int = 1 << 28  # 16 times N=2^21 r=8: a minute or two on a slow core
    scrypt_growth: int = 16
    scrypt_lanes: int = 1 << 17  # 16 MiB besides the lanes; real backups have 8 to 56
    header: int = 64 * KIB  # a real one has 150 bytes
    metadata: int = 16 * MIB  # a hundred qubes take 300 KiB
    qubes: int = 20_000  # Qubes' own identifiers end at 2^16, real systems have a hundred
    members: int = 1_000_000  # 100 TiB in chunks of 100 MiB
    chunk: int = 128 * MIB  # the writers cut at 100 MiB; a whole chunk is held in memory
    name: int = 4096  # PATH_MAX
    depth: int = 256  # each level of the tree holds one open folder
    pax_header: int = 64 * KIB  # three times a path of 4 KiB, and numbers
    # R4's writer makes 52,000 runs a GiB, so this is 2 TiB of real trees. A map takes two to three
    # bytes a run in real images (300 MiB at this limit), and six at most (600 MiB); that of a file
    # in an image takes 24 bytes a run
    sparse_entries: int = 100_000_000
    image_extents: int = 2_000_000  # 48 MiB; ext4 has few: this is 8 GiB in single blocks
    # each takes 600 bytes; more than anybody reads, and programs need each name
    copy_losses: int = 50_000
    # one lost chunk of an uncompressed image can be 5,000 runs; each takes 150 bytes in a report
    damaged_ranges: int = 50_000
    file_size: int = 64 * TIB  # far larger than any volume of Qubes
    # large source trees have millions; a name's fingerprint costs 80 bytes while its tree is made
    tree_entries: int = 5_000_000
    tree_deferred: int = 64 * MIB  # 400,000 folders and symbolic links
    trailing_zeros: int = 1 * MIB  # tar's default record is 10 KiB
    zeros: int = 256 * MIB  # two lost chunks; reading them from an empty stick takes some seconds
    front: int = 4 * GIB  # past the boot and swap partitions of a disk; 40 s from a slow stick
    decoder_memory: int = 160 * MIB  # xz -9 takes 65 MiB, zstd --long=27 takes 128 MiB
    # each stream costs the set-up of a decoder; pbzip2 writes one for 900 KB, bgzip one for 64 KB
    small_streams: int = 1000
    compressed_excess: int = 4 * MIB  # no compressor makes data 2 % larger; bzip2 holds 900 KB back
    journal: int = 64 * MIB  # 100,000 files, with two entries of some 300 bytes each
    read_all: int = 1 * GIB  # a caller that reads more at once most likely does so by mistake
