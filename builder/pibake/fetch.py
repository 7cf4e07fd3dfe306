"""Downloads over HTTP that survive bad networks.

What has arrived is kept in a `.part` file, with the server's validator (RFC 9110, section 8.8) in a small file
beside it. The next attempt, or the next run, asks for the rest with `Range` and `If-Range`, so that a file that was
changed meanwhile is never glued to the old beginning.
"""

from __future__ import annotations

import email.utils
import hashlib
import json
import re
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from pibake import space, web
from pibake.errors import FetchError, VerificationError
from pibake.log import log

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import requests

    from pibake.progress import Progress, Task


class StartOver(Exception):
    """The bytes given so far are no beginning of the file; take `chunks` again from the first byte."""


class Download:
    """One file on its way from `url` into `part`; with `only_https` from nowhere that anyone on the way could speak for."""

    def __init__(
        self, url: str, part: Path, policy: web.Policy | None = None, *, only_https: bool = False
    ) -> None:
        self.url, self.part, self.policy, self.only_https = url, part, policy or web.Policy(), only_https
        self.session = web.session()
        self.resumed = False
        self._notes = part.with_name(f"{part.name}.json")
        self._failures = 0
        self._furthest = 0
        self._remote = self._known()

    @property
    def modified(self) -> int:
        """Return when the server says the file was changed last, in Unix time; 0 if it does not."""
        with suppress(TypeError, ValueError):
            return int(email.utils.parsedate_to_datetime(self._remote["modified"]).timestamp())
        return 0

    def discard(self) -> None:
        """Remove what has arrived."""
        self.part.unlink(missing_ok=True)
        self._notes.unlink(missing_ok=True)
        self._remote = {}
        self.resumed = False

    def chunks(self, task: Task) -> Iterator[bytes]:
        """Yield the whole file from its first byte: what is on disk already, then what the server sends.

        Raises:
            FetchError: the server refused, or did not come back in time.
            StartOver: the file is not the one whose beginning was given; nothing of it is left on disk.
        """
        have = 0
        if self._remote and self.part.exists():
            with self.part.open("rb") as file:
                while chunk := file.read(web.CHUNK):
                    have += len(chunk)
                    self.resumed = True
                    task.update(have, total=self._remote.get("total"), note="from an earlier attempt")
                    yield chunk
        else:
            self.discard()
        while not self._complete(have):
            try:
                for chunk in self._attempt(have):
                    have += len(chunk)
                    if have > self._furthest:
                        self._failures, self._furthest = 0, have
                    task.update(have, total=self._remote.get("total"), note="")
                    yield chunk
                if self._remote.get("total") is None:
                    return
            except web.Transient as error:
                self._wait(error, task, have)

    def _complete(self, have: int) -> bool:
        return bool(self._remote) and self._remote.get("total") == have

    def _attempt(self, have: int) -> Iterator[bytes]:
        """Ask once for everything from byte `have` on, and yield it as it is written to the part."""
        with web.ask(self.session, self.url, self.policy, self._range(have)) as answer:
            if self.only_https:
                _refuse_plain(self.url, answer)
            if have and not self._continues(answer, have):
                log.debug("%s: starting over (status %s)", self.url, answer.status_code)
                self.discard()
                raise StartOver
            if not have:
                self._learn(answer)
            total = self._remote.get("total")
            space.need(self.part.parent, 2 * total - have if total else 0, f"download and unpack {self.url}")
            with space.room(self.part, f"download {self.url}"), self.part.open("ab") as file:
                for chunk in web.body(answer):
                    file.write(chunk)
                    have += len(chunk)
                    yield chunk
            if total is not None and have < total:
                raise web.Transient(f"the server stopped after {have} of {total} bytes")
            if total is not None and have > total:
                self.discard()
                raise FetchError(
                    f"{self.url}: the server sent {have} bytes instead of {total}", "try another mirror"
                )

    def _range(self, have: int) -> dict[str, str]:
        if not have:
            return {}
        headers = {"Range": f"bytes={have}-"}
        # Without a validator the digest, which every caller checks, still tells a wrong join.
        validator = self._remote.get("etag") or self._remote.get("modified")
        return {**headers, "If-Range": validator} if validator else headers

    def _continues(self, answer: requests.Response, have: int) -> bool:
        """Return whether an answer goes on exactly where the part ends."""
        if answer.status_code != 206:
            return False  # 200: the server ignores Range, or the file changed; 416: it became shorter
        span = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", answer.headers.get("Content-Range", ""))
        if not span or int(span[1]) != have:
            return False
        return span[2] in {"*", str(self._remote.get("total"))}

    def _learn(self, answer: requests.Response) -> None:
        """Remember what identifies the file, before its first byte is stored."""
        etag = answer.headers.get("ETag", "")
        self._remote = {
            "url": self.url,
            "etag": "" if etag.startswith("W/") else etag,  # a weak one must not be used with If-Range
            "modified": answer.headers.get("Last-Modified", ""),
            "total": web.length(answer),
        }
        with space.room(self._notes, f"download {self.url}"):
            self._notes.write_text(json.dumps(self._remote), "utf-8")

    def _known(self) -> dict[str, Any]:
        """Return what an earlier run learnt about the same URL."""
        with suppress(FileNotFoundError, ValueError):
            notes = json.loads(self._notes.read_text("utf-8"))
            if isinstance(notes, dict) and notes.get("url") == self.url:
                return notes
        return {}

    def _wait(self, error: web.Transient, task: Task, have: int) -> None:
        self._failures += 1
        pause = web.pause(self.url, error, self._failures, self.policy)
        task.update(have, note=f"{error}; attempt {self._failures + 1} in {pause:.0f} s")
        time.sleep(pause)


def file(
    url: str,
    path: Path,
    sha256: str,
    *,
    origin: str,
    progress: Progress,
    policy: web.Policy | None = None,
) -> str:
    """Download a file and return its sha256 (hex); `path`.part keeps what has arrived when this fails.

    Args:
        url: where it is.
        path: where it goes, once it is whole and right.
        sha256: the digest it must have; "" takes any, over https only.
        origin: where that digest is from, for errors.
        progress: where to show progress.
        policy: how patient to be.

    Raises:
        FetchError: it could not be had.
        VerificationError: it has another digest.
    """
    download = Download(url, path.with_name(f"{path.name}.part"), policy, only_https=not sha256)
    while True:
        total = hashlib.sha256()
        try:
            with progress.task(f"download {url.rpartition('/')[2]}") as task:
                for chunk in download.chunks(task):
                    total.update(chunk)
        except StartOver:
            progress.say(f"{url}: the server cannot continue what has arrived; starting over")
            continue
        got = total.hexdigest()
        if sha256 in {"", got}:
            download.part.replace(path)
            download.discard()
            return got
        resumed = download.resumed  # then what an earlier attempt left may be what is wrong
        download.discard()
        if not resumed:
            raise VerificationError(
                f"the sha256 of {url}", expected=sha256, got=got, source=origin,
                hint="the file was damaged on its way, or is not the one that is meant",
            )  # fmt: skip
        progress.say(f"{url}: what an earlier attempt left is damaged; starting over")


def small(
    url: str, policy: web.Policy | None = None, limit: int = 1 << 20, *, only_https: bool = False
) -> bytes:
    """Return a small file, such as a list of digests, whole.

    Args:
        url: where it is.
        policy: how patient to be.
        limit: longest file to take, in bytes.
        only_https: refuse to be sent on to an address that anyone on the way could speak for.

    Raises:
        FetchError: as for `Download.chunks`; also when it is longer than `limit` bytes.
    """
    patience, failures = policy or web.Policy(), 0
    while True:
        try:
            return _whole(url, patience, limit, only_https=only_https)
        except web.Transient as error:
            failures += 1
            time.sleep(web.pause(url, error, failures, patience))


def _whole(url: str, policy: web.Policy, limit: int, *, only_https: bool) -> bytes:
    body = b""
    with web.session() as session, web.ask(session, url, policy, {}) as answer:
        if only_https:
            _refuse_plain(url, answer)
        for chunk in web.body(answer):
            body += chunk
            if len(body) > limit:
                raise FetchError(f"{url}: more than {limit} bytes, which no such file should have")
        if (web.length(answer) or 0) > len(body):
            raise web.Transient(f"the server stopped after {len(body)} bytes")
    return body


def _refuse_plain(url: str, answer: requests.Response) -> None:
    """Raise where an answer, or what led to it, came over a connection that anyone on the way could speak for."""
    for step in [*answer.history, answer]:
        if not step.url.startswith("https://"):
            raise FetchError(
                f"{url}: leads to {step.url}, which is not https, and nothing but https vouches for it",
                "another mirror may serve it itself",
            )
