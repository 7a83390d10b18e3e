"""Translates kohya_ss GUI presets (JSON): their names, units and types become sd-scripts' keys.

The GUI writes numbers as text, "" and 0 for "not set", percentages for steps, and the fields of every method, used or
not. What counts is what it would hand to sd-scripts.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from atelier.config.imports.gui_network import BOXES, network_of
from atelier.config.kohya.assemble import LEAST_STEP, Entry
from atelier.config.kohya.verdicts import (
    HONOURED,
    NOT_SUPPORTED,
    UNKNOWN,
    WITHOUT_EFFECT,
    KeyVerdict,
    for_value,
    gui_verdict,
    table,
)
from atelier.config.settings.idle import OF_FLOWS
from atelier.config.settings.schema import options
from atelier.config.settings.values import HIDDEN, SECRETS, without_secrets

ZERO_IS_UNSET = {
    "adaptive_noise_scale", "clip_skip", "ip_noise_gamma", "learning_rate", "lr_scheduler_num_cycles",
    "lr_scheduler_power", "max_timestep", "min_snr_gamma", "min_timestep", "multires_noise_iterations",
    "network_dropout", "noise_offset", "sample_every_n_epochs", "sample_every_n_steps", "save_every_n_epochs",
    "save_every_n_steps", "save_last_n_epochs", "save_last_n_epochs_state", "save_last_n_steps",
    "save_last_n_steps_state", "scale_weight_norms", "seed", "unet_lr", "v_pred_like_loss", "vae_batch_size",
    "max_train_steps", "max_train_epochs", "max_grad_norm",
}  # fmt: skip
"""Fields in which 0 means "not set"."""

_UNSET_NOTES = {"max_grad_norm": "The GUI leaves out a 0, so gradients are clipped at sd-scripts' default, 1."}
TEXTUAL_INVERSION = ("token_string", "init_word")
_RATES_OF_WHOLE_MODELS = ("learning_rate_te", "learning_rate_te1", "learning_rate_te2", "train_text_encoder")
_STOP = ("stop_text_encoder_training", "stop_text_encoder_training_pct")
_MULTIRES = ("multires_noise_iterations", "multires_noise_discount")
_ORIGINAL = ("noise_offset", "adaptive_noise_scale", "noise_offset_random_strength")


@dataclass
class Translation:
    """Entries under sd-scripts' names, and verdicts of keys that have no such name."""

    entries: list[Entry] = field(default_factory=list)
    keys: dict[str, KeyVerdict] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def looks_like_preset(data: Mapping[str, Any]) -> bool:
    """True when at least one of the keys is a setting; those that change nothing occur in any program's files."""
    return any(gui_verdict(str(key)).verdict == HONOURED for key in data)


def translate(preset: Mapping[str, Any]) -> Translation:
    """The entries that the GUI would hand to sd-scripts for this preset."""
    return _Translator(preset).run()


class _Translator:
    def __init__(self, preset: Mapping[str, Any]) -> None:
        self.preset = preset
        self.out = Translation()
        self.lora = "LoRA_type" in preset
        self.other_family = any(_on(preset.get(key)) for key in ("flux1_checkbox", "sd3_checkbox"))
        self.sdxl = _on(preset.get("sdxl")) or _on(preset.get("sdxl_checkbox"))
        self.declared = {option.key: option for option in options()}

    def run(self) -> Translation:
        self._method()
        self._network()
        self._length()
        self._warmup()
        self._noise()
        self._rates()
        for key, value in self.preset.items():
            taken = any(entry.source == key for entry in self.out.entries if not entry.silent)
            if key not in self.out.keys and not taken:
                self._plain(key, value)
        return self.out

    def _take(self, source: str, key: str, value: Any, note: str = "") -> None:
        """Adds an entry. `value` is for sd-scripts; the verdict shows the value in the file."""
        note = note or gui_verdict(source).note
        self.out.entries.append(Entry(key, value, source=source, shown=self.preset[source], note=note))

    def _leave(self, key: str, verdict: str, note: str) -> None:
        if key in self.preset:
            self.out.keys[key] = KeyVerdict(key, self.preset[key], verdict, note)

    def _method(self) -> None:
        for key, family in (("flux1_checkbox", "Flux"), ("sd3_checkbox", "SD3")):
            if _on(self.preset.get(key)):
                self.out.problems.append(
                    f"This preset trains {family} ({key}), but only Stable Diffusion 1, 2 and XL can be trained."
                )
        if not self.lora and any(_live(self.preset.get(key)) for key in TEXTUAL_INVERSION):
            self.out.problems.append(
                "This preset trains a textual inversion, which is not supported. Train a LoRA on the same pictures."
            )
        if not self.lora:
            self.out.entries.append(Entry("train_whole_model", True, silent=True))

    def _network(self) -> None:
        if not self.lora:
            for key in BOXES & set(self.preset):
                self._leave(key, WITHOUT_EFFECT, "It belongs to LoRA, and this preset trains the whole model.")
            return
        network = network_of(self.preset)
        self.out.keys.update(network.keys)
        if network.problem:
            self.out.problems.append(network.problem)
        self.out.entries.append(Entry("network_module", network.module, silent=True))
        self.out.entries.append(Entry("network_args", network.arguments, silent=True))
        if "lora_network_weights" in self.preset:
            weights = self.preset["lora_network_weights"]
            if _live(weights):
                self._take("lora_network_weights", "network_weights", weights)
            else:
                self._leave("lora_network_weights", HONOURED, "Not set.")

    def _length(self) -> None:
        """Epochs win over steps. Without either, the GUI trains for `epoch` epochs."""
        steps, epochs = _number(self.preset.get("max_train_steps")), _number(self.preset.get("max_train_epochs"))
        if "epoch" not in self.preset:
            return
        if epochs or steps:
            self._leave("epoch", HONOURED, f"{'max_train_epochs' if epochs else 'max_train_steps'} is set and wins.")
        elif _live(self.preset.get("dataset_config")):
            self._leave("epoch", WITHOUT_EFFECT, "The GUI does not read it when there is a dataset_config.")
        else:
            self._take("epoch", "max_train_epochs", self.preset["epoch"])

    def _warmup(self) -> None:
        percent, steps = _number(self.preset.get("lr_warmup")), _number(self.preset.get("lr_warmup_steps"))
        scheduler = self.preset.get("lr_scheduler") or "constant"
        if scheduler == "constant" and not _live(self.preset.get("lr_scheduler_type")) and (percent or steps):
            for key in ("lr_warmup", "lr_warmup_steps"):
                self._leave(key, WITHOUT_EFFECT, "The schedule constant has no warm-up; the GUI switches it off too.")
            return
        if steps:
            self._take("lr_warmup_steps", "lr_warmup_steps", int(steps) if steps >= 1 else steps)
            self._leave("lr_warmup", HONOURED, "lr_warmup_steps is set and wins.")
        elif percent:
            self._take("lr_warmup", "lr_warmup_steps", percent / 100)
            self._leave("lr_warmup_steps", HONOURED, "Not set.")
        else:
            for key in ("lr_warmup", "lr_warmup_steps"):
                if not _live(self.preset.get(key)) or _number(self.preset[key]) == 0:
                    self._leave(key, HONOURED, "Not set.")

    def _noise(self) -> None:
        kind = str(self.preset.get("noise_offset_type") or "")
        self._leave("noise_offset_type", HONOURED, gui_verdict("noise_offset_type").note)
        unused = _ORIGINAL if kind.startswith("Multires") else _MULTIRES if kind == "Original" else ()
        for key in unused:
            self._leave(key, WITHOUT_EFFECT, f"noise_offset_type is {kind}, so the GUI ignores it.")

    def _rates(self) -> None:
        if self.lora:
            for key in _RATES_OF_WHOLE_MODELS:
                self._leave(key, WITHOUT_EFFECT, "It belongs to whole models, and this preset trains a LoRA.")
            for key in _STOP:
                self._leave(key, WITHOUT_EFFECT, "The GUI ignores it for LoRA.")
            text, unet = _number(self.preset.get("text_encoder_lr")), _number(self.preset.get("unet_lr"))
            if unet and text == 0:
                self.out.entries.append(Entry("network_train_unet_only", True, silent=True))
                self._leave("text_encoder_lr", HONOURED, "0: only the UNet is trained.")
            elif text and unet == 0:
                self.out.entries.append(Entry("network_train_text_encoder_only", True, silent=True))
                self._leave("unet_lr", HONOURED, "0: only the text encoder is trained.")
            elif text == 0:
                self._leave("text_encoder_lr", HONOURED, "Not set; the learning rate is used.")
            return
        unused = _RATES_OF_WHOLE_MODELS[:1] if self.sdxl else _RATES_OF_WHOLE_MODELS[1:3]
        for key in unused:
            self._leave(key, WITHOUT_EFFECT, f"This preset is {'' if self.sdxl else 'not '}for SDXL.")
        for key in _STOP:
            self._stop(key)

    def _stop(self, key: str) -> None:
        percent = _number(self.preset.get(key))
        if not percent:
            self._leave(key, HONOURED, "Not set.")
            return
        steps = _number(self.preset.get("max_train_steps"))
        if percent < 0:
            self._take(key, "stop_text_encoder_training", -1)
        elif steps:
            self._take(key, "stop_text_encoder_training", math.ceil(steps / 100 * percent))
        else:
            note = "A percentage of the steps, but the preset has no max_train_steps; set stop_text_encoder_training."
            self._leave(key, NOT_SUPPORTED, note)

    def _plain(self, key: str, value: Any) -> None:
        if key == "additional_parameters":
            shown = without_secrets(value) if isinstance(value, str) else value
            self.out.keys[key] = KeyVerdict(key, shown, HONOURED, gui_verdict(key).note)
            self._command_line(str(value or ""))
            return
        found = for_value(gui_verdict(key), value)
        target = found.becomes
        if found.verdict == UNKNOWN:
            self.out.notes.append(f"{key} is not known and was ignored. {found.note}")
        if key.startswith("sdxl_") and target and not self.sdxl:
            self._leave(key, WITHOUT_EFFECT, "This preset is not for SDXL.")
        elif key in OF_FLOWS and not self.other_family:
            self._leave(key, WITHOUT_EFFECT, "The GUI reads it only for Flux or SD3, and this preset is not for that.")
        elif key in table("other_models"):
            family = table("other_models")[key].note
            if not self.other_family:
                self._leave(
                    key, WITHOUT_EFFECT, f"The GUI reads it only for {family}, and this preset is not for that."
                )
            else:
                self._leave(key, found.verdict, found.note)
        elif key == "bucket_reso_steps" and 0 < (_number(value) or 0) < LEAST_STEP:
            self._take(key, key, LEAST_STEP, f"{value} becomes {LEAST_STEP}, the pixels of one latent cell.")
        elif key == "xformers":
            self._leave(key, found.verdict, found.note)
            if value is True or str(value).lower() in ("xformers", "sdpa", "true"):
                self.out.entries.append(Entry("sdpa" if value == "sdpa" else "xformers", True, silent=True))
        elif not target or found.verdict == UNKNOWN:
            self._leave(key, found.verdict, found.note)
        elif self._is_unset(target, value):
            note = _UNSET_NOTES.get(target, "Not set.") if found.verdict == HONOURED else found.note
            self._leave(key, found.verdict, note)
        elif target in SECRETS:
            self.out.keys[key] = KeyVerdict(key, HIDDEN, found.verdict, found.note)
        else:
            self._take(key, target, value)

    def _is_unset(self, target: str, value: Any) -> bool:
        option = self.declared.get(target)
        if option is None:
            return not _live(value) or value == "no"
        if option.kind == "bool":
            return value is None or value == ""
        if not _live(value) and not (value == 0 and value is not False):
            return True
        if target == "save_model_as" and "same as" in str(value):
            return True
        return target in ZERO_IS_UNSET and _number(value) == 0

    def _command_line(self, text: str) -> None:
        """Reads --key value, --key=value and --flag, as in a shell. Windows paths keep their backslashes."""
        try:
            pieces = shlex.split(text, posix=False)
        except ValueError:
            pieces = text.split()
        key = ""
        values: list[str] = []
        found: list[tuple[str, list[str]]] = []
        for piece in [*pieces, "--"]:
            if piece.startswith("--"):
                if key:
                    found.append((key, values))
                key, equals, text = piece[2:].partition("=")
                values = [text.strip("\"'")] if equals else []
            else:
                values.append(piece.strip("\"'"))
        for key, given in found:
            value: Any = True if not given else given[0] if len(given) == 1 else given
            self.out.entries.append(Entry(key, value, where="additional_parameters"))


def _number(value: Any) -> float | None:
    """The number in a field, also when it is written as text; None for anything else. An empty field is 0."""
    if value is None or isinstance(value, bool) or (isinstance(value, str) and not value.strip()):
        return 0.0
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _on(value: Any) -> bool:
    return value is True or str(value).strip().lower() in ("true", "1")


def _live(value: Any) -> bool:
    """False for every way in which the GUI writes "not set"."""
    if value is None or value is False or value == [] or value == {}:
        return False
    return not (isinstance(value, str) and value.strip().lower() in ("", "none"))
