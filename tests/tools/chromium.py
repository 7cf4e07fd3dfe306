"""A headless Chromium, told what to do over the two pipes of its DevTools protocol (JSON, each message ended by a NUL)."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LIMIT = 20.0
"""Seconds for an answer, and for what is waited for."""
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run", "--disable-extensions",
    "--disable-lcd-text", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--remote-debugging-pipe",
)  # fmt: skip

needs_chromium = pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed")


@dataclass
class Browser:
    """The browser, its one end of the pipes, and the events that came and nobody has asked for."""

    commands: int
    answers: int
    events: list[dict[str, Any]] = field(default_factory=list)
    _count: int = 0
    _rest: bytes = b""

    def ask(self, method: str, session: str = "", **parameters: Any) -> dict[str, Any]:
        """Return what a method answers; events that come before it are kept."""
        self._count += 1
        message = {"id": self._count, "method": method, "params": parameters}
        text = json.dumps(message | ({"sessionId": session} if session else {})).encode() + b"\0"
        while text:
            text = text[os.write(self.commands, text) :]
        until = time.monotonic() + LIMIT
        while True:
            answer = self._next(until)
            if answer.get("id") == self._count:
                assert "error" not in answer, f"{method}: {answer['error']}"
                result: dict[str, Any] = answer["result"]
                return result
            self.events.append(answer)

    def tab(self) -> Tab:
        """Return a new, empty tab."""
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        tab = Tab(self, session)
        for domain in ("Page", "Runtime", "Log", "Network"):
            tab.ask(f"{domain}.enable")
        return tab

    def _next(self, until: float) -> dict[str, Any]:
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self.answers], [], [], max(0.0, until - time.monotonic()))
            assert ready, "Chromium does not answer"
            piece = os.read(self.answers, 1 << 20)
            assert piece, "Chromium ended"
            self._rest += piece
        text, _, self._rest = self._rest.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        return message


@dataclass
class Tab:
    """A page that is looked at."""

    browser: Browser
    session: str

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Return what a method answers for this tab."""
        return self.browser.ask(method, self.session, **parameters)

    def size(self, width: int, height: int, scale: float = 1) -> None:
        """Set the window's size in CSS pixels, and how many dots each has; narrow ones are phones."""
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=width < 500)  # fmt: skip

    def scheme(self, name: str) -> None:
        """Prefer `light` or `dark`."""
        feature = {"name": "prefers-color-scheme", "value": name}
        self.ask("Emulation.setEmulatedMedia", features=[feature])

    def scripts(self, *, on: bool) -> None:
        """Switch the page's own JavaScript on or off; `value` works anyway."""
        self.ask("Emulation.setScriptExecutionDisabled", value=not on)

    def go(self, url: str) -> None:
        """Load a page, and wait until it is there."""
        answer = self.ask("Page.navigate", url=url)
        assert "errorText" not in answer, f"{url}: {answer['errorText']}"
        self.wait(f"document.readyState === 'complete' && location.href === {json.dumps(url)}")

    def value(self, expression: str) -> Any:
        """Return what an expression is in the page."""
        answer = self.ask("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def wait(self, expression: str) -> None:
        """Wait until an expression is true in the page."""
        until = time.monotonic() + LIMIT
        while not self.value(expression):
            assert time.monotonic() < until, f"{expression} does not come true"
            time.sleep(0.05)

    def press(self, key: str, code: int) -> None:
        """Press and let go a key."""
        for kind in ("keyDown", "keyUp"):
            self.ask("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code)

    def picture(self, path: Path | None = None, *, whole: bool = False) -> bytes:
        """Return what is seen, or the whole page, as PNG; kept at `path`, too."""
        shown = base64.b64decode(self.ask("Page.captureScreenshot", captureBeyondViewport=whole)["data"])
        if path:
            path.write_bytes(shown)
        return shown

    def complaints(self) -> list[str]:
        """Return all that the console and the log said so far, of this tab: errors, and violations of the policy."""
        mine = [one for one in self.browser.events if one.get("sessionId") == self.session]
        texts = [one["params"]["entry"]["text"] for one in mine if one["method"] == "Log.entryAdded"]
        raised = {"Runtime.exceptionThrown", "Runtime.consoleAPICalled"}
        return texts + [json.dumps(one["params"])[:500] for one in mine if one["method"] in raised]


@contextmanager
def chromium() -> Iterator[Browser]:
    """Run a browser with a profile of its own while the block is entered."""
    inward, outward = os.pipe(), os.pipe()
    with TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True) as profile:
        # descriptors 3 and 4 are the browser's ends, whatever they are here
        script = f'exec chromium "$@" 3<&{inward[0]} 4>&{outward[1]}'
        argv = ["bash", "-c", script, "chromium", *FLAGS, f"--user-data-dir={profile}", "about:blank"]
        process = subprocess.Popen(
            argv, pass_fds=(inward[0], outward[1]), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env={**os.environ, "HOME": profile},
        )  # fmt: skip
        os.close(inward[0])
        os.close(outward[1])
        browser = Browser(inward[1], outward[0])
        try:
            yield browser
        finally:
            with contextlib.suppress(OSError, AssertionError):
                browser.ask("Browser.close")
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            os.close(inward[1])
            os.close(outward[0])
