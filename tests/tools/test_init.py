"""`pibake init`, `plan` and `schema` as a person calls them, with the real ip and ssh-keygen."""

from __future__ import annotations

import json
import stat
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result

from pibake import cli, config

if TYPE_CHECKING:
    from pathlib import Path

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINPT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return folder


def pibake(*arguments: str, answers: str = "") -> Result:
    return CliRunner().invoke(cli.group, arguments, input=answers)


def said(*arguments: str, answers: str = "") -> str:
    result = pibake(*arguments, answers=answers)
    assert result.exception is None, result.output
    return result.output


def test_init_yes_makes_a_key_and_a_file_that_plans(home: Path, tmp_path: Path) -> None:
    assert "made pibake_ed25519, the SSH key to log in with" in said("init", "--yes")
    work = tmp_path / "work"
    assert stat.S_IMODE((work / "pibake_ed25519").stat().st_mode) == 0o600
    assert "PRIVATE KEY" in (work / "pibake_ed25519").read_text()
    assert sorted(path.name for path in work.iterdir()) == [
        "cluster.schema.json", "cluster.yaml", "pibake_ed25519", "pibake_ed25519.pub",
    ]  # fmt: skip
    lines = said("plan").splitlines()
    assert [line.split()[0] for line in lines[-3:]] == ["node1", "node2", "node3"]
    assert not list(home.iterdir())


def test_init_takes_the_key_in_the_home_folder(home: Path, tmp_path: Path) -> None:
    (home / ".ssh").mkdir()
    (home / ".ssh/id_ed25519.pub").write_text(f"{KEY} me\n")
    said("init", "-y")
    assert '{file: "~/.ssh/id_ed25519.pub"}' in (tmp_path / "work/cluster.yaml").read_text()
    assert not (tmp_path / "work/pibake_ed25519").exists()


@pytest.mark.usefixtures("home")
def test_init_overwrites_nothing_unless_it_is_told_to(tmp_path: Path) -> None:
    said("init", "--yes")
    work = tmp_path / "work"
    private = (work / "pibake_ed25519").read_bytes()
    (work / "cluster.yaml").write_text("mine\n")
    refusal = pibake("init", "--yes").exception
    assert str(refusal) == "cluster.yaml is already there"
    assert (work / "cluster.yaml").read_text() == "mine\n"
    assert "taking the SSH key pibake_ed25519.pub" in said("init", "--yes", "--force")
    assert (work / "pibake_ed25519").read_bytes() == private
    assert (work / "cluster.yaml").read_text() != "mine\n"


@pytest.mark.usefixtures("home")
def test_init_leaves_a_schema_of_anothers_alone(tmp_path: Path) -> None:
    schema = tmp_path / "work/cluster.schema.json"
    schema.write_text("{}")
    said("init", "--yes")
    assert schema.read_text() == "{}"


@pytest.mark.usefixtures("home")
def test_half_a_key_pair_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "work/pibake_ed25519").write_text("precious")
    error = pibake("init", "--yes").exception
    assert "is there without its pibake_ed25519.pub" in str(error)
    assert (tmp_path / "work/pibake_ed25519").read_text() == "precious"
    assert not (tmp_path / "work/cluster.yaml").exists()


@pytest.mark.usefixtures("home")
def test_init_asks_again_until_an_answer_fits(tmp_path: Path) -> None:
    (tmp_path / "work/k.pub").write_text(f"{KEY} me\n")
    answers = "10.7.0.1/16\n10.7.0.0/16\n10.8.0.1\n10.7.255.254\nnone.pub\nk.pub\n0\n2\n"
    shown = said("init", answers=answers)
    assert "10.7.0.1/16 is an address in a subnet, not a subnet; write 10.7.0.0/16" in shown
    assert "cannot read none.pub" in shown
    text = (tmp_path / "work/cluster.yaml").read_text()
    assert "gateway: 10.7.255.254" in text
    assert config.load(tmp_path / "work/cluster.yaml", bases=("debian-13",)).file.nodes[1].hostname == "node2"


@pytest.mark.usefixtures("home")
def test_an_end_of_answers_leaves_nothing_behind(tmp_path: Path) -> None:
    assert pibake("init", answers="10.7.0.0/16\n").exit_code == 1
    assert not list((tmp_path / "work").iterdir())


@pytest.mark.usefixtures("home")
def test_plan_prints_json_of_the_named_nodes() -> None:
    said("init", "--yes")
    shown = json.loads(said("plan", "--hostname", "node2", "--hostname", "node2.home.arpa", "--json"))
    assert [node["hostname"] for node in shown["nodes"]] == ["node2"]


@pytest.mark.usefixtures("home")
def test_plan_without_a_file_says_how_to_get_one() -> None:
    error = pibake("plan").exception
    assert "there is no cluster.yaml in this folder or a parent folder" in str(error)
    assert "pibake init" in getattr(error, "hint", "")


@pytest.mark.usefixtures("home")
def test_plan_reports_every_problem_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "work/bad.yaml").write_text("cluster: Lab\nnodes: []\n")
    error = pibake("plan", "-c", "bad.yaml").exception
    assert getattr(error, "exit_code", 0) == 2
    assert str(error).count("bad.yaml:") == 4


def test_schema_prints_what_init_writes(home: Path) -> None:
    assert json.loads(said("schema")) == config.json_schema()
    said("init", "--yes")
    assert said("schema") == (home.parent / "work/cluster.schema.json").read_text()


@pytest.mark.parametrize("command", ["init", "plan", "schema"])
def test_help_shows_an_example(command: str) -> None:
    assert f"pibake {command}" in said(command, "--help").partition("Example")[2]
