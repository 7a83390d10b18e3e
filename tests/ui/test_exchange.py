"""kohya's files read into the controls and written from them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from atelier.config.imports.importer import read_any
from tests.ui.test_tab import Page

TRAINING = """
network_dim = 24
network_alpha = 12
max_train_steps = 1600
learning_rate = 2e-4
output_name = "mine"
some_unknown_key = 3
vae_path = "x"
"""
DATASET = """
[[datasets]]
resolution = 512
batch_size = 2
  [[datasets.subsets]]
  image_dir = '{folder}'
  num_repeats = 4
  class_tokens = "a thing"
"""


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    made = Page(tmp_path)
    yield made
    made.jobs.close(timeout=30)


def read(page: Page, path: Path) -> str:
    page.held[page.by_id["atelier_read_file"]] = str(path)
    page.call("atelier_read_file", "change")
    return str(page.held[page.by_id["atelier_report"]])


def test_a_training_toml_fills_the_controls_and_no_preset_changes_them(page: Page, tmp_path: Path) -> None:
    page.fill()
    page.change()
    path = tmp_path / "train.toml"
    path.write_text(TRAINING.replace("some_unknown_key = 3\n", ""), encoding="utf-8")
    report = read(page, path)
    assert "train.toml: sd-scripts training TOML" in report
    assert page.held[page.controls["network_dim"]] == "24"
    assert page.held[page.controls["output_name"]] == "mine"
    assert page.held[page.controls["trigger"]] == "zwx"
    page.change()
    assert page.held[page.controls["max_train_steps"]] == "1600"
    assert "atelier-ok" in page.train()
    settings = page.asked[0].settings
    assert (settings.network_dim, settings.max_train_steps, settings.learning_rate) == (24, 1600, 2e-4)
    assert settings.lr_scheduler == "constant", "what the file leaves out has kohya's default, not the preset's"
    page.call("atelier_reset", "click")
    assert page.held[page.controls["lr_scheduler"]] == "cosine"


def test_what_cannot_be_used_is_reported_and_changes_nothing(page: Page, tmp_path: Path) -> None:
    page.fill()
    before = dict(page.held)
    path = tmp_path / "broken.toml"
    path.write_text("network_dim = ", encoding="utf-8")
    assert "broken.toml" in read(page, path)
    path.write_text('network_dim = "many"\n<script> = 1', encoding="utf-8")
    assert "<script>" not in read(page, path)
    changed = {block for block in before if before[block] != page.held[block]}
    assert changed <= {page.by_id["atelier_read_file"], page.by_id["atelier_report"]}


def test_data_sets_of_a_file_are_trained_unless_own_pictures_are_given(page: Page, tmp_path: Path) -> None:
    path = tmp_path / "dataset.toml"
    path.write_text(DATASET.format(folder=page.pictures.as_posix()), encoding="utf-8")
    page.fill()
    read(page, path)
    assert page.held[page.controls["train_data_dir"]] == ""
    assert "3 pictures" in str(page.held[page.by_id["atelier_found"]])
    assert "atelier-ok" in page.train()
    (subset,) = page.asked[0].datasets.subsets
    assert (subset.num_repeats, subset.class_tokens) == (4, "a thing")
    assert page.asked[0].datasets.datasets[0].batch_size == 2
    page.set(train_data_dir=str(page.pictures), output_name="other")
    assert "Your own pictures are used" in page.change()
    page.train()
    assert page.asked[1].datasets.subsets[0].num_repeats == 1


def test_what_is_written_reads_back_as_the_same_settings(page: Page) -> None:
    page.fill()
    page.change()
    page.set(network_dim=20, optimizer_args=["weight_decay=0.1"])
    page.call("atelier_write", "click")
    files = [Path(file) for file in page.held[page.by_id["atelier_written"]]]
    assert [file.name for file in files][:2] == ["thing.toml", "thing_dataset.toml"]
    assert "accelerate launch train_network.py" in str(page.held[page.by_id["atelier_report"]])
    found = read_any(files[0])
    assert found.usable, found.problems
    assert (found.settings.network_dim, found.settings.optimizer_args) == (20, ["weight_decay=0.1"])
    assert found.datasets is not None and found.datasets.subsets[0].image_dir == str(page.pictures)


def test_nothing_is_written_without_pictures(page: Page) -> None:
    page.set(output_name="thing")
    page.call("atelier_write", "click")
    assert "Name a folder of pictures" in str(page.held[page.by_id["atelier_report"]])
    assert not page.held.get(page.by_id["atelier_written"])
