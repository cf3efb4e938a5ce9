"""``python -m partrm``."""

from partrm.cli import entry

if __name__ == "__main__":  # processes of --workers import this module under another name
    entry()
