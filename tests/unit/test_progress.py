"""Which kind of progress a stream gets."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from pibake.progress import Bars, Plain, for_stream

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(("term", "kind"), [("xterm", Bars), ("", Bars), ("dumb", Plain), ("unknown", Plain)])
def test_a_terminal_gets_bars_if_it_can_draw_them_anew(
    monkeypatch: pytest.MonkeyPatch, term: str, kind: type
) -> None:
    monkeypatch.setenv("TERM", term)
    controller, terminal = os.openpty()
    with os.fdopen(controller, "rb"), os.fdopen(terminal, "w", encoding="utf-8") as stream:
        assert type(for_stream(stream)) is kind


def test_what_is_no_terminal_gets_plain_lines(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TERM", "xterm")
    with (tmp_path / "log").open("w", encoding="utf-8") as stream:
        assert isinstance(for_stream(stream), Plain)
