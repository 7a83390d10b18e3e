"""Every setting of the tab goes into its control and comes back out; bad values are answered by sentences."""

from __future__ import annotations

from typing import Any

import pytest

from atelier.config.errors import SettingsError
from atelier.config.settings.option import Option
from atelier.config.settings.schema import Settings, options
from atelier.ui.fields import collect, from_control, shown_options, to_control

OTHER = {
    "resolution": "768",
    "max_token_length": 150,
    "bucket_reso_steps": 32,
    "network_module": "lycoris.kohya",
    "optimizer_args": ["weight_decay=0.01", "betas=0.9,0.99"],
    "webhook_url": "https://example.org/hook",
}


def other_value(option: Option) -> Any:
    """A valid value that is not the default."""
    if option.key in OTHER:
        return OTHER[option.key]
    if option.choices:
        return next(choice for choice in option.choices if choice != option.default)
    low = option.minimum or 0
    return {
        "bool": not option.default,
        "int": int(low) + 7,
        "float": low + 0.125,
        "int_or_float": 0.25,
        "str": "some words",
        "floats": [0.001, 2e-05],
        "strs": ["a=1", "b=2"],
    }[option.kind]


@pytest.mark.parametrize("option", shown_options(), ids=lambda option: option.key)
def test_every_value_survives_its_control(option: Option) -> None:
    for value in (option.default, other_value(option)):
        back = from_control(option, to_control(option, value))
        assert back == value
        assert type(back) is type(value) or (isinstance(back, (int, float)) and isinstance(value, (int, float)))


def test_every_shown_setting_reaches_the_settings() -> None:
    wanted = {option.key: other_value(option) for option in shown_options()}
    settings = collect({option.key: to_control(option, wanted[option.key]) for option in shown_options()})
    assert {key: getattr(settings, key) for key in wanted} == wanted


def test_settings_without_a_control_keep_their_defaults() -> None:
    settings = collect({option.key: to_control(option, option.default) for option in shown_options()})
    assert settings == Settings()


def test_steps_and_fractions_stay_apart() -> None:
    warmup = next(option for option in options() if option.key == "lr_warmup_steps")
    assert from_control(warmup, "10") == 10 and isinstance(from_control(warmup, "10"), int)
    assert from_control(warmup, "0.1") == 0.1
    assert to_control(warmup, 0.1) == "0.1"


def test_numbers_are_read_as_people_write_them() -> None:
    rate = next(option for option in options() if option.key == "learning_rate")
    steps = next(option for option in options() if option.key == "max_train_steps")
    assert from_control(rate, " 1e-4 ") == 1e-4
    assert from_control(steps, "1e3") == 1000
    with pytest.raises(ValueError, match="whole number"):
        from_control(steps, "10.5")


def test_what_cannot_be_read_is_named_by_its_label() -> None:
    with pytest.raises(SettingsError) as caught:
        collect({"network_dim": "many", "max_train_steps": "", "learning_rate": "1e-4"})
    words = str(caught.value)
    assert "Rank (network_dim) is 'many'; it must be a number" in words
    assert "Steps (max_train_steps): it must be set." in words
    assert len(words.splitlines()) == 2
