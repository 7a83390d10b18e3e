"""Turns keys and values of any kohya file into settings, with a verdict for each key and a problem for wrong values."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from atelier.config.errors import Problem
from atelier.config.kohya.network_args import ignored_arguments
from atelier.config.kohya.verdicts import (
    HONOURED,
    NOT_SUPPORTED,
    UNKNOWN,
    WITHOUT_EFFECT,
    WRONG,
    KeyVerdict,
    for_value,
    table,
    training_verdict,
)
from atelier.config.optimizers import missing_class, missing_package
from atelier.config.settings.checks import validate
from atelier.config.settings.idle import NEEDS, idle
from atelier.config.settings.option import Option
from atelier.config.settings.schema import Settings, option, options
from atelier.config.settings.values import HIDDEN, LISTS, SECRETS, BadValue, coerce, says_nothing

KOHYA_DEFAULTS: dict[str, Any] = {
    "learning_rate": 2e-6,
    "network_dim": 4,
    "network_alpha": 1.0,
    "enable_bucket": False,
    "caption_extension": ".caption",
    "save_precision": "float",
}
"""Defaults of sd-scripts that differ from ours. They hold for what a file leaves out."""

OTHER_MODELS = ("lora_flux", "oft_flux", "lora_sd3", "lora_lumina", "lora_anima", "lora_hunyuan_image")
"""Network modules of model families that Atelier does not train."""

DEFINING = ("ae", "t5xxl", "clip_g", "gemma2", "qwen3", "byt5")
"""Keys that every file for one of those families has, so that a file with one of them is recognised."""

_WHOLE_MODEL = {
    "learning_rate_te", "learning_rate_te1", "learning_rate_te2", "train_text_encoder", "stop_text_encoder_training",
    "fused_optimizer_groups", "block_lr", "diffusers_xformers",
}  # fmt: skip
"""Keys that only sd-scripts' scripts for whole models have."""

LEAST_STEP = 8
"""Smallest bucket step in pixels: one cell of a latent."""
TOKENS_OF_A_PART, MOST_PARTS = 75, 3
"""The tokens that a text encoder reads at once, and the parts of a caption at most."""

Place = Callable[[str, object, str], Problem]
"""Makes a `Problem` from (key, value, allowed), with the file and line where they are known."""


@dataclass(frozen=True)
class Entry:
    """One key under sd-scripts' name. `source` and `shown`: its name and value in the file, where they differ."""

    key: str
    value: Any
    where: str = ""
    source: str = ""
    shown: Any = None
    note: str = ""
    silent: bool = False
    """True when the file's own key already has a verdict."""


@dataclass
class Reading:
    """What was read: values by setting, verdicts in the order of the file, and problems that forbid using the file."""

    values: dict[str, Any] = field(default_factory=dict)
    keys: list[KeyVerdict] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    dataset_config: str | None = None
    named: dict[str, str] = field(default_factory=dict)
    """The name in the file of each setting that was read."""
    extra: dict[str, Any] = field(default_factory=dict)
    """sd-scripts' keys without a setting here, to be written back on export."""

    def settings(self) -> Settings:
        """The settings, with kohya's defaults for keys that the file leaves out."""
        return Settings(**{**KOHYA_DEFAULTS, **self.values})

    def check(self, place: Place) -> None:
        """Adds problems for values out of range and for contradictions, and marks their keys as wrong."""
        for problem in validate(self.settings()):
            name = self.named.get(problem.key, problem.key)
            if problem.key in self.values:
                problem = place(name, problem.value, problem.allowed)
            self.problems.append(problem)
            self.keys = [
                KeyVerdict(found.key, found.value, WRONG, problem.allowed, found.where)
                if found.key == name and found.verdict == HONOURED else found
                for found in self.keys
            ]  # fmt: skip


@lru_cache(maxsize=1)
def training_keys() -> frozenset[str]:
    """Every key that a training file can have."""
    return frozenset(table("training")) | {each.key for each in options()}


def assemble(entries: Iterable[Entry], place: Place) -> Reading:
    """Reads the entries; of two for the same key the later one counts. Unknown keys get UNKNOWN and no problem."""
    reading = Reading()
    declared = {each.key: each for each in options()}
    given = list(entries)
    for entry in given:
        key = _ALIASES.get(entry.key, entry.key)
        found = training_verdict(entry.key)
        name = entry.source or entry.key
        shown = entry.shown if entry.source else entry.value
        verdict = for_value(found, entry.value)
        outcome = KeyVerdict(name, shown, verdict.verdict, entry.note or verdict.note, entry.where)
        if key in SECRETS:
            _leave_out(reading, outcome, entry)
            continue
        if found.verdict == UNKNOWN:
            _unknown(reading, name, shown, found.note, place)
        elif key == "dataset_config":
            reading.dataset_config = str(entry.value).strip() or None if isinstance(entry.value, str) else None
        elif key == "use_safetensors":
            pass  # below, since it changes what another key says
        elif key in _SWITCHES:
            _switch(reading, given, key, entry.value)
        elif key in declared:
            reading.named[key] = name
            try:
                if _left_to_its_default(declared[key], entry.value):
                    reading.values.pop(key, None)
                else:
                    reading.values[key] = coerce(declared[key], entry.value)
                    _adjust(reading, key, name)
            except BadValue as error:
                reading.problems.append(place(name, shown, str(error)))
                outcome = KeyVerdict(name, shown, WRONG, str(error), entry.where)
        elif key in table("training"):
            _keep(reading, key, entry.value)
        elif key in DEFINING and verdict.verdict == NOT_SUPPORTED:
            reading.problems.append(place(name, shown, f"this file is for {table('other_models')[key].note}, "
                                          "but only Stable Diffusion 1, 2 and XL can be trained"))  # fmt: skip
        if not entry.silent:
            reading.keys.append(outcome)
    if reading.values.get("cache_text_encoder_outputs_to_disk"):
        reading.values["cache_text_encoder_outputs"] = True  # as sd-scripts does
    _as_safetensors(reading, given)
    _network(reading, place)
    _remarks(reading)
    _kind_of_training(reading, {entry.key for entry in given})
    return reading


def _remarks(reading: Reading) -> None:
    """What a person should know of values that are right: a missing package, and settings that are set in vain."""
    optimizer = reading.values.get("optimizer_type")
    sentence = missing_package(optimizer) if isinstance(optimizer, str) else None
    schedule = reading.values.get("lr_scheduler_type") or ""
    other = missing_class("lr_scheduler_type", schedule, "") if "." in schedule else None
    reading.notes += [each for each in (sentence, other) if each]
    for key in idle(reading.values):
        name = reading.named.get(key, key)
        why = f"It does nothing without {' or '.join(NEEDS[key])}."
        reading.keys = [
            replace(found, verdict=WITHOUT_EFFECT, note=why)
            if found.key == name and found.verdict == HONOURED
            else found
            for found in reading.keys
        ]


def _unknown(reading: Reading, name: str, shown: Any, note: str, place: Place) -> None:
    """A key that nobody knows is a warning in a file, as sd-scripts takes it; on a command line it is an error."""
    allowed = note[:1].lower() + note[1:].rstrip(".")
    if name.startswith("--"):
        reading.problems.append(place(name, shown, allowed))
        return
    allowed = allowed.replace("there is no such key", "it is not known and is ignored")
    reading.notes.append(str(place(name, shown, allowed)))


def _left_to_its_default(option: Option, value: Any) -> bool:
    """True for a value that says "not set" where a setting has one always; a null in JSON is an error there."""
    return value is not None and not option.optional and option.kind not in LISTS and says_nothing(option, value)


def _adjust(reading: Reading, key: str, name: str) -> None:
    """Values that sd-scripts takes and that mean another one here. A note says so."""
    value = reading.values[key]
    if key == "bucket_reso_steps" and 0 < value < LEAST_STEP:
        reading.values[key] = LEAST_STEP
        reading.notes.append(f"{name} {value} is read as {LEAST_STEP}, the pixels of one latent cell.")
    # sd-scripts takes any length and reads the whole parts of 75 tokens in it.
    if key != "max_token_length" or value is None or str(value) in option(key).choices or value <= 0:
        return
    parts = min(max(value // TOKENS_OF_A_PART, 1), MOST_PARTS)
    reading.values[key] = parts * TOKENS_OF_A_PART
    reading.notes.append(
        f"{name} {value} is read as {reading.values[key]}: captions are read in parts of {TOKENS_OF_A_PART} tokens, "
        f"{MOST_PARTS} at most."
    )


def _leave_out(reading: Reading, outcome: KeyVerdict, entry: Entry) -> None:
    """A password has no effect here. It is neither shown nor kept, since records and exports would hold it."""
    if entry.value:
        outcome = replace(outcome, value=HIDDEN)
        reading.notes.append(f"{outcome.key} is secret and is not kept. Give it to sd-scripts on its command line.")
    if not entry.silent:
        reading.keys.append(outcome)


_ALIASES = {"caption_extention": "caption_extension"}
_SWITCHES = {
    "use_8bit_adam": ("optimizer_type", "AdamW8bit"),
    "use_lion_optimizer": ("optimizer_type", "Lion"),
}
"""Old flags that stand for a value of a newer key."""


def _switch(reading: Reading, given: list[Entry], key: str, value: Any) -> None:
    target, meaning = _SWITCHES[key]
    if _on(value) and not any(entry.key == target and entry.value for entry in given):
        reading.values[target] = meaning


def _on(value: Any) -> bool:
    return value is True or str(value).strip().lower() in ("true", "1")


def _as_safetensors(reading: Reading, given: list[Entry]) -> None:
    """use_safetensors is said beside save_model_as in sd-scripts, and makes safetensors of its other formats."""
    if any(entry.key == "use_safetensors" and _on(entry.value) for entry in given):
        whole_folder = str(reading.values.get("save_model_as", "")).startswith("diffusers")
        reading.values["save_model_as"] = "diffusers_safetensors" if whole_folder else "safetensors"


def _keep(reading: Reading, key: str, value: Any) -> None:
    """Keeps a key without a setting here for export, with the type that sd-scripts expects."""
    kind = Option(key, table("training")[key].kind, None, True, "", "", "")
    try:
        kept = coerce(kind, value)
    except BadValue as error:
        reading.notes.append(f"{key} is {value!r} and was ignored; {error}.")
        return
    if kept is not None:
        reading.extra[key] = kept


def _network(reading: Reading, place: Place) -> None:
    """Renames adapters that have another name here, takes conv_dim out of network_args, refuses other families."""
    values = reading.values
    module = values.get("network_module")
    if isinstance(module, str):
        if module.rpartition(".")[2] in OTHER_MODELS:
            allowed = "it is for another model family; only Stable Diffusion 1, 2 and XL can be trained"
            reading.problems.append(place("network_module", module, allowed))
        if module in _MODULES:
            values["network_module"], extra = _MODULES[module]
            values["network_args"] = [*extra, *values.get("network_args", [])]
        elif module in _PLAIN:
            values["network_module"] = "networks.lora"
            reading.notes.append(f"network_module {module} is not supported; a plain LoRA of the same rank is trained.")
    kept = []
    for text in values.get("network_args", []):
        key, equals, value = text.partition("=")
        if key not in ("conv_dim", "conv_alpha"):
            kept.append(text)
            if not equals or not key:
                reading.problems.append(place("network_args", text, "it must be key=value, such as rank_dropout=0.1"))
            continue
        try:
            number = float(value)
        except ValueError:
            reading.problems.append(place("network_args", text, f"{key} must be a number"))
            continue
        if number > 0:
            values[key] = int(number) if key == "conv_dim" else number
    if "network_args" in values:
        values["network_args"] = kept
        reading.notes += ignored_arguments(values.get("network_module") or "networks.lora", kept)


_MODULES = {
    "networks.loha": ("lycoris.kohya", ["algo=loha"]),
    "networks.lokr": ("lycoris.kohya", ["algo=lokr"]),
    "locon.locon_kohya": ("lycoris.kohya", ["algo=locon"]),
    "lycoris.locon_kohya": ("lycoris.kohya", ["algo=locon"]),
}
"""Modules that have another name here, and the network_args that go with it."""
_PLAIN = ("networks.dylora", "networks.lora_fa", "networks.oft")


def _kind_of_training(reading: Reading, keys: set[str]) -> None:
    """A file without network_… keys but with keys for whole models is for Dreambooth or fine-tuning."""
    if "train_whole_model" in reading.values or any(key.startswith("network_") for key in keys):
        return
    if keys & _WHOLE_MODEL:
        reading.values["train_whole_model"] = True
        reading.notes.append("There is no network_module, so the whole model is trained (Dreambooth).")
