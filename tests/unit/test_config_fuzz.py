"""However a cluster.yaml is mangled, it loads or is refused with places; nothing else is raised."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from pibake import config
from pibake.errors import ConfigError
from pibake.plan import plan

INVALID = Path(__file__).parents[1] / "invalid"
PIECES = [
    ":", ": ", "- ", "\n", "\n  ", "[", "]", "{", "}", ",", "#", "&a ", "*a", "!x ", "!!int ", '"', "'", "|\n", ">-\n", "? ",
    "<<", "~", "null", "\t", "\\", "%", "@", "`", "---\n", "...\n", "0", "010", "é", "部", "\x85", "\u2028", "\x00",
    "hostname", "address", "password: x", "file: ", "url: ", "192.168.10.0/24", "::", "/", "%eth0", "~nobody-here/", "\ud7ff",
]  # fmt: skip


def mangled(text: str, dice: random.Random) -> bytes:
    for _ in range(dice.randint(1, 4)):
        at, to = sorted((dice.randrange(len(text) + 1), dice.randrange(len(text) + 1)))
        match dice.randrange(5):
            case 0:
                text = text[:at] + dice.choice(PIECES) + text[at:]
            case 1:
                text = text[:at] + text[min(at + dice.randint(1, 12), len(text)) :]
            case 2:
                text = text[:at] + text[at:to][:80] * 2 + text[at:]
            case 3:
                lines = text.splitlines(keepends=True)
                dice.shuffle(lines)
                text = "".join(lines[:40])
            case 4:
                text = text[:at] + text[at:].replace(" ", "", 1)
    raw = text.encode()
    return raw[: dice.randrange(len(raw) + 1)] if dice.random() < 0.1 else raw


def complaint(path: Path) -> tuple[str, ...] | None:
    try:
        plan(config.load(path, bases=("debian-13",)))
    except ConfigError as error:
        return error.problems
    return None


@pytest.mark.parametrize("seed", range(8))
def test_mangled_files_are_refused_in_words(tmp_path: Path, seed: int) -> None:
    dice = random.Random(seed)  # noqa: S311 - the same dice every time
    texts = [path.read_bytes().decode("utf-8", "replace") for path in sorted(INVALID.glob("*.yaml"))]
    path = tmp_path / "cluster.yaml"
    for _ in range(150):
        path.write_bytes(mangled(dice.choice(texts), dice))
        said = complaint(path)
        assert said is None or all("cluster.yaml" in problem for problem in said)
        assert not any(word in str(said) for word in ("pydantic", "Input should", "Traceback"))
