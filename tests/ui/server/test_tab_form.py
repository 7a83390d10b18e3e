"""What the tab holds: saves and samples follow the steps, and the form is kept for the next time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from atelier.config.settings.schema import Settings
from atelier.ui.server.form import LastForm
from tests.ui.test_tab import Page


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    made = Page(tmp_path)
    yield made
    made.jobs.close(timeout=30)


def test_saves_and_samples_follow_steps_that_are_changed(page: Page) -> None:
    page.fill()
    page.change()
    held = {key: page.held[page.controls[key]] for key in ("max_train_steps", "save_every_n_steps")}
    assert held == {"max_train_steps": "600", "save_every_n_steps": "150"}
    page.set(max_train_steps=100)
    page.change()
    assert [page.held[page.controls[f"{what}_every_n_steps"]] for what in ("save", "sample")] == ["25", "25"]
    page.set(save_every_n_steps=7, max_train_steps=40)
    page.change()
    assert [page.held[page.controls[f"{what}_every_n_steps"]] for what in ("save", "sample")] == ["7", "10"]
    page.set(max_train_epochs=100)  # of three pictures
    page.change()
    assert [page.held[page.controls[f"{what}_every_n_steps"]] for what in ("save", "sample")] == ["7", "100"]


def test_the_form_is_kept_as_it_changes(page: Page) -> None:
    form = LastForm.of(page.jobs, page.host)
    page.set(trigger="zwx")
    page.call("atelier_trigger", "change")
    kept = form.read()
    assert kept is not None
    assert (kept.values["trigger"], kept.values["train_data_dir"]) == ("zwx", "")
    steps = page.held[page.controls["max_train_steps"]]
    assert kept.values["max_train_steps"] == steps != str(Settings().max_train_steps), "it would be the person's own"
    page.fill()
    page.set(network_dim=3)
    page.train()
    kept = LastForm(page.host.folders.runs, page.host.name).read()
    assert kept is not None
    assert (kept.values["network_dim"], kept.values["train_data_dir"]) == ("3", str(page.pictures))
    assert set(kept.values) == set(page.controls)
