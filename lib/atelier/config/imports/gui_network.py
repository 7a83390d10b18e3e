"""Translates the adapter of a kohya_ss GUI preset: LoRA_type and its fields become network_module and network_args."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from atelier.config.kohya.verdicts import HONOURED, NOT_SUPPORTED, WITHOUT_EFFECT, WRONG, KeyVerdict, gui_verdict
from atelier.config.settings.values import nearest

BLOCKS = (
    "down_lr_weight", "mid_lr_weight", "up_lr_weight", "block_lr_zero_threshold", "block_dims", "block_alphas",
    "conv_block_dims", "conv_block_alphas", "conv_dims", "conv_alphas", "rank_dropout", "module_dropout",
)  # fmt: skip
_DROPOUTS = ("rank_dropout", "module_dropout")
_CONV = ("conv_dim", "conv_alpha")
_LYCORIS = ("LyCORIS_preset", *_CONV, "rank_dropout_scale", "train_norm", *_DROPOUTS)
_WEIGHTS = (*_LYCORIS, "use_tucker", "bypass_mode", "dora_wd", "use_scalar")


@dataclass(frozen=True)
class Kind:
    """A LoRA_type: its network_module, LyCORIS' algorithm, and the fields of the GUI that it reads."""

    module: str
    algo: str = ""
    boxes: tuple[str, ...] = ()


KINDS: dict[str, Kind] = {
    "Standard": Kind("networks.lora", boxes=BLOCKS),
    "Kohya LoCon": Kind("networks.lora", boxes=(*_CONV, *BLOCKS)),
    "LoRA-FA": Kind("networks.lora_fa", boxes=BLOCKS),
    "Kohya DyLoRA": Kind("networks.dylora", boxes=(*_CONV, *BLOCKS, "unit")),
    "Kohya LoHa": Kind("networks.loha", boxes=(*_CONV, *_DROPOUTS, "use_tucker")),
    "Kohya LoKr": Kind("networks.lokr", boxes=(*_CONV, *_DROPOUTS, "use_tucker", "factor")),
    "LoCon": Kind("lycoris.kohya", "locon", _WEIGHTS),
    "LyCORIS/LoCon": Kind("lycoris.kohya", "locon", _WEIGHTS),
    "LyCORIS/LoHa": Kind("lycoris.kohya", "loha", _WEIGHTS),
    "LyCORIS/LoKr": Kind("lycoris.kohya", "lokr", (*_WEIGHTS, "factor", "use_cp", "decompose_both")),
    "LyCORIS/iA3": Kind("lycoris.kohya", "ia3", ("LyCORIS_preset", *_CONV, "train_on_input")),
    "LyCORIS/Diag-OFT": Kind("lycoris.kohya", "diag-oft", (*_LYCORIS, "use_tucker", "constrain", "rescaled")),
    "LyCORIS/BOFT": Kind("lycoris.kohya", "boft", (*_LYCORIS, "use_tucker")),
    "LyCORIS/GLoRA": Kind("lycoris.kohya", "glora", (*_LYCORIS, "use_tucker")),
    "LyCORIS/DyLoRA": Kind("lycoris.kohya", "dylora", (*_LYCORIS, "use_tucker", "unit")),
    "LyCORIS/Native Fine-Tuning": Kind("lycoris.kohya", "full", _LYCORIS),
}
OTHER_FAMILIES = ("Flux1", "Flux1 OFT", "HunyuanImage-2.1", "Anima", "Lumina")
"""LoRA_types of model families that Atelier does not train."""

ARGUMENT = {
    "LyCORIS_preset": "preset",
    "constrain": "constraint",
    "unit": "block_size",
    "conv_dims": "conv_block_dims",
    "conv_alphas": "conv_block_alphas",
}
"""Names in network_args of fields that the GUI calls differently."""

BOXES = {key for kind in KINDS.values() for key in kind.boxes} | {
    "loraplus_lr_ratio", "loraplus_unet_lr_ratio", "loraplus_text_encoder_lr_ratio",
}  # fmt: skip
"""All fields that belong to some kind of adapter."""


@dataclass
class Network:
    """A translated adapter: its network_module and network_args, and the verdicts of the preset's keys."""

    module: str | None = None
    arguments: list[str] = field(default_factory=list)
    keys: dict[str, KeyVerdict] = field(default_factory=dict)
    problem: str | None = None


def network_of(preset: Mapping[str, Any]) -> Network:
    """The adapter of a preset that has a LoRA_type."""
    found = Network()
    chosen = str(preset.get("LoRA_type") or "Standard").strip()
    chosen = next((name for name in KINDS if name.lower() == chosen.lower()), chosen)
    kind = KINDS.get(chosen)
    found.keys["LoRA_type"] = KeyVerdict("LoRA_type", preset.get("LoRA_type"), HONOURED, gui_verdict("LoRA_type").note)
    if kind is None:
        guess = nearest(chosen, KINDS)
        found.problem = (
            f"LoRA_type is {chosen!r}, for another model family; only Stable Diffusion 1, 2 and XL can be trained."
            if chosen in OTHER_FAMILIES
            else f"LoRA_type is {chosen!r}, which is not known" + (f"; did you mean {guess}?" if guess else ".")
        )
        verdict = NOT_SUPPORTED if chosen in OTHER_FAMILIES else WRONG
        found.keys["LoRA_type"] = KeyVerdict("LoRA_type", chosen, verdict, found.problem)
        kind = KINDS["Standard"]
    found.module = kind.module
    if kind.algo:
        found.arguments.append(f"algo={kind.algo}")
    for key in BOXES & set(preset):
        value = preset[key]
        if key not in kind.boxes and not key.startswith("loraplus_"):
            note = f"The GUI does not read it for LoRA_type {chosen}."
            found.keys[key] = KeyVerdict(key, value, WITHOUT_EFFECT, note)
            continue
        found.keys[key] = KeyVerdict(key, value, HONOURED, gui_verdict(key).note)
    for key in (*kind.boxes, *(key for key in preset if key.startswith("loraplus_"))):
        name = ARGUMENT.get(key, key)
        if _says_something(key, preset.get(key)) and not any(text.startswith(f"{name}=") for text in found.arguments):
            found.arguments.append(f"{name}={_text(preset[key])}")
    return found


def _says_something(key: str, value: Any) -> bool:
    """False for an empty field, and for a value that is the default anyway."""
    text = str(value).strip()
    if value is None or value is False or text.lower() in ("", "none", "false"):
        return False
    try:
        number = float(text)
    except ValueError:
        return True
    return number != 0 and not (key == "factor" and number == -1)


def _text(value: Any) -> str:
    """The value as sd-scripts expects it: whole numbers without a decimal point, lists without spaces."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return "".join(str(value).replace('"', "").split())
