"""``python -m partrm``."""

import sys

from partrm.cli import main

if __name__ == "__main__":  # processes of --workers import this module under another name
    sys.exit(main())
