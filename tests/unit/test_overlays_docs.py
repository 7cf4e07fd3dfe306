"""docs/overlays.md: its example is one that pibake takes, and its variables are those there are."""

from __future__ import annotations

import re
from pathlib import Path

from pibake import config
from pibake.config import overlays
from pibake.plan import plan
from pibake.seed import templates

PAGE = (Path(__file__).parents[2] / "docs/overlays.md").read_text("utf-8")
EXAMPLES = dict(re.findall(r"`([a-z./0-9-]+)`(?:, executable)?:\n\n```\w+\n(.*?)```", PAGE, re.DOTALL))


def test_the_example_is_planned_and_rendered(tmp_path: Path) -> None:
    assert list(EXAMPLES) == [
        "cluster.yaml",
        "overlays/web.yaml",
        "overlays/web/srv/hello/index.html.j2",
        "hooks/hello",
    ]
    for name, text in {**EXAMPLES, "overlays/web/srv/hello/key": ""}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "hooks/hello").chmod(0o755)
    node1, _ = plan(config.load(tmp_path / "cluster.yaml", bases=["debian-13"])).nodes
    assert (node1.packages, [hook.name for hook in node1.hooks]) == (("nftables",), ["hello"])
    page = templates.render(node1)["srv/hello/index.html"].data.decode()
    assert page == '<h1>node1 in the attic</h1>\n<a href="http://192.168.10.12/">node2</a>\n'
    items = {item.path: item for item in overlays.read(node1.overlays[0].path)}
    assert items["srv/hello"].mode == 0o750
    assert items["srv/hello/key"].owner == "root:www-data"


def test_every_variable_is_in_the_table() -> None:
    for name, what in overlays.VARIABLES.items():
        assert f"| `{name}` | {what} |" in PAGE
