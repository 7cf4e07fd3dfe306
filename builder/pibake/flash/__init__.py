"""Cards: which devices there are and which may be written, writing images onto them, and reading back what was written."""
