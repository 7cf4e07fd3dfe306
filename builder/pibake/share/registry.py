"""A repository of an OCI registry: are these bytes there, put them there, get them."""

from __future__ import annotations

import hashlib
import json
from contextlib import closing
from typing import TYPE_CHECKING, BinaryIO, TypeVar
from urllib.parse import urljoin

from pibake import web
from pibake.errors import FetchError, VerificationError
from pibake.share.artifact import INDEXES, LARGEST, MANIFEST
from pibake.share.login import Login

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pibake.crew import Crew
    from pibake.share.artifact import Blob
    from pibake.share.reference import Reference
    from pibake.share.transport import Answer

PATIENCE = web.Policy(connect=30, read=60)
"""A registry takes its time to hash and move 64 MiB before it answers."""
BLOCK = 256 * 1024
ACCEPT = ", ".join([MANIFEST, "application/vnd.docker.distribution.manifest.v2+json", *INDEXES])
Made = TypeVar("Made")


class Repository:
    """A repository, for several threads at once.

    Args:
        reference: which.
        crew: the threads that ask, and who tells them to stop.
        policy: how patient to be.
        ours: whether it is the one that PIBAKE_REGISTRY_USER is for.
    """

    def __init__(
        self, reference: Reference, crew: Crew, policy: web.Policy | None = None, *, ours: bool = True
    ) -> None:
        self.reference, self.crew, self.policy = reference, crew, policy or PATIENCE
        self.login = Login(reference, self.policy, ours=ours)
        self.url = f"{self.login.root}{reference.repository}"

    def connect(self) -> None:
        """Find out whether this is a registry, and how it wants to be told who asks."""
        self._again(self.login.find_out)

    def has(self, blob: Blob) -> bool:
        """Return whether the registry has a blob already."""
        answer = self._again(lambda: self.login.ask("HEAD", f"{self.url}/blobs/{blob.digest}"))
        if answer.status_code == 404:
            return False
        self._expect(answer, {200}, f"asked for {blob.digest}")
        return int(answer.headers.get("Content-Length", blob.size)) == blob.size

    def put(self, blob: Blob, source: BinaryIO, on_bytes: Callable[[int], None]) -> None:
        """Send a blob from a file (distribution-spec, "POST then PUT")."""
        sent = 0

        def count(more: int) -> None:
            nonlocal sent
            sent += more
            on_bytes(more)

        def attempt() -> Answer:
            nonlocal sent
            on_bytes(-sent)
            sent = 0
            opened = self.login.ask("POST", f"{self.url}/blobs/uploads/", data=b"")
            self._expect(opened, {202}, "asked to take a blob")
            place = urljoin(f"{self.url}/blobs/uploads/", opened.headers.get("Location", ""))
            place += f"{'&' if '?' in place else '?'}digest={blob.digest}"
            headers = {"Content-Type": "application/octet-stream"}
            return self.login.ask("PUT", place, data=_Body(source, blob.size, count), headers=headers)

        self._expect(self._again(attempt), {201}, f"sent {blob.digest}")

    def get(self, blob: Blob, target: BinaryIO, what: str, on_bytes: Callable[[int], None]) -> None:
        """Write a blob to a file, which is emptied first; its digest is checked.

        Raises:
            VerificationError: the registry sends other bytes.
        """

        def attempt() -> None:
            target.seek(0)
            target.truncate()
            total, size = hashlib.sha256(), 0
            try:
                with closing(self.login.ask("GET", f"{self.url}/blobs/{blob.digest}", stream=True)) as answer:
                    self._expect(answer, {200}, f"asked for {what}, {blob.digest}")
                    for chunk in web.body(answer):
                        total.update(chunk)
                        size += target.write(chunk)
                        on_bytes(len(chunk))
                        if size > blob.size:
                            break
            except web.Transient:
                on_bytes(-size)
                raise
            if total.hexdigest() != blob.sha256:
                raise VerificationError(
                    f"what {self.reference.registry} sends for {what}",
                    expected=blob.digest,
                    got=f"sha256:{total.hexdigest()} ({size} of {blob.size} bytes)",
                    source="the manifest",
                    hint="the registry's storage is damaged: delete the blob there, and push again"
                    if self.login.ours
                    else "the registry's storage is damaged, or somebody between it and you changes things",
                )

        self._again(attempt)
        target.seek(0)

    def manifest(self) -> bytes:
        """Return the manifest that is meant by the reference.

        Raises:
            VerificationError: it was asked for by digest, and is another one.
        """

        def attempt() -> bytes:
            url = f"{self.url}/manifests/{self.reference.target}"
            with closing(self.login.ask("GET", url, headers={"Accept": ACCEPT}, stream=True)) as answer:
                self._expect(answer, {200}, f"asked for {self.reference}")
                data = b""
                for chunk in web.body(answer):
                    data += chunk
                    if len(data) > LARGEST:
                        raise FetchError(
                            f"the manifest of {self.reference} is larger than registries have to take"
                        )
                return data

        data = self._again(attempt)
        got = hashlib.sha256(data).hexdigest()
        if self.reference.sha256 not in {"", got}:
            raise VerificationError(
                f"the manifest of {self.reference}", expected=self.reference.sha256, got=got, source="its name",
                hint="the registry sends something else than it was asked for",
            )  # fmt: skip
        return data

    def put_manifest(self, data: bytes) -> str:
        """Let the tag stand for a manifest, whose blobs are there; return its digest."""
        url, headers = f"{self.url}/manifests/{self.reference.tag}", {"Content-Type": MANIFEST}
        answer = self._again(lambda: self.login.ask("PUT", url, data=data, headers=headers))
        self._expect(answer, {201}, f"sent the manifest of {self.reference}")
        return f"sha256:{hashlib.sha256(data).hexdigest()}"

    def _again(self, attempt: Callable[[], Made]) -> Made:
        """Return what an attempt makes; one that failed in a way that may pass is repeated, with longer and longer waits."""
        failures = 0
        while True:
            try:
                return attempt()
            except web.Transient as error:
                failures += 1
                self.crew.sleep(web.pause(str(self.reference), error, failures, self.policy))

    def _expect(self, answer: Answer, wanted: set[int], did: str) -> None:
        """Raise `FetchError` unless an answer has one of the codes `wanted`; `did` is what was done, in the past."""
        status = answer.status_code
        if status in wanted:
            return
        said = _said(answer)
        answer.close()
        if status in {401, 403}:
            raise self.login.refused(f"{status} {answer.reason} when {did}")
        hints = {
            404: "is the name right? `pibake push` puts it there, and again what was deleted there"
            if self.login.ours
            else "is the name right, with its tag or version?",
            413: "something before the registry (a proxy) takes no bodies of 64 MiB; raise its limit",
            405: "is it a registry that takes OCI artifacts?",
        }
        raise FetchError(
            f"{self.reference.registry} answers {status} {answer.reason} when {did}{said}",
            hints.get(status, "the registry's own log may say more"),
        )


class _Body:
    """A file as the body of a request: sent in blocks, and from its beginning again if the request is repeated."""

    def __init__(self, file: BinaryIO, size: int, on_bytes: Callable[[int], None]) -> None:
        self.file, self.size, self.on_bytes = file, size, on_bytes

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[bytes]:
        self.file.seek(0)
        while block := self.file.read(BLOCK):
            yield block
            self.on_bytes(len(block))


def _said(answer: Answer) -> str:
    """Return the message in an answer's errors (distribution-spec, "Error Codes"), with a colon; "" if there is none."""
    try:
        first = json.loads(next(answer.iter_content(BLOCK), b""))["errors"][0]
        return f": {first['code']} {first['message']}"[:200]
    except (KeyError, IndexError, TypeError, ValueError, OSError):
        return ""
