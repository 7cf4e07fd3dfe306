"""The catalogue of add-ons: strict in its form, and whole in what it says."""

from __future__ import annotations

import re

import pytest

from pibake import offers, resources
from pibake.config import membership
from pibake.errors import PibakeError
from pibake.kube.addons import SECRETS
from pibake.offers import words

LEAST = "summary: X.\ngroup: network\nhomepage: https://example.org\n"
NAMES = offers.names()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "one document is expected"),
        ("- a\n", "should be an object"),
        (LEAST + "colour: red\n", "colour"),
        (LEAST.replace("network", "games"), "group"),
        (LEAST + "privileged: 'yes'\n", "privileged"),
        (LEAST + "chart: {repo: https://a.example, name: a, version: 1.20}\n", "version"),
        (LEAST + "chart: {repo: ftp://a.example, name: a, version: 1.2.0}\n", "repo"),
        (LEAST + "options: {a: {type: text}}\n", "type"),
        (LEAST + "options: {a: {type: string, format: colour}}\n", "format"),
        (LEAST + "required: [a]\n", "required, but no option: a"),
        (LEAST + "generated: {a: 24}\noptions: {a: {type: string}}\n", "generated, but no option of format"),
        (LEAST + "options: {a: {type: array, items: {type: string, format: secret-file}}}\n", "only an option itself"),
        (LEAST + "options: {values: {type: string}}\n", "`values` already"),
        (LEAST + "instead: b\n", "goes with a `status`"),
        (LEAST + "depends: [{when: {a: b}, need: [c], why: so}]\n", "in `depends`, but no option: a, c"),
        (LEAST + LEAST, "twice"),
        (LEAST + "---\n" + LEAST, "one document is expected"),
    ],
)  # fmt: skip
def test_an_entry_that_is_not_in_the_form_is_refused_by_its_file(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=f"(?s)x.yaml: .*{re.escape(said)}"):
        offers.parse(text, "x.yaml")


def test_the_least_entry_is_one() -> None:
    assert offers.parse(LEAST, "x.yaml").summary == "X."


def test_a_misspelled_name_gets_a_suggestion() -> None:
    with pytest.raises(PibakeError) as caught:
        offers.entry("metalb")
    assert caught.value.hint.startswith("did you mean metallb?")


@pytest.mark.parametrize("name", NAMES)
def test_an_entry_names_others_that_there_are(name: str) -> None:
    entry = offers.entry(name)
    assert {*entry.needs.addons, *entry.conflicts, *filter(None, [entry.instead])} <= set(NAMES)
    assert {*entry.k3s.disable, *filter(None, [entry.k3s.component])} <= set(membership.COMPONENTS)


@pytest.mark.parametrize("name", NAMES)
def test_an_entry_can_be_explained_and_written_down(name: str) -> None:
    entry = offers.entry(name)
    assert name != SECRETS
    assert entry.summary.endswith(".")
    for key, option in entry.options.items():
        assert re.fullmatch("[a-z][a-z0-9_]*", key)
        assert option.description.endswith("."), key
        assert option.examples or option.enum or option.default is not None, key
    assert f"  {name}:" in words.example(name, entry)
    assert dict(words.facts(entry))["homepage"] == entry.homepage


@pytest.mark.parametrize("name", NAMES)
def test_only_the_template_of_secrets_sees_secrets(name: str) -> None:
    entry = offers.entry(name)
    for text in (entry.values, entry.objects):
        assert "secrets." not in text
        assert not re.search(r"^kind: Secret$", text, re.MULTILINE)


def test_what_makes_one_sets_no_key_that_k3s_gets_from_cluster_yaml() -> None:
    own = {
        "token",
        "agent-token",
        "server",
        "tls-san",
        "cluster-cidr",
        "service-cidr",
        "cluster-dns",
        "disable",
        "cluster-init",
    }
    for name in NAMES:
        assert not own & set(offers.entry(name).k3s.config)


def test_the_catalogue_is_the_folder_of_the_data() -> None:
    files = {path.stem for path in resources.path(offers.FOLDER).glob("*.yaml")}
    assert set(NAMES) == files
    assert [offers.entry(name).group for name in NAMES] == sorted(
        (offers.entry(name).group for name in NAMES), key=offers.GROUPS.index
    )


def test_an_option_inside_a_mapping_is_named_by_its_path() -> None:
    text = (
        LEAST
        + "required: [a]\noptions:\n  a: {type: array, items: {type: object, required: [b], properties: {b: {type: integer}}}}\n"
        + "  c: {type: boolean, default: true}\n"
    )
    rows = words.rows(offers.parse(text, "x.yaml"))
    assert [(row.name, row.kind, row.default) for row in rows] == [
        ("a", "list: mapping", "required"),
        ("a[].b", "number", "required"),
        ("c", "true or false", "true"),
    ]
