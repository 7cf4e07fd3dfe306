"""Disk images: partition tables, file systems in them, copies of them."""
