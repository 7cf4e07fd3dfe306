"""Reading a good cluster.yaml, and finding it."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from pibake import config
from pibake.config import accounts, kube, nodes
from pibake.config.problems import Bad, Span, render
from pibake.errors import ConfigError, PibakeError

if TYPE_CHECKING:
    from pathlib import Path

BASES = ("debian-12", "debian-13", "ubuntu-24.04")
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINPT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT"
SMALL = f"""\
cluster: lab
network: {{subnet: 192.168.10.0/24}}
users: [{{name: ops, ssh_keys: ["{KEY} me"]}}]
nodes:
  - hostname: node3
    address: 192.168.10.13
"""
HASH = "$6$salt$" + "a" * 86


def load(folder: Path, text: str | bytes = SMALL) -> config.Cluster:
    path = folder / "cluster.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return config.load(path, bases=BASES)


def refused(folder: Path, text: str | bytes) -> str:
    with pytest.raises(ConfigError) as caught:
        load(folder, text)
    return str(caught.value)


def test_the_file_is_found_in_this_or_a_parent_folder(tmp_path: Path) -> None:
    deep = tmp_path / "a/b"
    deep.mkdir(parents=True)
    assert config.find(deep) is None
    (tmp_path / "cluster.yaml").write_text(SMALL)
    assert config.find(deep) == tmp_path / "cluster.yaml"
    (deep / "cluster.yaml").mkdir()
    assert config.find(deep) == tmp_path / "cluster.yaml"


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(PibakeError, match=r"cannot read .*none\.yaml: No such file"):
        config.load(tmp_path / "none.yaml", bases=BASES)


def test_values_are_typed(tmp_path: Path) -> None:
    cluster = load(tmp_path)
    assert cluster.file.network.subnet == IPv4Network("192.168.10.0/24")
    assert cluster.file.nodes[0].address == IPv4Address("192.168.10.13")
    assert cluster.file.domain == "home.arpa"
    assert cluster.source == tmp_path / "cluster.yaml"


def test_words_that_yaml_takes_for_something_else_stay_as_they_are_typed(tmp_path: Path) -> None:
    labels = "{a: no, b: 010, c: 1e3, d: 12:34:56, e: 2001-01-01, f: 'null', g: '', h: .5}".replace(
        ".5", "0.5"
    )
    cluster = load(tmp_path, SMALL + f"    labels: {labels}\n".replace("12:34:56", "'12.34'"))
    assert list(cluster.file.nodes[0].labels.values()) == [
        "no", "010", "1e3", "12.34", "2001-01-01", "null", "", "0.5",
    ]  # fmt: skip
    assert load(tmp_path, SMALL.replace("node3", "no")).file.nodes[0].hostname == "no"


@pytest.mark.parametrize(
    "text",
    [
        b"\xef\xbb\xbf" + SMALL.encode(),
        SMALL.replace("\n", "\r\n").encode(),
        f"---\n{SMALL}...\n".encode(),
        f"%YAML 1.1\n---\n{SMALL}".encode(),
        SMALL.rstrip("\n").encode(),
    ],
    ids=["byte order mark", "CRLF", "document marks", "directive", "no final newline"],
)
def test_other_ways_to_write_the_file_are_read(tmp_path: Path, text: bytes) -> None:
    assert load(tmp_path, text).file == load(tmp_path).file


def test_aliases_stand_for_what_they_name(tmp_path: Path) -> None:
    text = SMALL + "    labels: &l {disk: ssd}\n  - {hostname: node4, address: 192.168.10.14, labels: *l}\n"
    assert [node.labels for node in load(tmp_path, text).file.nodes] == [{"disk": "ssd"}] * 2


def test_a_mistake_behind_aliases_is_told_once(tmp_path: Path) -> None:
    text = SMALL + "    labels: &l {disk: a b}\n  - {hostname: node4, address: 192.168.10.14, labels: *l}\n"
    assert refused(tmp_path, text).count("is not a label's value") == 1


def test_key_files_are_read_and_named(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(f"# mine\n\n{KEY} a\n{KEY.replace('9PT09PT', '9PT09PU')} b\n")
    text = SMALL.replace(f'"{KEY} me"', "{file: keys}")
    cluster = load(tmp_path, text)
    assert [key.split()[-1] for key in cluster.keys["keys"]] == ["a", "b"]
    assert cluster.files_read == (tmp_path / "keys",)


def test_a_tilde_is_the_home_folder(tmp_path: Path) -> None:
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh/id.pub").write_text(f"{KEY} me\n")
    assert load(tmp_path, SMALL.replace(f'"{KEY} me"', "{file: ~/.ssh/id.pub}")).keys


def test_overlays_beside_the_file_come_before_those_of_pibake(tmp_path: Path) -> None:
    (tmp_path / "overlays/motd").mkdir(parents=True)
    cluster = load(tmp_path, SMALL + "    overlays: [motd]\n")
    assert cluster.overlays == {"motd": tmp_path / "overlays/motd"}


def test_nothing_in_a_cluster_changes(tmp_path: Path) -> None:
    cluster = load(tmp_path)
    with pytest.raises(AttributeError):
        cluster.source = None  # type: ignore[misc]
    with pytest.raises(ValueError, match="frozen"):
        cluster.file.cluster = "x"


def test_a_big_file_is_refused_before_it_is_parsed(tmp_path: Path) -> None:
    assert "bytes and 4,194,304 is the most" in refused(tmp_path, b"#" * (4 << 20) + b"##")


@pytest.mark.parametrize("opener", ["[", "{a: ", "- ", "? "])
def test_endless_nesting_is_refused(tmp_path: Path, opener: str) -> None:
    assert "cluster.yaml" in refused(tmp_path, opener * 100_000)


def test_nesting_by_aliases_is_refused(tmp_path: Path) -> None:
    steps = "".join(f"a{i}: &a{i} [*a{i - 1}]\n" for i in range(1, 5000))
    assert "nested too deep" in refused(tmp_path, f"a0: &a0 [x]\n{steps}")


def test_ten_thousand_nodes_fit(tmp_path: Path) -> None:
    nodes = "".join(f"  - {{hostname: n{i}, address: 10.0.{i >> 8}.{i & 255}}}\n" for i in range(1, 10_001))
    text = SMALL.partition("nodes:")[0].replace("192.168.10.0/24", "10.0.0.0/8") + f"nodes:\n{nodes}"
    assert len(load(tmp_path, text).file.nodes) == 10_000


@pytest.mark.parametrize(
    "hashed", [HASH, "$5$s$" + "a" * 43, "$y$j9T$salt$" + "a" * 43, "$2b$12$" + "a" * 53]
)
def test_hashes_of_strong_methods_are_taken(hashed: str) -> None:
    assert accounts.password_hash(hashed) == hashed


@pytest.mark.parametrize(
    "label", ["disk", "example.com/disk", "node.kubernetes.io/x", "topology.kubernetes.io/zone"]
)
def test_labels_a_kubelet_may_set_are_taken(label: str) -> None:
    assert kube.label_key(label) == label


@pytest.mark.parametrize(
    "text", ["password: hunter2", "x: https://me:hunter2@host/", "'ApiToken': >\n  hunter2\n"]
)
def test_a_secret_is_masked_wherever_its_line_is_shown(tmp_path: Path, text: str) -> None:
    assert "hunter2" not in refused(tmp_path, SMALL + text)


def shape(node: nodes.Node | None) -> Any:
    assert node
    marks = (node.start.line, node.start.column, node.end.line, node.end.column)
    # of what a block ends with, the two report different ends; nothing is shown beyond the first line
    place = marks if node.kind == "text" else marks[:2]
    return node.kind, node.tag, node.text, node.plain, place, [shape(item) for item in node.items]


def test_the_python_parser_sees_what_libyaml_sees() -> None:
    text = SMALL + "    labels: {a: [], a: ~, b: !x y, c: 'q', d: \"é\\n\"}\n    e: |\n      x\n"
    assert shape(nodes.compose(text)) == shape(nodes.compose(text, yaml.BaseLoader))


@pytest.mark.parametrize("parse", [accounts.username, accounts.public_key, kube.board, kube.role])
def test_an_empty_text_is_no_value_of_any_kind(parse: Any) -> None:
    with pytest.raises(Bad):
        parse("")


def test_the_caret_moves_with_a_masked_secret() -> None:
    line = "{password: hunter2, shel: x}"
    text = render("f", [line], Span(0, 20, 0, 24), "m", hint="", secrets=[Span(0, 11, 0, 18)])
    assert text.splitlines()[1:] == ["    1 | {password: ***, shel: x}", "      |                 ^^^^"]
