"""`run.py docs`: writes what is made from the program in docs/: the settings, and the routes in the API page."""

from __future__ import annotations

import argparse
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def run(arguments: list[str]) -> int:
    """Gives 0."""
    parser = argparse.ArgumentParser(prog="run.py docs", description=__doc__)
    parser.parse_args(arguments)
    for name, text in pages(ROOT).items():
        path = ROOT / "docs" / name
        changed = not path.exists() or path.read_text(encoding="utf-8") != text
        if changed:
            path.write_text(text, encoding="utf-8", newline="\n")
        print(f"{'Wrote' if changed else 'Already as it should be:'} docs/{name}")
    return 0


def pages(root: Path) -> dict[str, str]:
    """The text that each page should have, by its name in docs/. Raises OSError when the API page is not there."""
    from atelier.reference.api_page import with_routes
    from atelier.reference.settings_page import settings_page

    written = (root / "docs" / "api.md").read_text(encoding="utf-8")
    return {"settings.md": settings_page(), "api.md": with_routes(written)}
