"""YAML as Kubernetes reads it, and as it is written for people: the same values both ways."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pibake import kubeyaml
from pibake.kube import document

WORDS = ["yes", "y", "off", "null", "~", "1e3", "0x10", "0o17", "010", "12:34", "2026-11-29", "1_000", ".5", "-", "- a", "a: b",
         "a #b", "*a", "&a", "!a", "{a", "a:", "a\nb\n", " a", "a ", "a\n b\n", "\n", "%a", "@a", "é", "</a"]  # fmt: skip
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text() | st.sampled_from(WORDS),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("yes", True), ("Off", False), ("y", "y"), ("12:34", "12:34"), ("2026-11-29", "2026-11-29"), ("0644", 420), ("0x1f", 31),
        ("1e3", 1000.0), ("1.5", 1.5), ("1.2.3", "1.2.3"), ("~", None), ("", None), ("'1'", "1"), ("v1.2", "v1.2"),
    ],
)  # fmt: skip
def test_a_plain_value_is_what_goyaml_takes_it_for(text: str, value: Any) -> None:
    ((found, _),) = kubeyaml.load_all(f"x: {text}\n")
    assert found == {"x": value}
    assert type(found["x"]) is type(value)


def test_keys_stay_text_and_documents_know_their_lines() -> None:
    text = "1: a\nyes: b\n---\n---\n# nothing\n---\n- 1\n"
    assert kubeyaml.load_all(text) == [({"1": "a", "yes": "b"}, 0), ([1], 6)]


def test_a_merge_key_is_followed_and_the_mappings_own_keys_win() -> None:
    ((found, _),) = kubeyaml.load_all("a: &a {b: 1, c: 2}\nd: {<<: *a, b: 3}\n")
    assert found["d"] == {"b": 3, "c": 2}


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("a: 1\nb:\n  c: 1\n  c: 2\n", 3, "`c` stands in one mapping twice"),
        ("a: [1\n", 1, "did not find expected"),
        ("a: !!python/object:os.system x\n", 0, "constructor"),
        ("? [a]\n: b\n", 0, "a key is plain text"),
        ("a: &a [*a]\n", 0, "recursive"),
        ("a: *b\n", 0, "undefined alias"),
        ("a: \x01\n", 0, "control characters"),
        ("[" * 200, 0, "nested deeper"),
        ("[" * 100_000, 0, "nested deeper"),
    ],
)
def test_what_no_reader_takes_is_told_with_its_line(text: str, line: int, message: str) -> None:
    with pytest.raises(kubeyaml.NotYAML, match=message) as caught:
        kubeyaml.load_all(text)
    assert caught.value.line == line


@given(VALUES)
def test_what_is_written_for_people_is_read_back_as_it_was(value: Any) -> None:
    assert kubeyaml.load_all(document.readable({"x": value})) == [({"x": value}, 0)]


@given(VALUES)
def test_what_is_written_with_quotes_is_read_back_as_it_was(value: Any) -> None:
    assert kubeyaml.load_all(document.dump({"x": value})) == [({"x": value}, 0)]


def test_lines_are_written_as_lines_and_plain_words_without_quotes() -> None:
    shared = {"app": "web"}
    text = document.readable({"a": "one\ntwo\n", "kind": "ConfigMap", "on": "yes", "b": shared, "c": shared})
    assert text == 'a: |\n  one\n  two\nkind: ConfigMap\n"on": "yes"\nb:\n  app: web\nc:\n  app: web\n'
