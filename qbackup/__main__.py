"""``python -m qbackup``."""

import sys

from qbackup.cli.main import main

sys.exit(main())
