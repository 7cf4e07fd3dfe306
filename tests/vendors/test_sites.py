"""The vendors' real sites: are the folders, names, lists and signatures those that the catalogue expects?

A site that cannot be reached is skipped, and named. With PIBAKE_WHOLE=1 the images are pulled as well (gigabytes).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from pibake import bases, catalog, vendor
from pibake.cache import Cache
from pibake.catalog import Download
from pibake.errors import FetchError, VerificationError
from pibake.plan import BaseRef
from pibake.progress import Plain
from pibake.web import Policy

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.vendors
DOWNLOADS = [name for name in catalog.names() if isinstance(catalog.entry(name).source, Download)]
WHOLE = bool(os.environ.get("PIBAKE_WHOLE"))
GAVE_UP = "gave up after"
"""What an error says when the network was the reason, rather than what the site answered."""


@pytest.mark.parametrize("name", DOWNLOADS)
def test_the_site_has_what_the_catalogue_says_and_vouches_for_it(name: str, tmp_path: Path) -> None:
    source = catalog.entry(name).source
    assert isinstance(source, Download)
    try:
        release = vendor.newest(source, Policy(attempts=2, connect=5))
    except (FetchError, VerificationError) as error:
        if GAVE_UP in str(error):
            pytest.skip(f"{source.url} could not be reached: {error}")
        raise
    print(f"{name}: {release.url} sha256 {release.sha256} ({catalog.vouched(source)})")  # noqa: T201
    if WHOLE:
        assert bases.obtain(BaseRef(name=name), Cache(tmp_path), Plain()).image.is_file()
