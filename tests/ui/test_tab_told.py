"""What the tab says before and at Train: of the model, the pictures, a wrong folder, and who is logged in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from atelier.ui.server.form import LastForm
from atelier.ui.server.model_line import model_line
from tests.support.gradio_pages import handler_of
from tests.support.jobs_fakes import model
from tests.ui.test_tab import Page


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    made = Page(tmp_path)
    yield made
    made.jobs.close(timeout=30)


def test_alpha_follows_the_rank_and_rhythms_follow_the_steps(page: Page) -> None:
    page.set(train_data_dir=str(page.pictures), subject="object")
    page.change()
    page.set(network_dim=4, max_train_steps=40)
    page.change()
    keys = ("network_alpha", "save_every_n_steps", "sample_every_n_steps")
    assert [page.held[page.controls[key]] for key in keys] == ["2", "10", "10"]
    page.set(network_alpha=3.0, network_dim=8, max_train_steps=1000)
    page.change()
    assert [page.held[page.controls[key]] for key in keys] == ["3", "250", "250"]


def test_train_says_first_when_the_model_is_another(page: Page) -> None:
    page.fill()
    page.change()
    page.host.model = model("another")
    assert "The checkpoint is now another; this form was checked for base." in page.train()
    assert page.asked == []
    assert "atelier-ok" in page.train() and len(page.asked) == 1


def test_small_pictures_are_told(page: Page) -> None:
    page.fill()
    assert "enlarged" not in page.change()
    for path in page.pictures.glob("*.png"):
        Image.new("RGB", (64, 64)).save(path)
    found = page.change()
    assert "3 of 3 pictures are enlarged to fit the resolution: the smallest, 0.png (64×64), 8 times." in found
    assert "lower Resolution, or turn on Never enlarge (bucket_no_upscale)" in found
    page.set(bucket_no_upscale=True)
    assert "enlarged to fit" not in page.change()


def test_a_file_and_an_empty_caption_are_told_as_that(page: Page) -> None:
    page.fill()
    page.set(train_data_dir=str(page.pictures / "0.png"))
    found = page.change()
    assert f"0.png is a file. Name the folder that it is in: {page.pictures}." in found
    assert 'data-keys="train_data_dir@"' in page.train()
    page.set(train_data_dir=str(page.pictures), trigger="")
    (page.pictures / "1.txt").write_text("", encoding="utf-8")
    assert "(an empty caption)" in page.change()
    page.set(network_dim=0)
    assert 'data-keys="network_dim@atelier_group_network"' in page.train()


def test_the_form_is_kept_for_the_person_who_is_logged_in(page: Page) -> None:
    page.fill()
    handler = handler_of(page.blocks, page.controls["output_name"], "change")
    held = {block: page.held[block] for block in handler.inputs}
    list(handler.fn(held, asker=SimpleNamespace(username="ann")))
    form = LastForm.of(page.jobs, page.host).read(user="ann")
    assert form is not None and form.values["output_name"] == "thing"
    assert LastForm.of(page.jobs, page.host).read() is None


def test_before_a_model_is_loaded_the_page_says_who_loads_it(page: Page) -> None:
    page.fill()
    assert model_line(page.host) == "Trains on base."
    page.host.model = model(refusal="The model is kept in 4 bits.")
    assert model_line(page.host) == "The model is kept in 4 bits."
    page.host.model = None
    assert model_line(page.host) == "No model is loaded."
    page.host.load_chosen = lambda: None
    assert "Train loads the checkpoint that is chosen" in model_line(page.host)
