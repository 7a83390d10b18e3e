"""The version stands in one place, and the changelog tells when it came and what is new in it."""

from __future__ import annotations

import configparser
import importlib
import re
from datetime import date
from pathlib import Path

import pytest

import atelier
from atelier.cli import main
from atelier.config.kohya.toml_text import parse_toml
from atelier.hosts.embedded.host import EmbeddedHost

HEADING = re.compile(r"(\d+\.\d+\.\d+) - (\d{4}-\d{2}-\d{2})")


def numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def test_the_project_takes_its_version_from_the_package(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = parse_toml((root / "pyproject.toml").read_text(encoding="utf-8"), "pyproject.toml")
    assert "version" not in said["project"] and said["project"]["dynamic"] == ["version"]
    module, _, name = said["tool"]["setuptools"]["dynamic"]["version"]["attr"].rpartition(".")
    assert (root / said["tool"]["setuptools"]["packages"]["find"]["where"][0] / module / "__init__.py").is_file()
    assert getattr(importlib.import_module(module), name) == atelier.__version__ == EmbeddedHost.version
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"Atelier {atelier.__version__}\n"


def test_metadata_has_what_a_webui_reads_and_no_second_version(root: Path) -> None:
    metadata = configparser.ConfigParser()
    metadata.read(root / "metadata.ini", encoding="utf-8")
    assert dict(metadata["Extension"]) == {"name": "atelier"}


def test_the_changelog_has_a_dated_section_for_it(root: Path) -> None:
    text = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    first, *released = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert first == "Unreleased"
    dated = [HEADING.fullmatch(heading) for heading in released]
    assert all(dated), released
    found = [(numbers(match[1]), date.fromisoformat(match[2])) for match in dated if match]
    assert found[0][0] == numbers(atelier.__version__)
    assert found == sorted(found, reverse=True) and len({version for version, _ in found}) == len(found)
