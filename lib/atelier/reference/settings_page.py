"""docs/settings.md: every setting, from the schema."""

from __future__ import annotations

from collections.abc import Iterator

from atelier.config.settings.option import GROUPS, Option
from atelier.config.settings.schema import options
from atelier.reference.markdown import code, escaped, table
from atelier.ui.fields import SIMPLE

HEAD = """\
<!-- Made by "python run.py docs" from lib/atelier/config/settings: change it there. -->
# Settings

Every setting, in the groups of the tab's **Advanced** section. A key is what the setting is called in a TOML file, on
the command line (`--network_dim 16`) and in the [API](api.md). Keys are kohya's, but for those marked "Atelier's own".

The default counts where a file or a request does not set the key. The tab fills in recommended values instead: they
follow what you train, how many pictures you have, and which model is loaded.

In a dataset TOML each data set may have its own sizes and caption settings; see
[kohya users](guide/kohya-users.md)."""
COLUMNS = ("Setting", "Key", "Default", "Allowed", "What it does")
KINDS = {
    "bool": "true or false", "int": "whole number", "float": "number", "int_or_float": "whole number, or a fraction",
    "str": "text", "strs": "list of texts", "floats": "list of numbers",
}  # fmt: skip


def settings_page() -> str:
    """The whole page."""
    lines = [HEAD]
    for group in GROUPS:
        members = [option for option in options() if option.group == group]
        if members:
            lines += [
                "",
                f"## {group}",
                *table(("Setting", "Key", "Default", "Allowed", "What it does"), map(setting_row, members)),
            ]
    return "\n".join(lines) + "\n"


def setting_row(option: Option) -> tuple[str, ...]:
    """The cells of one setting."""
    remarks = " ".join(f"({remark})" for remark in _remarks(option))
    help_text = f"{escaped(option.help)} {remarks}".strip()
    return escaped(option.label), code(option.key), _default(option), _allowed(option), help_text


def _remarks(option: Option) -> Iterator[str]:
    if option.key in SIMPLE:
        yield "One of the fields at the top of the tab."
    elif not option.shown:
        yield "Not in the tab."
    if option.ours:
        yield "Atelier's own."


def _default(option: Option) -> str:
    value = option.default
    if value is None or value in ("", []):
        return "empty"
    if isinstance(value, bool):
        return code(str(value).lower())
    return code(", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value))


def _allowed(option: Option) -> str:
    if option.choices:
        return ", ".join(map(code, option.choices))
    kind, low, high = KINDS[option.kind], option.minimum, option.maximum
    if low is not None and high is not None:
        return f"{kind}, {_number(low)} to {_number(high)}"
    if low is not None or high is not None:
        return f"{kind}, {f'at least {_number(low)}' if low is not None else f'at most {_number(high)}'}"
    return kind


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,}" if isinstance(value, int) else f"{value:g}"
