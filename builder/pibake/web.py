"""One HTTP request, and what its answer means: go on, try again in a while, or give up."""

from __future__ import annotations

import email.utils
import random
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pibake import __version__
from pibake.errors import FetchError
from pibake.log import log

if TYPE_CHECKING:
    from collections.abc import Iterator

    import requests

CHUNK = 128 * 1024
TRANSIENT = {408, 425, 429, 500, 502, 503, 504}
"""Answers that may be another one in a while."""


@dataclass(frozen=True)
class Policy:
    """How patient a download is; times in seconds.

    Attributes:
        attempts: failures in a row, without a byte of progress, after which it gives up.
        backoff: wait after the first failure; it doubles with each one.
        longest: longest wait, also when a server asks for more with Retry-After.
        connect: time-out for a connection.
        read: time-out between two pieces of data.
    """

    attempts: int = 6
    backoff: float = 1.0
    longest: float = 120.0
    connect: float = 10.0
    read: float = 30.0


class Transient(Exception):
    """An attempt failed in a way that may pass; `wait` is how long the server asks to be left alone."""

    def __init__(self, why: str, wait: float = 0.0) -> None:
        super().__init__(why)
        self.wait = wait


def session() -> requests.Session:
    """Return a session; it honours http_proxy, https_proxy, no_proxy and REQUESTS_CA_BUNDLE by itself."""
    import requests  # noqa: PLC0415 - slow to import, and most runs ask nobody

    session = requests.Session()
    # "identity": the digest is that of the stored file, so it must not be compressed once more on the way.
    session.headers.update({"User-Agent": f"pibake/{__version__}", "Accept-Encoding": "identity"})
    return session


def ask(session: requests.Session, url: str, policy: Policy, headers: dict[str, str]) -> requests.Response:
    """Send a GET and return an answer with content; the rest becomes `Transient` or `FetchError`."""
    import requests  # noqa: PLC0415 - slow to import, and most runs ask nobody

    try:
        answer = session.get(url, headers=headers, stream=True, timeout=(policy.connect, policy.read))
    except (requests.ConnectionError, requests.Timeout) as error:
        raise Transient(reason(error)) from error
    except requests.RequestException as error:
        raise FetchError(f"{url}: {error}", "is the URL right?") from error
    if answer.status_code in {200, 206} or (answer.status_code == 416 and headers):
        # Some servers call a stored .gz "Content-Encoding: gzip"; requests would then unpack it on the way.
        answer.raw.headers.pop("Content-Encoding", None)
        return answer
    answer.close()
    status = f"{answer.status_code} {answer.reason}"
    if answer.status_code in TRANSIENT:
        raise Transient(f"the server answered {status}", retry_after(answer))
    raise FetchError(f"{url}: the server answered {status}", _advice(answer.status_code))


def body(answer: requests.Response) -> Iterator[bytes]:
    """Yield an answer's bytes as they come; a connection that breaks is `Transient`."""
    import requests  # noqa: PLC0415 - slow to import, and most runs ask nobody

    try:
        yield from answer.iter_content(CHUNK)
    except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
        raise Transient(f"the connection broke ({reason(error)})") from error


def length(answer: requests.Response) -> int | None:
    """Return how long the answer says it is, if it does."""
    value = answer.headers.get("Content-Length", "")
    return int(value) if value.isdigit() else None


def retry_after(answer: requests.Response) -> float:
    """Return the seconds in a Retry-After header, which holds seconds or a date (RFC 9110, section 10.2.3)."""
    value = answer.headers.get("Retry-After", "")
    if value.isdigit():
        return float(value)
    with suppress(TypeError, ValueError):
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    return 0.0


def pause(url: str, error: Transient, failures: int, policy: Policy) -> float:
    """Return how long to wait after so many failures in a row; too many are an error."""
    if failures >= policy.attempts:
        raise FetchError(
            f"{url}: {error}; gave up after {failures} attempts",
            "check the network (and http_proxy, https_proxy); what has arrived is kept, the same command goes on there",
        ) from error
    if error.wait > policy.longest:
        raise FetchError(f"{url}: {error} and asks to come back in {error.wait:.0f} s", "try again then")
    wait = policy.backoff * 2.0 ** (failures - 1) * random.uniform(0.5, 1.0)  # noqa: S311 - spreads a crowd, hides nothing
    log.debug("%s: %s; waiting", url, error)
    return min(max(wait, error.wait), policy.longest)


def reason(error: Exception) -> str:
    """Return the innermost cause of a network error: the outer ones only repeat the URL."""
    cause: BaseException = error
    while cause.__cause__ or cause.__context__:
        cause = cause.__cause__ or cause.__context__ or cause
    return str(cause) or type(cause).__name__


def _advice(status: int) -> str:
    match status:
        case 404 | 410:
            return "is the URL right? Vendors remove files when a newer release appears"
        case 401 | 403 | 407:
            return "the server (or a proxy) refuses access; a mirror may help"
        case _:
            return "try again later, or another mirror"
