"""``python -m partrm``."""

import sys

from partrm.cli import main

sys.exit(main())
