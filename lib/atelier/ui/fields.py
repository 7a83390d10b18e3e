"""Makes the tab's controls from the schema, and turns a control's content back into the value of its setting.

Numbers are text boxes. So they can be empty where a setting may be unset, they take 1e-4, and a value out of range is
answered by our own sentence instead of Gradio's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gradio as gr

from atelier.config.errors import Problem, SettingsError
from atelier.config.settings.option import Option
from atelier.config.settings.schema import Settings, options
from atelier.config.settings.values import coerce
from atelier.ui.gradio_compat import component

SIMPLE = ("train_data_dir", "trigger", "subject", "output_name")
"""The settings of the four numbered fields at the top of the tab."""

SUGGESTED = frozenset(("network_module", "lr_scheduler", "sample_sampler"))
"""Settings whose choices are suggestions: another value may be typed."""

TALL = {"sample_prompts": 3, "network_args": 2, "optimizer_args": 2, "lr_scheduler_args": 2, "base_weights": 2,
        "class_prompt": 2}  # fmt: skip


def shown_options() -> list[Option]:
    """The settings that the tab shows, in its order."""
    return [option for option in options() if option.shown]


def element_id(key: str) -> str:
    """The id on the page of the control of a setting."""
    return f"atelier_{key}"


def section_id(option: Option) -> str:
    """The id on the page of the section that has the control of a setting."""
    return "atelier_group_" + option.group.lower().replace(" ", "_")


def make_control(option: Option, **arguments: Any) -> Any:
    """The Gradio control of a setting, with its help as one line below its label."""
    words = {"label": option.label, "info": option.help, "elem_id": element_id(option.key), **arguments}
    value = to_control(option, option.default)
    if option.kind == "bool":
        return component(gr.Checkbox, value=value, **words)
    if option.choices:
        choices = ["", *option.choices] if option.optional else list(option.choices)
        custom = option.key in SUGGESTED
        return component(gr.Dropdown, choices=choices, value=value, allow_custom_value=custom, **words)
    lines = TALL.get(option.key, 1)
    return component(gr.Textbox, value=value, lines=lines, max_lines=max(lines, 8) if lines > 1 else 1, **words)


def to_control(option: Option, value: Any) -> Any:
    """The content of a setting's control for this value."""
    if option.kind == "bool":
        return bool(value)
    if value is None:
        return ""
    if option.kind == "strs":
        return "\n".join(value)
    if option.kind == "floats":
        return ", ".join(_number_text(number) for number in value)
    if isinstance(value, (int, float)):
        return _number_text(value)
    return str(value)


def from_control(option: Option, held: Any) -> Any:
    """The setting's value for what its control holds. Raises `ValueError`, whose text says what is allowed."""
    if option.kind == "bool":
        return bool(held)
    text = "" if held is None else str(held)
    if option.kind == "strs":
        return list(coerce(option, text))
    if option.kind == "floats":
        return [_float(part) for part in text.replace(",", " ").split()]
    if option.kind == "str":
        return text if text or not option.optional else None
    text = text.strip()
    if not text:
        if option.optional:
            return None
        raise ValueError("it must be set")
    if option.kind == "int":
        return _int(text)
    if option.kind == "int_or_float" and text.lstrip("+-").isdigit():
        return int(text)
    return _float(text)


def collect(held: Mapping[str, Any]) -> Settings:
    """Settings from the contents of the controls, by key. Settings without a control keep their defaults.

    Raises `SettingsError` with every value that cannot be read.
    """
    known = {option.key: option for option in options()}
    values: dict[str, Any] = {}
    problems: list[Problem] = []
    for key, raw in held.items():
        try:
            values[key] = from_control(known[key], raw)
        except ValueError as error:
            problems.append(Problem(key, raw, str(error)))
    if problems:
        raise SettingsError(problems)
    return Settings(**values)


def _number_text(value: int | float) -> str:
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return str(value)


def _int(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        number = _float(text)
    if not number.is_integer():
        raise ValueError("it must be a whole number")
    return int(number)


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError("it must be a number, such as 8 or 1e-4") from None
