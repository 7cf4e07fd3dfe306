"""docs/addons.md shows the whole catalogue, as it is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from pibake import config, offers
from pibake.offers import words
from pibake.plan import plan

if TYPE_CHECKING:
    from pibake.offers import Entry

PAGE = Path(__file__).parents[2] / "docs/addons.md"
BLOCK = re.compile(r"```yaml\n(addons:.*?)```", re.DOTALL)
REST = """\
cluster: lab
network: {subnet: 192.168.10.0/24, gateway: 192.168.10.1}
users: [{name: ops, ssh_keys: ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINPT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT"]}]
nodes: [{hostname: node1, address: 192.168.10.11, role: server}]
kubernetes: {distribution: k3s, version: v1.36.1+k3s1}
"""


def needs(entry: Entry) -> str:
    found = [f"`{name}`" for name in entry.needs.addons]
    if entry.needs.memory:
        found.append(f"{entry.needs.memory} MiB")
    if entry.needs.root == "local":
        found.append("disks of the boards' own")
    if entry.needs.packages:
        found.append(f"{' '.join(entry.needs.packages)} on every member")
    if entry.needs.kubernetes:
        found.append(f"Kubernetes {entry.needs.kubernetes}")
    return ", ".join(found)


def catalogue() -> str:
    rows = ["| add-on | group | version | what it is for | needs | k3s |", "|---|---|---|---|---|---|"]
    for name, entry in offers.catalogue().items():
        summary = f"{entry.summary} **{entry.status.rstrip('.')}.**" if entry.status else entry.summary
        link = f"[`{name}`]({entry.homepage})"
        brought = (
            "brought" if entry.k3s.bundled else ", ".join(f"without {part}" for part in entry.k3s.disable)
        )
        cells = (link, entry.group, words.version(entry), summary, needs(entry), brought)
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def options() -> str:
    parts = []
    for name, entry in offers.catalogue().items():
        rows = [row for row in words.rows(entry) if row.name != "values"]
        if not rows:
            continue
        parts.append(f"### {name}\n")
        parts += ["| option | kind | unless set | what it is |", "|---|---|---|---|"]
        for row in rows:
            cells = (f"`{row.name}`", row.kind, row.default, row.what)
            parts.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
        parts.append("")
    return "\n".join(parts).rstrip()


def generated(page: str) -> str:
    for name, table in (("catalogue", catalogue()), ("options", options())):
        start, end = (
            page.index(f"<!-- {name} -->\n"),
            page.index("<!-- end -->", page.index(f"<!-- {name} -->")),
        )
        page = f"{page[:start]}<!-- {name} -->\n{table}\n{page[end:]}"
    return page


def test_the_tables_are_those_of_the_catalogue(update_golden: bool) -> None:
    page = PAGE.read_text("utf-8")
    if update_golden:
        PAGE.write_text(generated(page), "utf-8")
    assert generated(page) == PAGE.read_text("utf-8")


def test_the_example_is_a_cluster_with_these_add_ons(tmp_path: Path) -> None:
    found = BLOCK.search(PAGE.read_text("utf-8"))
    assert found
    (tmp_path / "cluster.yaml").write_text(REST + found[1], "utf-8")
    (tmp_path / "cloudflare.token").write_text("hunter2\n", "utf-8")
    (tmp_path / "monitoring.yaml").write_text("grafana: {replicas: 2}\n", "utf-8")
    for folder, text in (
        ("manifests", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n"),
        ("deploy", "resources: []\n"),
    ):
        (tmp_path / folder).mkdir()
        name = "kustomization.yaml" if folder == "deploy" else "a.yaml"
        (tmp_path / folder / name).write_text(text, "utf-8")
    decided = plan(config.load(tmp_path / "cluster.yaml", bases=("debian-13",)))
    assert [addon.name for addon in decided.addons] == [
        "metallb", "traefik", "cert-manager", "kube-prometheus-stack", "my-app", "my-manifests", "my-kustomization",
    ]  # fmt: skip


def test_every_example_of_show_is_read_with_its_files_there(tmp_path: Path) -> None:
    for name, entry in offers.catalogue().items():
        for option in entry.options.values():
            if option.format in {"file", "secret-file"}:
                (tmp_path / str(option.examples[0])).write_text("x\n", "utf-8")
        text = words.example(name, entry)
        if "cert-manager:\n" in text and name != "cert-manager":
            text = text.replace("cert-manager:\n", "cert-manager: {email: me@example.org}\n")
        (tmp_path / "cluster.yaml").write_text(f"{REST}{text}\n", "utf-8")
        config.load(tmp_path / "cluster.yaml", bases=("debian-13",))
