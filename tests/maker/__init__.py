"""Makes Qubes OS backups of format 4 by driving the programs that Qubes itself drives.

GNU tar writes the inner and the outer archives, the compression filter is the program that the
header names, `scrypt` encrypts each chunk. Only two parts are written here: Qubes' own writer of
sparse images (`tarwriter`) and qubes.xml (`qubesxml`). Nothing of the product is used, so that
what agrees with these backups agrees with the real tools.

    maker = BackupMaker(tmp_path)
    maker.add_qube("work", files={"private.img": image_path, "firewall.xml": b"<firewall/>"})
    backup = maker.write(tmp_path / "backup")
"""

from tests.maker.backup import BackupMaker, Member, Qube, assemble, published_header
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
from tests.maker.images import make_ext4, make_sparse
from tests.maker.procedure import extract_outer, published_procedure
from tests.maker.stored import outer_member, scrypt_encrypt, split_chunks
from tests.maker.tarwriter import inner_tar, qubes_tarwriter, sparse_map, write_sparse_tar
from tests.maker.tools import FILTERS, PROGRAMS, missing_tools, run

__all__ = [
    "FILTERS",
    "PROGRAMS",
    "BackupMaker",
    "Member",
    "Qube",
    "append_bytes",
    "assemble",
    "cut",
    "drop",
    "extend",
    "extract_outer",
    "flip_byte",
    "flip_file_byte",
    "forged_archive",
    "get",
    "inner_tar",
    "make_ext4",
    "make_sparse",
    "missing_tools",
    "outer_member",
    "published_header",
    "published_procedure",
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
