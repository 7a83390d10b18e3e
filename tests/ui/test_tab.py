"""The tab without a browser: its controls, its handlers, and that each setting reaches the job."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from PIL import Image

from atelier.config.datasets import Dataset, DatasetConfig, Subset
from atelier.config.errors import AtelierError
from atelier.config.job import JobConfig, job_to_dict
from atelier.config.settings.option import Option
from atelier.config.settings.schema import Settings, option
from atelier.jobs.queue import Jobs
from atelier.ui.fields import shown_options, to_control
from atelier.ui.gradio_compat import DroppedFile
from atelier.ui.server.request import Request, job_of, settings_of
from atelier.ui.tab.tab import build
from tests.support.gradio_pages import handler_of
from tests.support.jobs_fakes import FakeHost, job_named, model
from tests.ui.test_fields import other_value

COMPANIONS: dict[str, dict[str, Any]] = {
    "lr_warmup_steps": {"lr_scheduler": "cosine"},
    "cache_text_encoder_outputs": {"network_train_unet_only": True},
    "min_bucket_reso": {"max_bucket_reso": 2048},
    "max_bucket_reso": {"min_bucket_reso": 8},
    "network_train_text_encoder_only": {"network_train_unet_only": False},
    "class_prompt": {"num_class_images": 4},
    "num_class_images": {"class_prompt": ["a dog"]},
    "min_timestep": {"max_timestep": 900},
}
"""Settings that a value needs beside it."""


class Page:
    """The tab in a page, and its handlers as the browser calls them."""

    def __init__(self, tmp_path: Path) -> None:
        self.host = FakeHost(tmp_path / "host")
        self.pictures = tmp_path / "pictures"
        self.pictures.mkdir()
        for number in range(3):
            Image.new("RGB", (600 + 100 * number, 512), (80 * number, 0, 0)).save(self.pictures / f"{number}.png")
        (self.pictures / "0.txt").write_text("a red thing", encoding="utf-8")
        self.jobs = Jobs(self.host, lambda *_: None)
        self.asked: list[JobConfig] = []
        submit = self.jobs.submit

        def remember(config: JobConfig) -> Any:
            self.asked.append(config)
            return submit(config)

        self.jobs.submit = remember  # type: ignore[method-assign]
        with gr.Blocks() as self.blocks:
            self.controls = build(self.jobs, self.host)
        self.by_id = {block.elem_id: block for block in self.blocks.blocks.values() if getattr(block, "elem_id", None)}
        self.state = next(block for block in self.blocks.blocks.values() if isinstance(block, gr.State))
        self.held: dict[Any, Any] = {}
        self.reload()

    def reload(self) -> None:
        """What the controls hold when the page opens."""
        self.asked.clear()
        self.held = {block: block.value for block in self.blocks.blocks.values() if hasattr(block, "value")}
        self.held[self.by_id["atelier_files"]] = None

    def set(self, **values: Any) -> None:
        for key, value in values.items():
            self.held[self.controls[key]] = to_control(option(key), value)

    def fill(self) -> None:
        self.set(train_data_dir=str(self.pictures), trigger="zwx", output_name="thing", subject="object")

    def call(self, element: str, event: str, onto: Any = None) -> dict[Any, Any]:
        """Runs a handler with what the controls hold, and applies what it answers. `onto`: as in `handler_of`."""
        found = self.by_id[element]
        handler = handler_of(self.blocks, found, event, onto)
        assert handler.inputs_as_dict
        answered = handler.fn({block: self.held[block] for block in handler.inputs})
        answer: dict[Any, Any] = {}
        for part in [answered] if isinstance(answered, dict) else answered:
            answer.update(part)
        assert set(answer) <= set(handler.outputs)
        self.held.update(answer)
        return answer

    def change(self) -> str:
        self.call("atelier_train_data_dir", "change")
        return str(self.held[self.by_id["atelier_found"]])

    def train(self) -> str:
        self.call("atelier_train", "click")
        return str(self.held[self.by_id["atelier_message"]])


def test_class_pictures_are_told_before_train(page: Page) -> None:
    page.fill()
    page.set(class_prompt=["a dog"], num_class_images=4)
    assert "4 of 4 class pictures are drawn before the training: a dog." in page.change()
    page.set(num_class_images=None)
    assert "Class pictures to draw (num_class_images) is empty" in page.change()


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    made = Page(tmp_path)
    yield made
    made.jobs.close(timeout=30)


def test_every_setting_has_a_control_with_one_line_of_help(page: Page) -> None:
    for known in shown_options():
        control = page.by_id[f"atelier_{known.key}"]
        assert control.label and control.info, known.key
        assert "\n" not in control.info and len(control.info) < 160, known.key
    assert page.by_id["atelier_files"].label


def test_advanced_is_closed_and_train_is_not_in_it(page: Page) -> None:
    advanced = page.by_id["atelier_advanced"]
    assert advanced.open is False

    def inside(block: Any) -> bool:
        parent = block.parent
        return parent is not None and (parent is advanced or inside(parent))

    simple = {key for key, control in page.controls.items() if not inside(control)}
    assert simple == {"train_data_dir", "trigger", "subject", "output_name"}
    assert not inside(page.by_id["atelier_train"])


@pytest.fixture(scope="module")
def one_page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    made = Page(tmp_path_factory.mktemp("page"))
    yield made
    made.jobs.close(timeout=30)


@pytest.mark.parametrize("known", shown_options(), ids=lambda known: known.key)
def test_every_control_reaches_the_job(one_page: Page, known: Option) -> None:
    page = one_page
    page.reload()
    page.fill()
    page.set(output_name=f"thing {known.key}")
    page.change()
    Path(own := str(page.pictures.parent / "a.safetensors")).touch()
    value = {
        "network_weights": own,
        "vae": own,
        "base_weights": [own],
        **dict.fromkeys(("train_data_dir", "reg_data_dir", "conditioning_data_dir"), str(page.pictures)),
        "output_name": "another",
        "subject": "style",
    }.get(known.key, other_value(known))
    files = {"dim_from_weights": {"network_weights": own}, "base_weights_multiplier": {"base_weights": [own, own]}}
    page.set(**{**COMPANIONS, **files}.get(known.key, {}))
    page.set(**{known.key: value})
    message = page.train()
    assert "atelier-ok" in message, message
    (job,) = page.asked
    assert getattr(job.settings, known.key) == value


def test_events_name_all_controls_only_where_they_must(page: Page) -> None:
    """Gradio 3 and 4 look every named component up in a list before a page is shown."""
    named = sum(len(told["inputs"]) + len(told["outputs"]) for told in page.blocks.get_config_file()["dependencies"])
    assert 2 * len(page.controls) < named < 15 * len(page.controls)


def test_captions_from_names_reach_the_job(page: Page) -> None:
    page.fill()
    page.held[page.by_id["atelier_caption_from_name"]] = True
    page.train()
    assert [subset.caption_from_name for subset in page.asked[0].datasets.subsets] == [True]


def test_what_was_found_is_shown(page: Page) -> None:
    page.fill()
    (page.pictures / "cut.png").write_bytes((page.pictures / "1.png").read_bytes()[:200])
    (page.pictures / "2.txt").write_text("<script>alert(1)</script>", encoding="utf-8")
    found = page.change()
    assert "3 pictures, 2 of 3 captioned" in found
    assert found.count("<img") == 3 and found.count("data:image/jpeg;base64,") == 3
    assert "600×512" in found and "700×512" in found
    assert "zwx, a red thing" in found
    assert "cut.png" in found and str(page.pictures) not in found
    assert "<script>" not in found and "&lt;script&gt;" in found
    assert "no caption" in found


def test_presets_follow_the_pictures_until_a_value_is_changed(page: Page) -> None:
    page.set(train_data_dir=str(page.pictures), subject="object")
    page.change()
    steps = page.held[page.controls["max_train_steps"]]
    assert steps == "600"
    page.set(max_train_steps=123)
    page.set(subject="style")
    page.change()
    assert page.held[page.controls["max_train_steps"]] == "123"
    assert page.held[page.controls["network_dim"]] == "32"
    assert page.held[page.controls["flip_aug"]] is True
    page.call("atelier_reset", "click")
    assert page.held[page.controls["max_train_steps"]] == "1200"
    page.set(train_data_dir="")
    assert "shown here" in page.change()


def test_train_pressed_at_once_uses_the_preset_too(page: Page) -> None:
    page.fill()
    page.train()
    settings = page.asked[0].settings
    assert (settings.max_train_steps, settings.network_dim, settings.lr_scheduler) == (600, 16, "cosine")
    assert (settings.output_name, settings.trigger, settings.subject) == ("thing", "zwx", "object")
    assert [subset.image_dir for subset in page.asked[0].datasets.subsets] == [str(page.pictures)]


def test_dropped_files_become_a_folder_of_the_run(page: Page) -> None:
    page.fill()
    page.set(train_data_dir="")
    files = [str(page.pictures / name) for name in ("0.png", "1.png", "0.txt")]
    page.held[page.by_id["atelier_files"]] = [*files, __file__]
    page.call("atelier_files", "change")
    found = str(page.held[page.by_id["atelier_found"]])
    assert "2 pictures, 1 of 2 captioned" in found
    assert "test_tab.py is neither a picture nor a caption file" in found
    page.train()
    folder = Path(page.asked[0].settings.train_data_dir or "")
    assert folder.parent.parent == page.host.folders.runs
    assert sorted(path.name for path in folder.iterdir()) == ["0.png", "0.txt", "1.png"]


def broken_name(page: Page) -> None:
    page.set(output_name="../thing")


def no_pictures(page: Page) -> None:
    for path in page.pictures.iterdir():
        path.unlink()


def no_words(page: Page) -> None:
    (page.pictures / "0.txt").unlink()
    page.set(trigger="")


def unborrowable(page: Page) -> None:
    page.host.model = model(refusal="The model is kept in 4 bits. Set Diffusion in Low Bits to Automatic.")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (no_pictures, "There are no pictures in"),
        (no_words, "None of the pictures has a caption"),
        (lambda page: page.set(train_data_dir=""), "Name a folder of pictures"),
        (lambda page: page.set(train_data_dir="/no/such/folder"), "There is no folder /no/such/folder"),
        (broken_name, "Output name (output_name) is &#x27;../thing&#x27;; a name cannot contain a folder"),
        (lambda page: page.set(output_name=""), "Output name (output_name): give it a name."),
        (lambda page: page.set(network_dim=0), "Rank (network_dim) is 0; it must be at least 1."),
        (lambda page: page.set(learning_rate=99.0), "Learning rate (learning_rate) is 99.0; it must be at most 10."),
        (
            lambda page: page.set(resolution="big"),
            "Resolution is &#x27;big&#x27;; write one side (512) or WIDTH,HEIGHT",
        ),
        (lambda page: setattr(page.host, "model", None), "No model is loaded."),
        (unborrowable, "Set Diffusion in Low Bits"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(page: Page, spoil: Callable[[Page], Any], words: str) -> None:
    page.fill()
    page.change()
    spoil(page)
    message = page.train()
    assert words in message and 'role="alert"' in message
    assert "Traceback" not in message
    assert page.asked == []


def test_a_taken_name_offers_the_next_one_and_nothing_is_lost(page: Page) -> None:
    page.fill()
    (page.host.folders.lora / "thing.safetensors").write_bytes(b"older")
    assert "thing-2 is free" in page.change()
    message = page.train()
    assert "There is a LoRA named thing already" in message and page.asked == []
    assert page.held[page.controls["output_name"]] == "thing-2"
    assert "atelier-ok" in page.train()
    assert (page.host.folders.lora / "thing.safetensors").read_bytes() == b"older"


def test_an_open_network_page_takes_no_folders(tmp_path: Path) -> None:
    host = FakeHost(tmp_path / "host")
    jobs = Jobs(host, lambda *_: None)
    with gr.Blocks() as blocks:
        controls = build(jobs, host, paths=False)
    handler = handler_of(blocks, controls["train_data_dir"], "change")
    held = {block: getattr(block, "value", None) for block in handler.inputs}
    held[controls["train_data_dir"]] = str(tmp_path)
    answers = list(handler.fn(held))
    assert any("cannot be named" in str(value) for answer in answers for value in answer.values())
    jobs.close(timeout=30)


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ({"reg_data_dir": "HERE"}, "cannot be named"),
        ({"network_weights": "HERE/a.safetensors"}, "cannot be named"),
        ({"sample_prompts": "HERE/prompts.txt"}, "cannot be named"),
        ({"network_args": "algo=loha\npreset = HERE/layers.toml"}, "cannot be named"),
        ({"optimizer_type": "subprocess.Popen"}, r"Optimizer \(optimizer_type\) cannot be a Python class"),
    ],
)
def test_an_open_network_page_takes_nothing_else_that_is_named(
    named: dict[str, str], said: str, tmp_path: Path
) -> None:
    host = FakeHost(tmp_path / "host")
    picture = tmp_path / "0.png"
    Image.new("RGB", (64, 64)).save(picture)
    asked = {"output_name": "thing", **{key: text.replace("HERE", str(tmp_path)) for key, text in named.items()}}
    files = [DroppedFile(picture, "0.png")]
    assert settings_of(Request({"output_name": "thing"}, files, paths=False), host).train_data_dir
    with pytest.raises(AtelierError, match=said):
        settings_of(Request(asked, files, paths=False), host)
    assert settings_of(Request(asked, files), host).train_data_dir


def test_an_open_network_page_takes_no_folders_of_a_file_that_was_read_in(tmp_path: Path) -> None:
    """Its data sets name folders of this machine, though no control does."""
    host = FakeHost(tmp_path / "host")
    picture = tmp_path / "0.png"
    Image.new("RGB", (64, 64)).save(picture)
    asked, files = {"output_name": "thing"}, [DroppedFile(picture, "0.png")]
    imported = {"datasets": job_to_dict(job_named())["datasets"], "extra": {"log_with": "wandb"}}
    for given in ([], files):
        with pytest.raises(AtelierError, match="folders and files of this machine cannot be named"):
            settings_of(Request(asked, given, paths=False, imported=imported), host)
    without_folders = {"datasets": [], "extra": {"log_with": "wandb"}}
    assert settings_of(Request(asked, files, paths=False, imported=without_folders), host).train_data_dir
    assert settings_of(Request(asked, [], paths=True, imported=imported), host).train_data_dir is None


def test_captions_from_names_are_for_the_pictures_to_learn_from_alone(tmp_path: Path) -> None:
    """Regularisation pictures show the class, and are called by it and never by a file's name."""
    host = FakeHost(tmp_path / "host")
    subsets = [Subset(image_dir="a"), Subset(image_dir="b", is_reg=True), Subset(image_dir="c", caption_from_name=True)]
    job = JobConfig(Settings(), DatasetConfig([Dataset(subsets=subsets)]))
    imported = {"datasets": job_to_dict(job)["datasets"]}
    for asked, expected in ((True, [True, False, True]), (False, [False, False, True])):
        found = job_of(Request({"output_name": "thing"}, caption_from_name=asked, imported=imported), host)
        assert [subset.caption_from_name for subset in found.datasets.subsets] == expected


@pytest.mark.parametrize("key", ["", "another page's", None])
def test_another_site_presses_nothing(page: Page, key: str | None) -> None:
    """It can call every handler with what it likes, but for the key, which lies in the page."""
    page.fill()
    page.held[page.by_id["atelier_page_key"]] = key
    assert "Reload the page" in page.train() and page.asked == []
    page.call("atelier_write", "click")
    assert "Reload the page" in str(page.held[page.by_id["atelier_report"]])
    for element in ("atelier_merge", "atelier_extract"):
        page.call(element, "click")
        assert "Reload the page" in str(page.held[page.by_id["atelier_tools_report"]])
    page.held[page.by_id["atelier_page_key"]] = page.jobs.page_key
    assert "atelier-ok" in page.train() and len(page.asked) == 1
    assert len(page.jobs.page_key) > 20 and page.jobs.page_key != Jobs(page.host, lambda *_: None).page_key


def test_which_webuis_can_use_the_kind_is_said_beneath_it(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(page.host), "name", "forge")
    page.fill()
    note = page.by_id["atelier_kind_note"]
    assert note.value == ""
    page.set(network_module="lycoris.kohya", network_args=["algo=ia3", "preset=ia3"])
    page.call("atelier_network_args", "blur", note)
    assert "This WebUI (Forge) does not load (IA)³ files" in page.held[note] and "SD.Next load it" in page.held[note]
    page.set(network_args=["algo=<b>"])
    page.call("atelier_network_module", "input", note)
    assert "&lt;b&gt;" in page.held[note] and "<b>" not in page.held[note]
    page.set(network_args=["algo=loha"])
    page.call("atelier_network_args", "submit", note)
    assert "atelier-quiet" in page.held[note] and "LoHa" in page.held[note]
    page.set(network_args=["algo=boft"])
    assert "(Forge) does not load BOFT" in page.train()
    page.call("atelier_reset", "click")
    assert page.held[note] == ""
