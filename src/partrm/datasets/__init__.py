"""PartDrag-4D on disk: built, checked and looked at."""
