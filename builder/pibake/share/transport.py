"""HTTP for registries: secrets only over https or within this host, time-outs on everything, errors that say what to do."""

from __future__ import annotations

import ipaddress
from contextlib import suppress
from http.cookiejar import DefaultCookiePolicy
from typing import Any
from urllib.parse import urlsplit

import requests

from pibake import __version__, web
from pibake.errors import FetchError
from pibake.web import Transient

Answer = requests.Response


def is_loopback(host: str) -> bool:
    """Return whether a host, by name or address, is this one: only there plain http is spoken."""
    if host == "localhost":
        return True
    with suppress(ValueError):
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    return False


class Session(requests.Session):
    """A session that asks and redirects only where nobody can listen, and raises pibake's own errors.

    It honours REQUESTS_CA_BUNDLE and https_proxy; it does not look at ~/.netrc, and keeps no cookies (Harbor takes whoever sends
    them for a browser).
    """

    def __init__(self, policy: web.Policy) -> None:
        super().__init__()
        self.policy = policy
        self.headers.update({"User-Agent": f"pibake/{__version__}", "Accept-Encoding": "identity"})
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        self.auth = lambda request: request  # or the password of ~/.netrc would take the place of a token

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        """Send a request, or go on to where one was redirected.

        Raises:
            Transient: it may work in a while.
            FetchError: it will not, or must not be sent.
        """
        url = urlsplit(request.url or "")
        here = is_loopback(url.hostname or "")
        if url.scheme != "https" and not here:
            raise FetchError(
                f"{url.scheme}://{url.netloc} is no place for secrets: the registry sends pibake there without encryption",
                "let it answer with https URLs (behind a proxy, it needs X-Forwarded-Proto)",
            )
        if here:
            kwargs["proxies"] = {}  # a proxy's loopback is another one
        kwargs["timeout"] = (self.policy.connect, self.policy.read)
        where = f"{url.scheme}://{url.netloc}"
        try:
            return super().send(request, **kwargs)
        except requests.exceptions.SSLError as error:
            raise FetchError(
                f"{where}: no secure connection: {web.reason(error)}",
                "for a certificate of your own, set REQUESTS_CA_BUNDLE to the file of its CA; "
                "plain http is spoken with registries on this host only",
            ) from error
        except (
            requests.ConnectionError,
            requests.Timeout,
            requests.exceptions.ChunkedEncodingError,
        ) as error:
            raise Transient(web.reason(error)) from error
        except requests.RequestException as error:
            raise FetchError(f"{where}: {error}", "is it the address of a registry?") from error
