"""Presets: every value is one the schema takes, and the amount of training follows the pictures."""

from __future__ import annotations

import pytest

from atelier.config.presets import preset
from atelier.config.settings.checks import validate
from atelier.config.settings.groups.basics import SUBJECTS
from atelier.config.settings.schema import Settings


@pytest.mark.parametrize("resolution", [None, 64, 640])
@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl", "z_image"])
@pytest.mark.parametrize("count", [0, 1, 12, 500])
@pytest.mark.parametrize("subject", [*SUBJECTS, ""])
def test_a_preset_is_valid(subject: str, count: int, family: str, resolution: int | None) -> None:
    assert validate(Settings(output_name="x", **preset(subject, count, family, resolution))) == []


def test_a_flow_counts_every_amount_of_noise_the_same() -> None:
    values = preset("person", 10, "z_image", resolution=64)
    assert values["min_snr_gamma"] is None and values["network_train_unet_only"]
    assert values["bucket_reso_steps"] == 16 and values["network_alpha"] == values["network_dim"]


def test_more_pictures_are_trained_longer_within_bounds() -> None:
    steps = [preset("person", count, "sd1")["max_train_steps"] for count in (0, 5, 15, 20, 5000)]
    assert steps == [800, 800, 1500, 2000, 2400]


def test_a_subject_is_not_mirrored_and_a_style_is() -> None:
    assert [preset(subject, 20, "sd1")["flip_aug"] for subject in SUBJECTS] == [False, False, True]


def test_a_tiny_base_gets_buckets_it_can_fill() -> None:
    values = preset("object", 6, "sd1", resolution=64)
    assert (values["resolution"], values["min_bucket_reso"], values["max_bucket_reso"]) == ("64", 32, 128)
    assert values["bucket_reso_steps"] == 8 and values["train_batch_size"] == 4


def test_sdxl_leaves_its_text_encoders_alone() -> None:
    assert preset("person", 10, "sdxl")["network_train_unet_only"] is True


@pytest.mark.parametrize("resolution", [None, 64])
def test_a_whole_model_learns_slowly_and_is_saved_once(resolution: int | None) -> None:
    lora, whole = (preset("object", 10, "sd1", resolution, whole_model=each) for each in (False, True))
    assert whole["learning_rate"] < lora["learning_rate"] / 5 and "save_every_n_steps" not in whole
    assert validate(Settings(output_name="x", train_whole_model=True, **whole)) == []


@pytest.mark.parametrize(
    ("steps", "often"),
    [(None, 200), (800, 200), (2000, 500), (300, 100), (200, 50), (100, 25), (50, 10), (3, 1), (1, 1)],
)
def test_saves_and_samples_follow_the_number_of_steps(steps: int | None, often: int) -> None:
    values = preset("person", 5, "sd1", steps=steps)
    assert (values["save_every_n_steps"], values["sample_every_n_steps"]) == (often, often)
    assert values["max_train_steps"] == 800
