"""Captions by the WebUI: for pictures that have none, beside them, and only where the WebUI has something for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from PIL import Image

from atelier.config.errors import AtelierError
from atelier.config.job import job_from_settings
from atelier.config.settings.schema import Settings
from atelier.jobs.queue import Jobs
from atelier.ui.tab.captioning import Described, describe, uncaptioned
from atelier.ui.tab.tab import build
from tests.support.gradio_pages import handler_of
from tests.support.jobs_fakes import FakeHost


class DescribingHost(FakeHost):
    """Says how wide a picture is; cannot describe those in `fails`."""

    fails: tuple[int, ...] = ()

    def captioners(self) -> tuple[str, ...]:
        return ("BLIP", "DeepBooru")

    def caption(self, picture: Image.Image, captioner: str) -> str:
        if picture.width in self.fails:
            raise AtelierError("no weights")
        return f"{captioner} sees\n {picture.width} pixels"


@pytest.fixture
def host(tmp_path: Path) -> DescribingHost:
    return DescribingHost(tmp_path / "host")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three pictures of 100, 200 and 300 pixels, the second one with a caption."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in (1, 2, 3):
        Image.new("RGB", (100 * number, 100)).save(folder / f"{number}.png")
    (folder / "2.txt").write_text("mine", encoding="utf-8")
    return folder


def job(folder: Path, **changes: Any) -> Any:
    return job_from_settings(Settings(train_data_dir=str(folder), output_name="x", **changes))


def test_only_pictures_without_a_caption_get_one(folder: Path, host: DescribingHost) -> None:
    states = list(describe(job(folder), host, "BLIP"))
    assert [(state.done, state.finished) for state in states] == [(0, False), (1, False), (2, True)]
    assert "picture 2 of 2" in str(states[1]) and "2 of 2 pictures now have a caption file" in str(states[2])
    assert (folder / "1.txt").read_text(encoding="utf-8") == "BLIP sees 100 pixels\n"
    assert (folder / "2.txt").read_text(encoding="utf-8") == "mine"
    assert uncaptioned(job(folder)) == []
    assert [str(state) for state in describe(job(folder), host, "BLIP")] == ["Every picture has a caption already."]


def test_the_ending_of_caption_files_is_the_persons(folder: Path, host: DescribingHost) -> None:
    list(describe(job(folder, caption_extension=".caption", trigger="zwx"), host, "DeepBooru"))
    assert (folder / "3.caption").read_text(encoding="utf-8") == "DeepBooru sees 300 pixels\n"
    assert not (folder / "3.txt").exists()


def test_one_that_fails_is_told_and_the_first_ends_it(folder: Path, host: DescribingHost) -> None:
    host.fails = (300,)
    last = list(describe(job(folder), host, "BLIP"))[-1]
    assert last == Described(2, 2, ("3.png: no weights",)) and "1 of 2 pictures" in str(last)
    (folder / "1.txt").unlink()
    host.fails = (100, 300)
    states = list(describe(job(folder), host, "BLIP"))
    assert states[-1].finished and states[-1].problems == ("1.png: no weights",) and len(states) == 2
    assert str(states[-1]).startswith("0 of 2 pictures now have a caption file.")
    assert "has no Florence" in str(list(describe(job(folder), host, "Florence"))[-1])


@pytest.fixture
def jobs(host: DescribingHost) -> Iterator[Jobs]:
    made = Jobs(host, lambda *_: None)
    yield made
    made.close(timeout=30)


def test_the_button_shows_how_it_goes_and_what_was_found(folder: Path, host: DescribingHost, jobs: Jobs) -> None:
    with gr.Blocks() as page:
        controls = build(jobs, host)
    by_id = {block.elem_id: block for block in page.blocks.values() if getattr(block, "elem_id", None)}
    handler = handler_of(page, by_id["atelier_describe"], "click")
    held = {block: getattr(block, "value", None) for block in handler.inputs}
    held[by_id["atelier_files"]] = None
    held[controls["train_data_dir"]] = str(folder)
    answers = list(handler.fn(held))
    message = by_id["atelier_message"]
    assert "picture 1 of 2" in answers[0][message] and "2 of 2 pictures now have a caption file" in answers[-1][message]
    assert "3 of 3 captioned" in answers[-1][by_id["atelier_found"]]
    held[controls["train_data_dir"]] = str(folder / "none")
    assert "There is no folder" in list(handler.fn(held))[-1][message]


def test_a_host_without_an_interrogator_has_no_button(tmp_path: Path) -> None:
    bare = FakeHost(tmp_path / "bare")
    made = Jobs(bare, lambda *_: None)
    with gr.Blocks() as page:
        build(made, bare)
    made.close(timeout=30)
    assert not [block for block in page.blocks.values() if getattr(block, "elem_id", None) == "atelier_describe"]


def test_a_whole_model_gets_its_own_good_values(folder: Path, host: DescribingHost, jobs: Jobs) -> None:
    with gr.Blocks() as page:
        controls = build(jobs, host)
    handler = handler_of(page, controls["train_whole_model"], "input", onto=controls["learning_rate"])
    held = {block: getattr(block, "value", None) for block in handler.inputs}
    held[next(block for block in page.blocks.values() if getattr(block, "elem_id", None) == "atelier_files")] = None
    held |= {controls["train_data_dir"]: str(folder), controls["trigger"]: "zwx"}

    def filled(**values: bool) -> dict[Any, Any]:
        answers = handler.fn({**held, **{controls[key]: value for key, value in values.items()}})
        return {block: value for answer in answers for block, value in answer.items()}

    lora, whole = filled(), filled(train_whole_model=True)
    rate, saves = controls["learning_rate"], controls["save_every_n_steps"]
    assert float(whole.get(rate, rate.value)) < float(lora.get(rate, rate.value)) / 5
    assert lora[saves] != "" and saves not in whole
