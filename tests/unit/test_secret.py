"""A Secret shows itself to nobody who does not ask for it by name."""

from __future__ import annotations

import copy
import json
import pickle
from dataclasses import asdict, dataclass

import pytest

from pibake.secret import Secret

TEXT = "correct horse battery staple"


@dataclass(frozen=True)
class Holder:
    name: str
    secret: Secret


def test_only_reveal_gives_it_away() -> None:
    secret = Secret(TEXT)
    assert secret.reveal() == TEXT
    shown = (repr(secret), str(secret), f"{secret}", f"{secret!r}", f"{secret:>8}", f"{secret}", repr([secret]),
             repr(Holder("a", secret)), repr(asdict(Holder("a", secret))), repr(vars(Holder("a", secret))))  # fmt: skip
    assert not [text for text in shown if TEXT in text]
    assert str(secret) == "***"


def test_json_pickle_and_vars_fail_on_it() -> None:
    secret = Secret(TEXT)
    with pytest.raises(TypeError):
        json.dumps({"secret": secret})
    with pytest.raises(TypeError):
        json.dumps(secret, default=vars)
    assert json.dumps(secret, default=str) == '"***"'
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(TypeError, match="not pickled"):
            pickle.dumps(secret, protocol)
    with pytest.raises(TypeError, match="no len"):
        len(secret)  # type: ignore[arg-type]


def test_a_copy_is_the_same_masked_object() -> None:
    secret = Secret(TEXT)
    assert copy.copy(secret) is secret
    assert copy.deepcopy(secret) is secret


def test_it_cannot_be_changed() -> None:
    secret = Secret(TEXT)
    with pytest.raises(AttributeError):
        secret._text = "other"
    with pytest.raises(AttributeError):
        del secret._text
    with pytest.raises(AttributeError):
        secret.other = "x"


def test_equal_texts_are_equal_secrets() -> None:
    assert Secret("ä") == Secret("ä")
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert len({Secret("a"), Secret("a"), Secret("b")}) == 2
    assert hash(Secret("a")) != hash("a")
