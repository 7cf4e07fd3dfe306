"""The command as people meet it: help, exit statuses, the wheel, and a README that tells the truth."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from tests.tools import command as in_process

from pibake.cli import COMMANDS

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")
PAGES = [*(ROOT / "docs").glob("*.md"), *(ROOT / "examples").rglob("*.md")]


def pibake(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "pibake", *arguments]
    return subprocess.run(argv, cwd=cwd, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command: str) -> None:
    done = in_process.run(command, "--help")
    assert done.returncode == 0
    assert re.search(rf"Examples?:\s+pibake {command}", done.stdout), done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_the_overview_names_every_command_as_its_help_describes_it(command: str) -> None:
    overview = in_process.run("--help").stdout
    assert re.search(rf"^  {command} +{re.escape(COMMANDS[command][1])}$", overview, re.MULTILINE)


def test_every_pibake_command_in_the_documents_exists() -> None:
    texts = [README, *(path.read_text("utf-8") for path in PAGES)]
    named = {
        match
        for text in texts
        for match in re.findall(r"(?:^    |`)pibake ([a-z][a-z-]*)", text, re.MULTILINE)
    }
    assert named <= COMMANDS.keys()


def test_the_readmes_make_targets_exist_and_ci_calls_its_two_commands() -> None:
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    named = re.findall(r"^    make ([a-z0-9-]+)$", README, re.MULTILINE)
    assert named == ["node3", "test"]
    assert {re.sub(r"\d", "", name) for name in named} <= {re.sub(r"\d", "", t) for t in targets | {"node3"}}
    assert re.findall(r"^make (\S+)$", (ROOT / ".ci/run").read_text("utf-8"), re.MULTILINE) == named


def test_the_readmes_cluster_yaml_is_right(tmp_path: Path) -> None:
    block = README.split("gives\nyour editor completion:\n\n")[1].split("\n\nA mistake")[0]
    text = "\n".join(line.removeprefix("    ") for line in block.splitlines())
    key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAIWwftzGuOQWTMO0Qy+BoCT+4Dg5EWBf0qGNpkL/TjW me"
    (tmp_path / "id.pub").write_text(key + "\n")
    (tmp_path / "cluster.yaml").write_text(text.replace("~/.ssh/id_ed25519.pub", "id.pub") + "\n")
    done = pibake("plan", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "node3" in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ("--version",),
        ("bild",),
        ("plan",),
        ("plan", "-c", "bad.yaml"),
        ("-v", "base", "verify"),
        ("init", "--yes"),
    ],
)
def test_a_command_in_this_process_ends_and_speaks_as_the_real_one(
    arguments: tuple[str, ...], tmp_path: Path
) -> None:
    results = []
    for way in (in_process.run, in_process.start):
        home = tmp_path / "home"
        home.mkdir()
        (home / "bad.yaml").write_text("cluster: lab\nnodez: []\n")
        env = {**os.environ, "HOME": str(home), "XDG_CACHE_HOME": str(home / "cache")}
        done = way(*arguments, env=env, cwd=home)
        results.append((done.returncode, done.stdout, done.stderr))
        home.rename(tmp_path / f"home-{way.__name__}")
    assert results[0] == results[1]


def test_an_unknown_command_or_option_exits_2() -> None:
    assert pibake("bild").returncode == 2
    assert pibake("build").returncode == 2
    assert pibake("build", "--all", "--hostname", "x").returncode == 2


def test_a_folder_that_cannot_be_written_is_an_error_without_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way\n")
    done = pibake("init", "--yes", "-o", "file/cluster.yaml", cwd=tmp_path)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "error: " in done.stderr


def test_the_wheel_works_outside_the_checkout(tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(tmp_path), str(ROOT)]
    subprocess.run(pip, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    script = "import sys; sys.path.insert(0, 'site'); from pibake import resources, cli; print(resources.root()); cli.main(sys.argv[1:])"

    def run(*arguments: str) -> str:
        argv = [sys.executable, "-c", script, *arguments]
        return subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, check=True).stdout

    assert str(tmp_path / "site/pibake/_data") in run("schema")
    run("init", "--yes")
    assert "node3" in run("plan")
    assert "debian-13" in run("base", "list")
    assert "metallb" in run("addons", "list")
    assert (tmp_path / "site/pibake/_data/overlays/node/usr/local/lib/pibake/join").exists()
    assert list((tmp_path / "site/pibake/_data/images/debian").glob("*"))
