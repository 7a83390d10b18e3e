"""Building the tab: what Gradio says of it."""

from __future__ import annotations

from pathlib import Path

import gradio as gr
import pytest

from atelier.jobs.queue import Jobs
from atelier.ui.tab.tab import build
from tests.support.jobs_fakes import FakeHost


def test_no_warning_while_the_page_is_built(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    host = FakeHost(tmp_path / "host")
    jobs = Jobs(host, lambda *_: None)
    with gr.Blocks():
        build(jobs, host)
    assert [str(found.message) for found in recwarn if found.category is not ResourceWarning] == []
    jobs.close(timeout=30)


def test_most_of_what_gradio_builds_are_settings(tmp_path: Path) -> None:
    """Each component and each event makes the page slower in Gradio 3, which builds closed sections, too."""
    host = FakeHost(tmp_path / "host")
    jobs = Jobs(host, lambda *_: None)
    with gr.Blocks() as page:
        controls = build(jobs, host)
    told = page.get_config_file()
    components, events = len(told["components"]), len(told["dependencies"])
    print(f"{len(controls)} settings, {components} components, {events} events")
    assert components < 1.75 * len(controls)
    assert events < 2 * len(controls)
    jobs.close(timeout=30)
