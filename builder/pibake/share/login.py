"""Requests to a registry, with the credentials that it asks for.

The `oras` package knows how registries ask, and where docker keeps what to answer. Its own uploads read a whole blob into memory,
and its requests wait for two minutes before they tell of a wrong password; so each request is made once, through
`transport.Session`, and whoever asks decides whether to ask again.
"""

from __future__ import annotations

import logging
import os
import threading
from typing import TYPE_CHECKING, Any

import oras.auth
import oras.container
import oras.logger
import oras.provider

from pibake import web
from pibake.errors import FetchError, PibakeError
from pibake.share.transport import Answer, Session, is_loopback

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pibake.share.reference import Reference

_ask = oras.provider.Registry.do_request.__wrapped__  # without its own repetitions
oras.logger.logger.set_level(logging.CRITICAL)  # the errors raised here say what it would print


class Login:
    """Who asks a registry; each thread gets a connection of its own, since sessions and tokens are not for several.

    With `ours` it is the registry that PIBAKE_REGISTRY_USER and PIBAKE_REGISTRY_PASSWORD are for: no other gets to see them.
    """

    def __init__(self, reference: Reference, policy: web.Policy, *, ours: bool = True) -> None:
        self.reference, self.policy, self.ours = reference, policy, ours
        self.root = f"{'http' if is_loopback(reference.host) else 'https'}://{reference.registry}/v2/"
        self._local = threading.local()

    def find_out(self) -> None:
        """Raise `FetchError` unless this is a registry (OCI distribution-spec, "Determining Support")."""
        answer = _checked(Session(self.policy).get(self.root, stream=True))
        answer.close()
        if answer.status_code not in {200, 401}:
            raise FetchError(
                f"{self.root} answers {answer.status_code} {answer.reason}: it is no OCI registry",
                "is the name of the registry right, with its port?",
            )

    def ask(
        self,
        method: str,
        url: str,
        *,
        data: Any = None,
        headers: Mapping[str, str] | None = None,
        stream: bool = False,
    ) -> Answer:
        """Ask once; the answer may be an error of the kind that stays.

        Raises:
            Transient: there was none, or one of the kind that passes.
            FetchError: the registry wants to know who asks, and does not like the answer.
        """
        if not hasattr(self._local, "registry"):
            self._local.registry = self._registry()
        registry = self._local.registry

        def once() -> Answer:
            known = {**(headers or {}), **registry.auth.password()}
            answer: Answer = _ask(registry, url, method, data=data, headers=known, stream=stream)
            return answer

        try:
            answer = once()
            if answer.status_code == 401 and registry.auth.token:
                registry.auth.token = None  # it has run out, or was for reading only
                answer = once()
        except ValueError as error:  # so oras says that there is no answer
            raise self.refused("401 Unauthorized") from error
        return _checked(answer)

    def refused(self, status: str) -> FetchError:
        """Return the error for an answer that says "not you"."""
        way = ", or set PIBAKE_REGISTRY_USER and PIBAKE_REGISTRY_PASSWORD" if self.ours else ""
        return FetchError(
            f"{self.reference.registry} refuses access to {self.reference.repository} ({status})",
            f"log in with `docker login`{way}; is the account allowed to do this?",
        )

    def _registry(self) -> Any:
        registry = oras.provider.Registry(self.reference.registry)
        registry.auth = _Auth()
        registry.session = registry.auth.session = Session(self.policy)
        user, password = (os.environ.get(f"PIBAKE_REGISTRY_{name}", "") for name in ("USER", "PASSWORD"))
        if self.ours and user and password:
            registry.auth.set_basic_auth(user, password)
            return registry
        container = oras.container.Container(self.reference.repository)
        container.registry = self.reference.registry
        try:
            registry.auth.load_configs(container)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise PibakeError(
                "the credentials for registries in ~/.docker/config.json cannot be read",
                "is it JSON as `docker login` writes it, and does its credential helper work?",
            ) from error
        return registry


class _Auth(oras.auth.TokenAuth):  # type: ignore[misc] # oras has no types
    """oras' tokens (of a server that the registry names), and passwords where a registry wants these (RFC 7617).

    oras would take the realm of the second kind for the address of a server, and send the password there.
    """

    _tls_verify = True
    _basic_auth = ""
    _wanted = False

    def password(self) -> dict[str, str]:
        """Return the header with the password, once it is known that the registry wants that: a body is not sent twice."""
        return {"Authorization": f"Basic {self._basic_auth}"} if self._wanted else {}

    def authenticate_request(
        self, original: Answer, headers: dict[str, str], refresh: bool = False
    ) -> tuple[dict[str, str], bool]:
        """Return the headers of the next attempt, and whether there is any use in it."""
        challenge = original.headers.get("Www-Authenticate", "")
        if challenge.lower().startswith("basic"):
            self._wanted = bool(self._basic_auth)
            return {**headers, **self.password()}, self._wanted
        if 'realm="' not in challenge:
            return headers, False
        wanted: tuple[dict[str, str], bool] = super().authenticate_request(original, headers, refresh)
        return wanted


def _checked(answer: Answer) -> Answer:
    """Return an answer unless it may be another one in a while."""
    if answer.status_code not in web.TRANSIENT:
        return answer
    answer.close()
    raise web.Transient(
        f"the registry answered {answer.status_code} {answer.reason}", web.retry_after(answer)
    )
