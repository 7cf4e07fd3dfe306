"""Each bad cluster.yaml of this folder, and exactly what is said of it (`--update-golden` renews the texts)."""

from __future__ import annotations

from pathlib import Path

import pytest

from pibake import config
from pibake.config.problems import display
from pibake.errors import ConfigError

HERE = Path(__file__).parent
CASES = sorted(HERE.glob("*.yaml"))
BASES = ("debian-12", "debian-13", "ubuntu-24.04")


def complaint(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        config.load(path, bases=BASES)
    shown = display(path).removesuffix(path.name)
    return f"{caught.value}\n".replace(f"{HERE}/", "<here>/").replace(shown, "")


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_a_bad_file_is_refused_with_exactly_this_text(path: Path, update_golden: bool) -> None:
    said = complaint(path)
    golden = path.with_suffix(".txt")
    if update_golden:
        golden.write_text(said, "utf-8")
    assert said == golden.read_text("utf-8")


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_no_complaint_repeats_a_secret(path: Path) -> None:
    assert "hunter2" not in complaint(path)


def test_every_text_belongs_to_a_case() -> None:
    assert sorted(path.stem for path in HERE.glob("*.txt")) == sorted(path.stem for path in CASES)
