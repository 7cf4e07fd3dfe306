"""What the command line says of mistakes in the user's manifests, before anything is built."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from tests.tools.command import run
from tests.tools.test_addons import CLUSTER

if TYPE_CHECKING:
    from pathlib import Path

WEB = """\
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  prots: [{port: 80}]
"""
REFUSED = """\
web.yaml:5:3: document 1, Service web: spec.prots: there is no such field in Kubernetes 1.36
    5 |   prots: [{port: 80}]
      |   ^^^^^
   hint: did you mean `ports`?

error: 1 problem found
"""
PUMP = "apiVersion: garden.example.com/v1\nkind: Pump\nmetadata: {name: roses}\n"


def with_manifest(folder: Path, text: str) -> Path:
    (folder / "web.yaml").write_text(text)
    (folder / "cluster.yaml").write_text(f"{CLUSTER}addons: {{mine: {{manifests: web.yaml}}}}\n")
    return folder


@pytest.mark.parametrize("words", ["plan", "plan --json", "addons render", "build --all"])
def test_a_mistake_in_a_manifest_ends_every_command_that_needs_it_at_its_line(
    tmp_path: Path, words: str
) -> None:
    done = run(*words.split(), cwd=with_manifest(tmp_path, WEB))
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == REFUSED


def test_what_is_in_doubt_is_a_warning_beside_the_plan(tmp_path: Path) -> None:
    done = run("plan", "--json", cwd=with_manifest(tmp_path, PUMP))
    assert done.returncode == 0
    assert json.loads(done.stdout)
    assert (
        "warning: web.yaml:1:1: document 1, Pump roses: apiVersion: Pump of garden.example.com/v1"
        in done.stderr
    )


def test_a_mistake_in_what_kustomize_makes_names_the_add_on(tmp_path: Path) -> None:
    (tmp_path / "deploy").mkdir()
    (tmp_path / "deploy/kustomization.yaml").write_text("resources: [web.yaml]\nnamePrefix: my-\n")
    (tmp_path / "deploy/web.yaml").write_text(WEB)
    (tmp_path / "cluster.yaml").write_text(f"{CLUSTER}addons: {{mine: {{kustomization: deploy}}}}\n")
    done = run("plan", cwd=tmp_path)
    assert done.returncode == 2
    assert "add-on mine: Service my-web: spec.prots: there is no such field" in done.stderr
