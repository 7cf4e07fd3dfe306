"""Logging for library code: records of the `pibake` logger, shown by `cli` with -v."""

from __future__ import annotations

import logging

log = logging.getLogger("pibake")
