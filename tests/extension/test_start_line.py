"""The version in the console when a WebUI starts: once, whatever the WebUI makes of it."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from atelier import __version__
from atelier.config.errors import AtelierError
from atelier.jobs import current
from atelier.ui import extension
from atelier.ui.extension import Extension
from atelier.ui.start_line import say_once
from tests.support.jobs_fakes import FakeHost


class A1111(FakeHost):
    name = "a1111"
    version = "v1.10.1"


class WithoutGit(FakeHost):
    name = "forge"

    @property
    def version(self) -> str:  # type: ignore[override]
        raise FileNotFoundError("git")


@pytest.fixture(autouse=True)
def a_new_process(monkeypatch: pytest.MonkeyPatch) -> None:
    say_once.cache_clear()
    monkeypatch.setattr(current, "_CURRENT", {})
    monkeypatch.setattr(extension, "missing", list)


@pytest.mark.parametrize(
    ("kind", "told"), [(A1111, f"{__version__}, for AUTOMATIC1111 v1.10.1"), (WithoutGit, f"{__version__}, for Forge")]
)
def test_the_version_is_told_once(
    kind: type[FakeHost],
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(extension, "detect", lambda: kind(tmp_path))
    first, second = Extension.open(), Extension.open()
    assert first.jobs is second.jobs is not None
    assert capsys.readouterr().out == f"[Atelier] {told}\n"
    assert caplog.records == []


def test_a_webui_that_is_not_known_is_told_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def unknown() -> FakeHost:
        raise AtelierError("This WebUI is none that Atelier knows.")

    monkeypatch.setattr(extension, "detect", unknown)
    assert Extension.open().apology == "This WebUI is none that Atelier knows."
    assert Extension.open().host is None
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 and lines[0].startswith(f"[Atelier] {__version__}: nothing can be trained")
