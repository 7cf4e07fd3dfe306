"""Headless Chromium, driven by the DevTools protocol over a pipe: messages are JSON, and end with NUL (--remote-debugging-pipe)."""

from __future__ import annotations

import base64
import itertools
import json
import os
import shutil
import subprocess
import tempfile
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PROGRAM = shutil.which("chromium")
LIMIT = 30.0


class Tab:
    """A page that is looked at; `trouble` is what it has complained of: errors, and what its policy forbids."""

    def __init__(self, reader: int, writer: int) -> None:
        self.trouble: list[str] = []
        self._reader = os.fdopen(reader, "rb", buffering=0)
        self._writer = os.fdopen(writer, "wb", buffering=0)
        self._ids = itertools.count(1)
        self._session = ""
        self._rest = b""
        self._loaded = False
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.ask(f"{domain}.enable")

    def close(self) -> None:
        self._writer.close()
        self._reader.close()

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Return what the browser answers."""
        number = next(self._ids)
        message = {"id": number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        self._writer.write(json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return dict(answer["result"])

    def screen(self, width: int, height: int = 900, *, scale: float = 1.0, dark: bool = False) -> None:
        """Be a screen of so many pixels, with this taste."""
        mobile = width < 600
        self.ask(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=mobile,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.ask("Emulation.setEmulatedMedia", features=[scheme])

    def scripts(self, *, run: bool) -> None:
        """Let pages run their scripts, or not."""
        self.ask("Emulation.setScriptExecutionDisabled", value=not run)

    def open(self, url: str) -> None:
        """Go to a page, and wait until it is there."""
        self._loaded = False
        self.ask("Page.navigate", url=url)
        deadline = time.monotonic() + LIMIT
        while not self._loaded:
            assert time.monotonic() < deadline, url
            self._next()

    def value(self, expression: str) -> Any:
        """Return what an expression comes to in the page."""
        found = self.ask("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def until(self, expression: str) -> None:
        """Wait until an expression is true."""
        deadline = time.monotonic() + LIMIT
        while not self.value(expression):
            assert time.monotonic() < deadline, expression
            time.sleep(0.05)

    def picture(self, path: Path, *, whole: bool = True) -> None:
        """Write a picture of the page, also of what is below the screen, as PNG."""
        found = self.ask("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(found["data"]))

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            more = self._reader.read(1 << 16)
            assert more, "the browser has ended"
            self._rest += more
        line, _, self._rest = self._rest.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        method, parameters = message.get("method"), message.get("params", {})
        if method == "Page.loadEventFired":
            self._loaded = True
        elif method == "Log.entryAdded" and parameters["entry"]["level"] in {"error", "warning"}:
            self.trouble.append(parameters["entry"]["text"])
        elif method == "Runtime.exceptionThrown":
            self.trouble.append(str(parameters["exceptionDetails"]))
        return message


@contextmanager
def tab() -> Iterator[Tab]:
    """Run the browser with one page; its profile is gone afterwards."""
    assert PROGRAM
    theirs, writer = os.pipe()
    reader, other = os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        argv = [
            PROGRAM, "--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", "--hide-scrollbars",
            "--disable-background-networking", "--no-first-run", f"--user-data-dir={profile}", "about:blank",
        ]  # fmt: skip
        # it reads at descriptor 3 and writes at 4
        moved = f'exec 3<&{theirs} 4>&{other}; exec "$@"'
        child = subprocess.Popen(
            ["bash", "-c", moved, "bash", *argv], pass_fds=(theirs, other),
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(theirs)
        os.close(other)
        found = Tab(reader, writer)
        try:
            yield found
        finally:
            found.close()
            child.terminate()
            child.wait(10)
