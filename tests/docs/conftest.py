"""The texts that the tests look at, read once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.pages import Page, pages


@pytest.fixture(scope="session")
def texts(root: Path) -> list[Page]:
    found = pages(root)
    names = {page.name for page in found}
    assert {"README.md", "CONTRIBUTING.md", "docs/guide/installing.md", ".github/workflows/ci.yml"} <= names
    return found
