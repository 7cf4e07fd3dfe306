"""The systemd unit of `pibake serve`, judged by systemd's own tools."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pibake.errors import PibakeError
from pibake.serve import unit

THRESHOLD = 34
"""Of `systemd-analyze security`, in tenths; a service without any limits has 96."""

judged = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd-analyze")


def installed(tmp_path: Path) -> Path:
    path = tmp_path / "pibake-serve.service"
    text = unit.render(
        [sys.executable, "-m", "pibake", "serve", "--config", "/srv/100% $HOME/my cluster.yaml"],
        Path("/srv"),
        [Path("/srv/100% mine/netboot"), Path("/var/cache/pibake")],
    )
    unit.install(text, path)
    return path


def test_it_starts_the_command_and_may_write_to_its_folders_only(tmp_path: Path) -> None:
    lines = installed(tmp_path).read_text().splitlines()
    assert (
        f'ExecStart="{sys.executable}" "-m" "pibake" "serve" "--config" "/srv/100%% $$HOME/my cluster.yaml"'
        in lines
    )
    assert 'ReadWritePaths="-/srv/100%% mine/netboot" "-/var/cache/pibake"' in lines
    assert "ProtectSystem=strict" in lines


@judged
def test_systemd_finds_nothing_wrong_with_it(tmp_path: Path) -> None:
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", installed(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert [line for line in done.stderr.splitlines() if "pibake" in line] == []
    assert done.returncode == 0


@judged
def test_systemd_judges_it_well_confined(tmp_path: Path) -> None:
    argv = [
        "systemd-analyze",
        "security",
        "--offline=true",
        f"--threshold={THRESHOLD}",
        str(installed(tmp_path)),
    ]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout.splitlines()[-1]


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(PibakeError, match="No such file"):
        unit.install("", tmp_path / "no/pibake-serve.service")


def test_a_name_that_would_begin_another_setting_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="control character"):
        unit.render(["/usr/bin/pibake"], Path("/srv"), [tmp_path / "a\nUser=x"])
