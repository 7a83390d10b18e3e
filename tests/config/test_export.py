"""Export: the pair of TOML files sd-scripts would run. A round trip keeps every value."""

from __future__ import annotations

import dataclasses
import string
from pathlib import Path
from typing import Any

import pytest
import tomlkit
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as some

from atelier.config.datasets import Dataset, DatasetConfig, Subset
from atelier.config.imports.importer import import_report, read_any
from atelier.config.imports.loading import load_job
from atelier.config.job import JobConfig, job_from_dict, job_to_dict
from atelier.config.kohya.assemble import KOHYA_DEFAULTS
from atelier.config.kohya.document import parse_document
from atelier.config.kohya.exporter import export_job
from atelier.config.kohya.toml_in import settings_from
from atelier.config.kohya.toml_out import dataset_toml, training_toml
from atelier.config.kohya.verdicts import table
from atelier.config.settings.checks import validate
from atelier.config.settings.option import Option
from atelier.config.settings.schema import Settings, options
from atelier.config.settings.values import NOTHING

TEXTS = some.text(string.ascii_letters + string.digits + " _-.,'\"\\#=[]{}|äé雪", min_size=1, max_size=12).filter(
    lambda text: text.strip() == text and text.lower() not in (*NOTHING, "false")  # those say "not set"
)


def values_of(option: Option) -> some.SearchStrategy[Any]:
    """Values that the setting allows, but for those that another setting would contradict."""
    low, high = option.minimum, option.maximum
    whole = some.integers(int(low if low is not None else -1000), int(min(high if high is not None else 10**6, 1000)))
    real = some.floats(low if low is not None else -10.0, min(high if high is not None else 1000.0, 1000.0))
    if option.key == "max_token_length":
        found: some.SearchStrategy[Any] = some.sampled_from([75, 150, 225])
    elif option.key == "resolution":
        found = some.sampled_from(["512", "768,512", "64"])
    elif option.key == "webhook_url":
        found = some.sampled_from(["https://example.org/hook?key=1"])
    elif option.choices:
        found = some.sampled_from(option.choices)
    else:
        found = {
            "bool": some.booleans(),
            "int": whole,
            "float": real,
            "int_or_float": whole | real,
            "str": TEXTS,
            "floats": some.lists(real, max_size=3),
            "strs": some.lists(some.sampled_from(["a=1", "betas=0.9,0.99", "eps=1e-8", "preset=full"]), max_size=3),
        }[option.kind]
    return found | some.none() if option.optional else found


@some.composite
def any_settings(draw: Any) -> Settings:
    values = {option.key: draw(values_of(option)) for option in options()}
    values |= {"lr_warmup_steps": 0, "dim_from_weights": False, "base_weights_multiplier": [], "min_timestep": None}
    values["max_bucket_reso"] = max(values["max_bucket_reso"], values["min_bucket_reso"])
    values["network_train_text_encoder_only"] &= not values["network_train_unet_only"]
    values["cache_text_encoder_outputs"] |= values["cache_text_encoder_outputs_to_disk"]
    if values["cache_text_encoder_outputs"]:
        values["caption_dropout_rate"] = 0.0
    if values["network_dropout"] is not None:
        values["network_dropout"] = min(values["network_dropout"], 0.9)  # at 1 nothing is trained
    found = Settings(**values)
    assert validate(found) == []
    return found


SUBSETS = some.builds(
    Subset,
    image_dir=some.sampled_from(["C:\\pictures\\10_cat", "/data/cat", "cat's"]),
    num_repeats=some.integers(1, 20),
    class_tokens=some.none() | TEXTS,
    is_reg=some.booleans(),
    caption_prefix=some.none() | TEXTS,
    caption_suffix=some.none() | TEXTS,
    keep_tokens=some.integers(0, 9),
    keep_tokens_separator=some.sampled_from(["", "|||"]),
    secondary_separator=some.none() | some.just(";;;"),
    shuffle_caption=some.booleans(),
    caption_dropout_rate=some.floats(0, 1),
    token_warmup_step=some.floats(0, 10),
    flip_aug=some.booleans(),
    alpha_mask=some.booleans(),
    face_crop_aug_range=some.none() | some.just([2.0, 4.0]),
    caption_from_name=some.booleans(),
    loss_weight=some.sampled_from([0.0, 0.5, 1.0]),
    custom_attributes=some.just({}) | some.just({"mine": 1}),
)
DATASETS = some.builds(
    Dataset,
    resolution=some.sampled_from([(512, 512), (768, 512)]),
    batch_size=some.integers(1, 8),
    enable_bucket=some.booleans(),
    validation_split=some.sampled_from([0.0, 0.25]),
    network_multiplier=some.sampled_from([1.0, 0.5]),
    subsets=some.lists(SUBSETS, min_size=1, max_size=2),
)
JOBS = some.builds(
    JobConfig,
    any_settings(),
    some.builds(DatasetConfig, some.lists(DATASETS, min_size=1, max_size=2)),
    extra=some.just({}) | some.just({"xformers": True, "logging_dir": "logs"}),
)
SLOW = settings(
    max_examples=8, deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.explicit, Phase.generate]
)


@SLOW
@given(any_settings())
def test_settings_come_back_from_the_record_of_a_run(found: Settings) -> None:
    text = training_toml(JobConfig(found, DatasetConfig()))
    assert settings_from(parse_document(text, "a.toml")) == normal(found)


@SLOW
@given(JOBS)
def test_a_job_comes_back_from_an_export(tmp_path_factory: pytest.TempPathFactory, job: JobConfig) -> None:
    written = export_job(job, tmp_path_factory.mktemp("export"), base="model.safetensors")
    assert written.dataset is not None and all("is not on this machine" in each for each in written.missing)
    back = load_job(written.training)
    assert back.settings == normal(job.settings.replace(webhook_url=None)), "such a file is given to others"
    assert back.datasets == job.datasets
    assert back.extra == job.extra
    assert import_report(written.training)["usable"]


@SLOW
@given(JOBS)
def test_a_job_comes_back_from_json(job: JobConfig) -> None:
    back = job_from_dict(job_to_dict(job))
    assert (back.settings, back.datasets, back.extra) == (job.settings, job.datasets, job.extra)


def normal(found: Settings) -> Settings:
    """Lists and texts as a file holds them; kohya's 0 for "never" is the same as not set."""
    changes = {
        option.key: None
        for option in options()
        if option.optional and option.minimum == 1 and getattr(found, option.key) == 0
    }
    return found.replace(**changes)


EXAMPLE = JobConfig(
    Settings(output_name="my cat", trigger="sks", conv_dim=8, conv_alpha=4.0, sample_prompts="a cat --w 64\na dog",
             shuffle_caption=True, network_args=["rank_dropout=0.1"]),
    DatasetConfig([Dataset(subsets=[
        Subset(image_dir="a", caption_prefix="photo of", caption_from_name=True, shuffle_caption=False),
        Subset(image_dir="b", is_reg=True),
    ])]),
    extra={"xformers": True},
)  # fmt: skip


def seen_by_sd_scripts(text: str) -> dict[str, Any]:
    """Sections flattened by one level, later keys winning, as its read_config_from_file does."""
    flat: dict[str, Any] = {}
    for key, value in tomlkit.parse(text).unwrap().items():
        flat.update(value) if isinstance(value, dict) else flat.update({key: value})
    return flat


def test_what_sd_scripts_sees_of_the_settings(tmp_path: Path) -> None:
    written = export_job(EXAMPLE, tmp_path)
    seen = seen_by_sd_scripts(written.training.read_text(encoding="utf-8"))
    assert seen["network_args"] == ["rank_dropout=0.1", "conv_dim=8", "conv_alpha=4.0"]
    assert seen["mixed_precision"] == "bf16" and seen["xformers"] is True
    assert Path(seen["dataset_config"]) == written.dataset
    assert Path(seen["sample_prompts"]).read_text(encoding="utf-8") == "a cat --w 64\na dog\n"
    assert Path(seen["output_dir"]) == tmp_path
    assert set(seen) - {"exact"} <= set(table("training"))
    assert any(sentence.startswith("pretrained_model_name_or_path") for sentence in written.missing)


def test_what_sd_scripts_sees_of_the_datasets() -> None:
    dataset = tomlkit.parse(dataset_toml(EXAMPLE, for_kohya=True)).unwrap()["datasets"][0]
    first, second = dataset.pop("subsets")
    # Said outright, for otherwise the training file's shuffle_caption would hold.
    assert first["shuffle_caption"] is False
    assert (first["caption_prefix"], first["keep_tokens"]) == ("sks, photo of", 1)
    assert (second["caption_prefix"], second["keep_tokens"]) == ("", 0)
    known = set(table("dataset")) - {"caption_from_name", "loss_weight"}
    assert set(first) <= known and set(second) <= known and set(dataset) <= known
    assert isinstance(dataset["validation_split"], float)


def test_masks_and_metadata_keep_to_what_their_kind_of_subset_takes() -> None:
    subsets = [Subset(image_dir="a", metadata_file="m.json", class_tokens="x"), Subset(conditioning_data_dir="m")]
    job = JobConfig(Settings(), DatasetConfig([Dataset(subsets=[subset]) for subset in subsets]))
    metadata, masks = (item["subsets"][0] for item in tomlkit.parse(dataset_toml(job, True)).unwrap()["datasets"])
    assert not {"class_tokens", "caption_extension", "is_reg", "cache_info", "conditioning_data_dir"} & set(metadata)
    assert not {"is_reg", "class_tokens", "alpha_mask", "metadata_file"} & set(masks)
    assert metadata["custom_attributes"]["atelier"] == {"class_tokens": "x"}


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    first, second = export_job(EXAMPLE, tmp_path), export_job(EXAMPLE, tmp_path)
    assert [path.name for path in (first.training, second.training)] == ["my cat.toml", "my cat-2.toml"]
    assert second.dataset is not None and second.dataset.name == "my cat-2_dataset.toml"


def test_a_preset_of_the_gui_can_be_exported(tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text('{"LoRA_type": "Standard", "optimizer": "Lion", "epoch": 2, "sdxl": true}')
    written = export_job(read_any(tmp_path / "p.json").job(), tmp_path / "out")
    seen = seen_by_sd_scripts(written.training.read_text(encoding="utf-8"))
    assert (seen["optimizer_type"], seen["max_train_epochs"]) == ("Lion", 2)
    assert written.dataset is None and len(written.missing) == 2


def test_defaults_of_sd_scripts_are_written_where_ours_differ() -> None:
    seen = seen_by_sd_scripts(training_toml(JobConfig(Settings(), DatasetConfig()), for_kohya=True))
    for key in KOHYA_DEFAULTS:
        assert seen[key] == getattr(Settings(), key), key


def test_a_job_of_a_newer_version_is_refused() -> None:
    from atelier.config.errors import AtelierError

    for data in ({**job_to_dict(EXAMPLE), "version": 99}, {}, {**job_to_dict(EXAMPLE), "settings": {"nonsense": 1}}):
        with pytest.raises(AtelierError):
            job_from_dict(data)
    assert dataclasses.is_dataclass(job_from_dict(job_to_dict(EXAMPLE)))
