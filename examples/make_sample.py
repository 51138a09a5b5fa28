"""Makes the sample backup again: `python -m examples.make_sample`, from the project's folder.

It writes `sample-backup` and `sample-passphrase.txt` beside this file, with the programs that
Qubes itself uses.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from tests.maker import BackupMaker, make_ext4

HERE = Path(__file__).parent
PASSPHRASE = "a sample passphrase"
MTIME = 1_726_567_872  # 2024-09-17 10:11:12 UTC
IMAGE_BYTES = 8 << 20

PERSONAL = {
    "home/user/Documents/letter.txt": "Dear reader,\n\nthis letter was in a Qubes OS backup.\n",
    "home/user/Documents/shopping.csv": "item,count\ntea,2\nlemons,3\n",
    "home/user/.bashrc": "alias ll='ls -l'\n",
}
VAULT = {
    "home/user/passwords.txt": "The real ones are elsewhere.\n",
}
DOM0 = {
    ".config/qubes/layout.conf": "[desktop]\nworkspaces=4\n",
    "notes.txt": "Back up once a week.\n",
}
FIREWALL = b"""\
<firewall version="2">
  <rules>
    <rule>
      <properties>
        <property name="action">accept</property>
      </properties>
    </rule>
  </rules>
</firewall>
"""


def make_tree(folder: Path, files: dict[str, str]) -> Path:
    """A folder with those files, all of one time."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    for path in [folder, *folder.rglob("*")]:
        os.utime(path, (MTIME, MTIME))
    return folder


def main() -> None:
    """Writes the two files."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        personal = make_ext4(folder / "personal", IMAGE_BYTES, make_tree(folder / "p", PERSONAL))
        vault = make_ext4(folder / "vault", IMAGE_BYTES, make_tree(folder / "v", VAULT))
        maker = BackupMaker(
            folder / "maker",
            passphrase=PASSPHRASE,
            scrypt_options=("--logN", "14", "-r", "8", "-p", "1"),
        )
        maker.add_qube(
            "personal", label="yellow", files={"private.img": personal, "firewall.xml": FIREWALL}
        )
        maker.add_qube("vault", label="black", netvm="", files={"private.img": vault})
        maker.add_home("user", make_tree(folder / "user", DOM0))
        maker.write(HERE / "sample-backup")
    (HERE / "sample-passphrase.txt").write_text(PASSPHRASE + "\n")


if __name__ == "__main__":
    main()
