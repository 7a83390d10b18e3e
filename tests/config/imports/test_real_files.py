"""What real files taught: every way in which people and programs write settings is read by import, train and POST."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from atelier.cli.train_command import pairs
from atelier.config.errors import AtelierError, SettingsError
from atelier.config.imports.importer import import_report, read_any
from atelier.config.imports.loading import load_job
from atelier.config.job import JobConfig
from atelier.config.kohya.document import parse_document
from atelier.config.kohya.exporter import export_job
from atelier.config.kohya.toml_in import settings_from
from atelier.config.kohya.verdicts import HONOURED, UNKNOWN, WITHOUT_EFFECT
from atelier.config.settings.arguments import split_arguments
from atelier.config.settings.option import Option
from atelier.config.settings.schema import Settings, options
from atelier.config.settings.values import BadValue, coerce

QUOTED = {
    "LoRA_type": "Standard", "train_data_dir": "pictures", "output_name": "quoted", "optimizer": "Prodigy",
    "optimizer_args": '"weight_decay=0.01" "d_coef=0.8" "use_bias_correction=True"',
    "lr_scheduler_args": '"gamma=0.5" "last_epoch=-1"', "network_dim": 8, "max_train_steps": "20",
    "max_resolution": "64,64", "lr_scheduler": "cosine",
}  # fmt: skip
THREE = ["weight_decay=0.01", "d_coef=0.8", "use_bias_correction=True"]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder with pictures in it; the files name it as "pictures"."""
    (tmp_path / "pictures").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        yield tmp_path


def written(folder: Path, name: str, content: Any) -> Path:
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def read_text(text: str, **overrides: Any) -> Settings:
    return settings_from(parse_document(text, "my.toml"), overrides)


# -- arguments in quotation marks ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        '"weight_decay=0.01" "d_coef=0.8" "use_bias_correction=True"',
        "'weight_decay=0.01' 'd_coef=0.8' 'use_bias_correction=True'",
        "weight_decay=0.01 d_coef=0.8 use_bias_correction=True",
        '"weight_decay=0.01 d_coef=0.8 use_bias_correction=True"',
        '\\"weight_decay=0.01\\" \\"d_coef=0.8\\" \\"use_bias_correction=True\\"',
        'weight_decay="0.01" d_coef="0.8" "use_bias_correction"="True"',
        '["weight_decay=0.01", "d_coef=0.8", "use_bias_correction=True"]',
        "weight_decay=0.01\nd_coef=0.8\nuse_bias_correction=True",
        ['"weight_decay=0.01"', '"d_coef=0.8"', "'use_bias_correction=True'"],
        ["weight_decay=0.01 d_coef=0.8", "use_bias_correction=True"],
        '"weight_decay=0.01" "d_coef=0.8" use_bias_correction=True"',
        {"weight_decay": 0.01, "d_coef": 0.8, "use_bias_correction": True},
        "weight_decay = 0.01 d_coef = 0.8 use_bias_correction= True",
        "“weight_decay=0.01” “d_coef=0.8” „use_bias_correction=True“",
    ],
)
@pytest.mark.parametrize("key", ["optimizer_args", "network_args", "lr_scheduler_args"])
def test_arguments_are_read_however_they_are_quoted(key: str, text: Any) -> None:
    assert coerce(_option(key), text) == THREE


@pytest.mark.parametrize(
    ("texts", "found"),
    [
        (["betas=0.9,", "0.99"], ["betas=0.9,0.99"]),
        (['"betas=(0.9, 0.99)" "eps=1e-8"'], ["betas=(0.9, 0.99)", "eps=1e-8"]),
        (["preset=C:\\my files\\a.toml"], ["preset=C:\\my files\\a.toml"]),
        (['preset="C:\\my files\\a.toml" algo=loha'], ["preset=C:\\my files\\a.toml", "algo=loha"]),
        (["preset=/home/o'neil/a.toml algo=loha"], ["preset=/home/o'neil/a.toml", "algo=loha"]),
        (["down_lr_weight=0,0,1,1"], ["down_lr_weight=0,0,1,1"]),
        (['""'], []),
        (["algo= conv_dim=4"], ["algo=", "conv_dim=4"]),
    ],
)
def test_what_belongs_together_stays_together(texts: list[str], found: list[str]) -> None:
    assert split_arguments(texts) == found


def test_a_preset_with_quoted_arguments(folder: Path) -> None:
    """The same three arguments by import, export and train."""
    path = written(folder, "gui.json", QUOTED)
    assert import_report(path)["settings"]["optimizer_args"] == THREE
    assert load_job(path).settings.optimizer_args == THREE
    assert load_job(path).settings.lr_scheduler_args == ["gamma=0.5", "last_epoch=-1"]
    exported = export_job(read_any(path).job(), folder / "out")
    assert read_any(exported.training).settings.optimizer_args == THREE


@pytest.mark.parametrize(
    "text", ["weight_decay=0.01, d_coef=0.8", "weight_decay=0.01,d_coef=0.8", ["weight_decay=0.01,"]]
)
def test_a_comma_between_arguments_is_named(text: Any) -> None:
    if isinstance(text, str):
        with pytest.raises(BadValue, match="there is a semicolon after the value of weight_decay"):
            coerce(_option("optimizer_args"), text.replace(",", ";"))
    with pytest.raises(BadValue) as caught:
        coerce(_option("optimizer_args"), text)
    assert "there is a comma after the value of weight_decay" in str(caught.value)


@pytest.mark.parametrize("text", ["--weight_decay=0.1", "--optimizer_args weight_decay=0.1", "weight_decay:0.1", "0.1"])
@pytest.mark.parametrize("key", ["optimizer_args", "lr_scheduler_args"])
def test_what_is_no_argument_is_told_at_import(key: str, text: str) -> None:
    with pytest.raises(BadValue, match="must be key=value, such as"):
        coerce(_option(key), text)


def test_a_list_of_sample_prompts_has_one_on_each_line() -> None:
    assert read_text('sample_prompts = ["a cat, sitting", "a dog --n bad"]').sample_prompts == (
        "a cat, sitting\na dog --n bad"
    )


# -- lists that are given as one text ---------------------------------------------------------------------------------


def test_a_class_prompt_stays_whole() -> None:
    prompt = "a photo of a circle"
    assert read_text("", class_prompt=prompt).class_prompt == [prompt]
    assert read_text(f'class_prompt = "{prompt}"').class_prompt == [prompt]
    assert read_text("", class_prompt=f'"{prompt}"').class_prompt == [prompt]
    assert read_text("", class_prompt=[prompt, "a dog"]).class_prompt == [prompt, "a dog"]
    for given in (["--class_prompt", prompt], [f"--class_prompt={prompt}"]):
        assert read_text("", **pairs(given)).class_prompt == [prompt]
    two = pairs(["--class_prompt", prompt, "a dog", "--output_name", "my", "cat", "--flip_aug"])
    settings = read_text("", **two)
    assert (settings.class_prompt, settings.output_name, settings.flip_aug) == ([prompt, "a dog"], "my cat", True)


def test_files_in_one_text() -> None:
    for text in ("a b/x.safetensors c d/y.safetensors", '"a b/x.safetensors" "c d/y.safetensors"',
                 "a b/x.safetensors, c d/y.safetensors", "a b/x.safetensors\nc d/y.safetensors"):  # fmt: skip
        assert read_text("", base_weights=text).base_weights == ["a b/x.safetensors", "c d/y.safetensors"], text
    assert read_text("", base_weights="a b/x.safetensors").base_weights == ["a b/x.safetensors"]
    assert read_text("", base_weights=["a b/x.safetensors", "y"]).base_weights == ["a b/x.safetensors", "y"]


def test_words_and_numbers_in_one_text() -> None:
    for text in ("down, mid", "down mid", "down\nmid"):
        assert read_text("", freeze_blocks=text).freeze_blocks == ["down", "mid"]
    for text in ("1e-4 5e-5", "1e-4,5e-5", "[1e-4, 5e-5]", ["1e-4", "5e-5"]):
        assert read_text("", text_encoder_lr=text).text_encoder_lr == [1e-4, 5e-5]


LISTS = [option for option in options() if option.kind in ("strs", "floats")]
ENTRIES = {"strs": "key=a value", "floats": "0.5"}


@pytest.mark.parametrize("option", LISTS, ids=lambda option: option.key)
def test_every_list_may_be_one_text(option: Option) -> None:
    """One entry as a text, in a list, and in quotation marks is the same list; nothing is an empty one."""
    entry = {"base_weights": "a b.safetensors", "freeze_blocks": "down"}.get(option.key, ENTRIES[option.kind])
    one = coerce(option, entry)
    assert len(one) == 1 and one == coerce(option, [entry])
    if option.kind == "strs":
        assert one == [entry] == coerce(option, f'"{entry}"')
    for nothing in ("", "None", False, [], None):
        assert coerce(option, nothing) == []


# -- "not set" where kohya's parser has a text ------------------------------------------------------------------------

TEXTS = [option for option in options() if option.kind == "str"]


@pytest.mark.parametrize("option", TEXTS, ids=lambda option: option.key)
@pytest.mark.parametrize("nothing", ["false", "0", '""', '"None"', '"false"', "[]"])
def test_a_text_that_is_not_set(option: Option, nothing: str) -> None:
    """Means the same as to leave the key out."""
    assert read_text(f"{option.key} = {nothing}\nnetwork_dim = 4") == read_text("network_dim = 4")


def test_false_is_zero_where_a_number_must_be_set() -> None:
    settings = read_text("keep_tokens = false\nlearning_rate = false\nnoise_offset = false\nseed = false")
    assert (settings.keep_tokens, settings.learning_rate) == (0, 0.0)
    assert settings.noise_offset is None and settings.seed is None
    with pytest.raises(SettingsError, match="it must be at least 1"):
        read_text("network_dim = false")


def test_resume_false(folder: Path) -> None:
    path = written(folder, "x.toml", 'output_name = "fresh"\nresume = false\ntrain_data_dir = "pictures"\n')
    assert import_report(path)["usable"] and load_job(path).settings.resume is None


# -- keys that nobody knows -------------------------------------------------------------------------------------------

STRANGE = """
train_data_dir = "pictures"
output_name = "known"
lr_restart_cycles = 2
noise_offset_type = "original"
batch_size = 2
"""


def test_an_unknown_key_is_a_warning_everywhere(folder: Path) -> None:
    path = written(folder, "a.toml", STRANGE)
    found = read_any(path)
    assert found.usable and [key.key for key in found.keys if key.verdict == UNKNOWN] == [
        "lr_restart_cycles", "noise_offset_type", "batch_size",
    ]  # fmt: skip
    notes = load_job(path).notes
    assert notes == found.notes and len(notes) == 3
    assert notes[0] == (
        "a.toml, line 4: lr_restart_cycles is 2; it is not known and is ignored; did you mean lr_scheduler_num_cycles?"
    )
    assert notes[1].endswith("did you mean noise_offset?") and notes[2].endswith("did you mean train_batch_size?")


def test_an_unknown_key_on_a_command_line_is_an_error(folder: Path) -> None:
    path = written(folder, "a.toml", STRANGE)
    with pytest.raises(SettingsError, match="--lerning_rate is '1'; there is no such key; did you mean learning_rate"):
        load_job(path, overrides={"lerning_rate": "1"})


# -- train reads what import reads ------------------------------------------------------------------------------------

ONE_FILE = """
output_name = "one"
network_dim = 4
[[datasets]]
resolution = 64
  [[datasets.subsets]]
  image_dir = "pictures"
  num_repeats = 2
"""


def test_settings_and_pictures_in_one_file(folder: Path) -> None:
    job = load_job(written(folder, "one.toml", ONE_FILE), overrides={"network_dim": "6"})
    assert job.settings.output_name == "one" and job.settings.network_dim == 6
    assert [subset.num_repeats for subset in job.datasets.subsets] == [2]


def test_a_preset_and_a_command_line(folder: Path) -> None:
    job = load_job(written(folder, "gui.json", QUOTED), overrides={"max_train_steps": "3", "optimizer_type": "Lion"})
    assert (job.settings.max_train_steps, job.settings.optimizer_type, job.settings.network_dim) == (3, "Lion", 8)


def test_a_dataset_file_alone_is_told_where_it_belongs(folder: Path) -> None:
    data = written(folder, "data.toml", '[[datasets]]\n[[datasets.subsets]]\nimage_dir = "pictures"\n')
    with pytest.raises(AtelierError, match="--dataset_config data.toml"):
        load_job(data)
    training = written(folder, "a.toml", 'output_name = "x"\nnetwork_dim = 4\n')
    assert load_job(training, data).datasets.subsets[0].image_dir == "pictures"
    with pytest.raises(SettingsError, match="dataset_config is '.*none.toml'; there is no such file"):
        load_job(training, folder / "none.toml")


def test_a_lora_file_to_train_like(folder: Path) -> None:
    import torch
    from safetensors.torch import save_file

    path = folder / "old.safetensors"
    metadata = {"ss_network_dim": "12", "ss_network_module": "networks.lora", "ss_learning_rate": "0.0003"}
    save_file({"lora_unet_x.lora_down.weight": torch.zeros(12, 3)}, str(path), metadata)
    job = load_job(path, overrides={"train_data_dir": "pictures"})
    assert (job.settings.network_dim, job.settings.learning_rate) == (12, 3e-4)
    with pytest.raises(SettingsError, match="give a folder of pictures"):
        load_job(path)


def test_an_earlier_run_and_a_command_line(folder: Path) -> None:
    from atelier.config.job import job_to_dict

    job = load_job(written(folder, "one.toml", ONE_FILE))
    again = load_job(written(folder, "request.json", job_to_dict(job)), overrides={"output_name": "two"})
    assert again.settings == job.settings.replace(output_name="two")
    with pytest.raises(SettingsError, match="--network_dim"):
        load_job(folder / "request.json", overrides={"network_dim": "0"})


# -- values that mean another here ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("given", "read"), [(255, 225), (100, 75), (77, 75), (300, 225), (30, 75)])
def test_lengths_between_the_parts_of_a_caption(given: int, read: int, folder: Path) -> None:
    found = read_any(written(folder, "x.toml", f"max_token_length = {given}\n"))
    assert found.usable and found.settings.max_token_length == read
    assert any(f"max_token_length {given} is read as {read}" in note for note in found.notes)


def test_a_bucket_step_of_one_is_the_same_from_everywhere(folder: Path) -> None:
    preset = written(folder, "x.json", {**QUOTED, "bucket_reso_steps": 1})
    training = written(folder, "x.toml", "bucket_reso_steps = 1\n")
    data = written(
        folder, "d.toml", '[[datasets]]\nbucket_reso_steps = 1\n[[datasets.subsets]]\nimage_dir="pictures"\n'
    )
    assert read_any(preset).settings.bucket_reso_steps == read_any(training).settings.bucket_reso_steps == 8
    datasets = read_any(data).datasets
    assert datasets is not None and datasets.datasets[0].bucket_reso_steps == 8
    for path in (training, data):
        assert any("bucket_reso_steps 1 is read as 8" in note for note in read_any(path).notes)


@pytest.mark.parametrize(("zero", "clips"), [(0, 1.0), ("0", 1.0), (0.5, 0.5)])
def test_the_gui_drops_a_gradient_norm_of_zero(zero: Any, clips: float, folder: Path) -> None:
    found = read_any(written(folder, "x.json", {**QUOTED, "max_grad_norm": zero}))
    assert found.settings.max_grad_norm == clips
    if clips == 1.0:
        assert "The GUI leaves out a 0" in next(key.note for key in found.keys if key.key == "max_grad_norm")


def test_settings_that_do_nothing_say_so(folder: Path) -> None:
    found = read_any(written(folder, "x.toml", "adaptive_noise_scale = 0.05\nnoise_offset_random_strength = true\n"))
    assert {key.key: (key.verdict, key.note) for key in found.keys} == {
        "adaptive_noise_scale": (WITHOUT_EFFECT, "It does nothing without noise_offset."),
        "noise_offset_random_strength": (WITHOUT_EFFECT, "It does nothing without noise_offset."),
    }
    found = read_any(written(folder, "x.toml", "adaptive_noise_scale = 0.05\nnoise_offset = 0.1\n"))
    assert {key.verdict for key in found.keys} == {HONOURED}


@pytest.mark.parametrize(
    ("optimizer", "instead"), [("AdamW8bit", "AdamW"), ("Lion8bit", "Lion"), ("PagedAdamW", "AdamW")]
)
def test_an_optimizer_without_its_package(
    optimizer: str, instead: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(folder, "x.toml", f'optimizer_type = "{optimizer}"\n')
    monkeypatch.setattr("atelier.config.optimizers.find_spec", lambda package: None)
    assert any("needs the package bitsandbytes" in note and f"to {instead}, " in note for note in read_any(path).notes)
    monkeypatch.setattr("atelier.config.optimizers.find_spec", lambda package: package)
    assert read_any(path).notes == []


def test_classes_of_packages_that_are_not_there(folder: Path) -> None:
    text = (
        'optimizer_type = "LoraEasyCustomOptimizer.came.CAME"\nlr_scheduler_type = "torch.optim.lr_scheduler.StepLR"\n'
    )
    (note,) = read_any(written(folder, "x.toml", text)).notes
    assert note == (
        "optimizer_type LoraEasyCustomOptimizer.came.CAME needs the package LoraEasyCustomOptimizer, which is not "
        "installed here. Install it, or set optimizer_type to AdamW."
    )


# -- export of what is elsewhere --------------------------------------------------------------------------------------


def test_pictures_of_another_machine_are_exported(folder: Path) -> None:
    preset = {**QUOTED, "train_data_dir": "/data/faces", "reg_data_dir": "/data/class"}
    job: JobConfig = read_any(written(folder, "x.json", preset)).job()
    exported = export_job(job, folder / "out")
    assert [text.partition(":")[0] for text in exported.missing] == [
        "pretrained_model_name_or_path", "train_data_dir", "reg_data_dir",
    ]  # fmt: skip
    assert "/data/faces is not on this machine" in exported.missing[1]
    back = read_any(exported.training).settings
    assert (back.train_data_dir, back.reg_data_dir) == ("/data/faces", "/data/class")


def _option(key: str) -> Option:
    return next(option for option in options() if option.key == key)
