"""`pibake doctor`, as a script sees it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def test_the_exit_status_says_that_something_is_missing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pibake", "doctor", "build", "--json"],
        capture_output=True, text=True, check=False, env={**os.environ, "PATH": str(tmp_path)},
    )  # fmt: skip
    missing = {one["name"] for one in json.loads(done.stdout) if one["status"] == "missing"}
    assert (done.returncode, "mtools" in missing) == (3, True)
