"""Makes Qubes OS backups by driving the programs that Qubes itself drives: `BackupMaker` those of
format 4, `Format3Maker` and `Format2Maker` the older ones.

GNU tar writes the inner and the outer archives, the compression filter is the program that the
header names, `scrypt` or `openssl` encrypts each chunk. Only two parts are written here: Qubes'
own writer of sparse images (`tarwriter`) and qubes.xml (`qubesxml`, `collection`). Nothing of the
product is used, so that what agrees with these backups agrees with the real tools.

    maker = BackupMaker(tmp_path)
    maker.add_qube("work", files={"private.img": image_path, "firewall.xml": b"<firewall/>"})
    backup = maker.write(tmp_path / "backup")
"""

from tests.maker.backup import BackupMaker, published_header
from tests.maker.collected import Collector, Member, Qube, assemble
from tests.maker.damage import (
    append_bytes,
    cut,
    drop,
    extend,
    flip_byte,
    flip_file_byte,
    forged_archive,
    get,
    rename,
    replace,
    swap,
    truncate,
)
from tests.maker.debugfs import Listed, contents, debugfs, entries, index_folders
from tests.maker.disks import make_gpt, make_mbr
from tests.maker.format2 import RELEASE_CANDIDATE, Format2Maker
from tests.maker.format3 import Format3Maker
from tests.maker.images import make_ext4, make_sparse
from tests.maker.old import FOLDER_ARCHIVES, HMAC_TEXTS, OldMaker
from tests.maker.oldprocedure import published_procedure_2, published_procedure_3
from tests.maker.procedure import extract_outer, published_procedure
from tests.maker.qubesxml import Settings
from tests.maker.stored import outer_member, scrypt_encrypt, split_chunks
from tests.maker.tarwriter import inner_tar, qubes_tarwriter, sparse_map, write_sparse_tar
from tests.maker.tools import FILTERS, PROGRAMS, missing_tools, run

__all__ = [
    "FILTERS",
    "FOLDER_ARCHIVES",
    "HMAC_TEXTS",
    "PROGRAMS",
    "RELEASE_CANDIDATE",
    "BackupMaker",
    "Collector",
    "Format2Maker",
    "Format3Maker",
    "Listed",
    "Member",
    "OldMaker",
    "Qube",
    "Settings",
    "append_bytes",
    "assemble",
    "contents",
    "cut",
    "debugfs",
    "drop",
    "entries",
    "extend",
    "extract_outer",
    "flip_byte",
    "flip_file_byte",
    "forged_archive",
    "get",
    "index_folders",
    "inner_tar",
    "make_ext4",
    "make_gpt",
    "make_mbr",
    "make_sparse",
    "missing_tools",
    "outer_member",
    "published_header",
    "published_procedure",
    "published_procedure_2",
    "published_procedure_3",
    "qubes_tarwriter",
    "rename",
    "replace",
    "run",
    "scrypt_encrypt",
    "sparse_map",
    "split_chunks",
    "swap",
    "truncate",
    "write_sparse_tar",
]
