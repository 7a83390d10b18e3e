"""Which layers LyCORIS' presets choose: its own by name, and those that somebody has written as a TOML file."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError
from torch import nn

from atelier.adapters.config import NetworkConfig
from atelier.adapters.targets import TEXT_BLOCKS, UNET, UNET_CONVOLUTIONS, UNET_TRANSFORMERS
from atelier.config.errors import AtelierError

_ATTENTION = frozenset({"CrossAttention", "SelfAttention", "Attention"})
_TEXT_ATTENTION = TEXT_BLOCKS - {"CLIPMLP"}
_FULL = UNET_TRANSFORMERS | UNET_CONVOLUTIONS
_ENDS = ("conv_in", "conv_out", r"time_embedding\.linear_1", r"time_embedding\.linear_2")


@dataclass(frozen=True)
class Preset:
    """Which layers: those within modules of these classes, and those whose path one of these patterns matches.

    A pattern is the path itself, or a regular expression that its beginning matches. Paths are those of the UNet and,
    for text encoders, those that begin with "text_model.", whatever transformers calls them.
    """

    unet_classes: frozenset[str] = frozenset()
    unet_paths: tuple[str, ...] = ()
    text_classes: frozenset[str] = frozenset()
    text_paths: tuple[str, ...] = ()
    convolutions: bool = True
    """False leaves out convolutions with windows of more than one pixel."""
    left_out: tuple[str, ...] = ()
    """Patterns of layers, and of modules with all that is within them, that are not adapted."""
    wildcards: bool = False
    """Patterns are those of a shell, with * and ?, and match the whole path."""

    def within(self, part: str, root: nn.Module) -> Iterator[tuple[str, str]]:
        """(part, path) of every layer of a part that is chosen by the class of a module around it."""
        classes = self.unet_classes if part == UNET else self.text_classes
        for block_path, block in root.named_modules():
            if type(block).__name__ not in classes or self._excludes(part, block_path):
                continue
            for path, module in block.named_modules(prefix=block_path):
                if isinstance(module, (nn.Linear, nn.Conv2d)) and not self._excludes(part, path):
                    yield part, path

    def names(self, part: str, path: str) -> bool:
        """True when the layer is chosen by its own path."""
        patterns = self.unet_paths if part == UNET else self.text_paths
        return self._any(patterns, part, path) and not self._excludes(part, path)

    def _excludes(self, part: str, path: str) -> bool:
        return self._any(self.left_out, part, path)

    def _any(self, patterns: tuple[str, ...], part: str, path: str) -> bool:
        if not patterns or not path:
            return False
        known = path if part == UNET else "text_model." + path.removeprefix("text_model.")
        matches = fnmatch if self.wildcards else (lambda name, pattern: re.match(pattern, name) is not None)
        return any(known == pattern or matches(known, pattern) for pattern in patterns)


PRESETS: Mapping[str, Preset] = {
    "full": Preset(_FULL, _ENDS, TEXT_BLOCKS),
    "full-lin": Preset(UNET_TRANSFORMERS | {"ResnetBlock2D"}, _ENDS[2:], TEXT_BLOCKS, convolutions=False),
    "attn-mlp": Preset(UNET_TRANSFORMERS, (), TEXT_BLOCKS, convolutions=False),
    "attn-only": Preset(_ATTENTION, (), _TEXT_ATTENTION, convolutions=False),
    "unet-only": Preset(_FULL, _ENDS),
    "unet-transformer-only": Preset(UNET_TRANSFORMERS, convolutions=False),
    "unet-convblock-only": Preset(UNET_CONVOLUTIONS, _ENDS[:2]),
    "ia3": Preset(
        frozenset(),
        (r".*\.(to_k|to_v|ff\.net\.2)$",),
        frozenset(),
        (r".*\.(k_proj|v_proj|mlp\.fc2)$",),
        convolutions=False,
    ),
}
"""LyCORIS' own presets by name, as far as they concern these models; network_args preset=NAME."""


def preset_of(config: NetworkConfig) -> Preset:
    """The preset that network_args name, or the TOML file they give for it; "full" without one.

    Raises `AtelierError` for an unknown name and for a file that cannot be used.
    """
    name = config.arguments.get("preset") or "full"
    if name in PRESETS:
        return PRESETS[name]
    if not name.lower().endswith(".toml"):
        raise AtelierError(
            f"network_args: preset={name} is not known; use one of {', '.join(PRESETS)}, or the path of a TOML file."
        )
    return read_preset(Path(name).expanduser())


_CLASSES = ("unet_target_module", "text_encoder_target_module")
_PATTERNS = ("unet_target_name", "text_encoder_target_name", "exclude_name")
_SWITCHES = ("enable_conv", "use_fnmatch")
_MAPS = ("module_algo_map", "name_algo_map")
_ELSEWHERE = ("target_module", "target_name", "lycoris_prefix")
"""What LyCORIS reads for models other than Stable Diffusion only."""
_ALSO: Mapping[str, frozenset[str]] = {"CrossAttention": _ATTENTION, "CLIPAttention": _TEXT_ATTENTION}
"""Classes that are called otherwise here than in the programs that presets are written for."""


def read_preset(path: Path) -> Preset:
    """A preset file of LyCORIS. What it does not say is as in "full".

    Raises `AtelierError` when it cannot be read, or asks for what cannot be done here.
    """
    where = f"network_args: the preset {path}"
    try:
        written = path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        raise AtelierError(f"{where} cannot be read: {getattr(error, 'strerror', None) or error}.") from error
    try:
        content: dict[str, Any] = tomlkit.parse(written.decode("utf-8")).unwrap()
    except (TOMLKitError, UnicodeDecodeError) as error:
        raise AtelierError(f"{where} is no TOML file that can be read: {error}.") from error
    for key, value in content.items():
        if key in _CLASSES + _PATTERNS:
            if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
                raise AtelierError(f"{where}: {key} has to be a list of texts, in square brackets.")
        elif key in _SWITCHES:
            if not isinstance(value, bool):
                raise AtelierError(f"{where}: {key} has to be true or false.")
        elif key in _MAPS:
            if value:
                raise AtelierError(f"{where}: {key} is not supported; take it out to train every layer as one kind.")
        elif key not in _ELSEWHERE:
            raise AtelierError(f"{where}: {key} is not known; take it out.")
    full = PRESETS["full"]
    patterns = {key: tuple(content[key]) for key in _PATTERNS if key in content}
    wildcards = content.get("use_fnmatch", False)
    if not wildcards:
        for key, each in ((key, each) for key, listed in patterns.items() for each in listed):
            try:
                re.compile(each)
            except re.error as error:
                raise AtelierError(
                    f"{where}: {each!r} in {key} is no regular expression ({error}). For * and ? as in file names set "
                    "use_fnmatch = true."
                ) from error
    return Preset(
        _classes(content.get("unet_target_module"), full.unet_classes),
        patterns.get("unet_target_name", full.unet_paths),
        _classes(content.get("text_encoder_target_module"), full.text_classes),
        patterns.get("text_encoder_target_name", full.text_paths),
        content.get("enable_conv", True),
        patterns.get("exclude_name", ()),
        wildcards,
    )


def _classes(listed: list[str] | None, otherwise: frozenset[str]) -> frozenset[str]:
    if listed is None:
        return otherwise
    return frozenset().union(*(_ALSO.get(name, frozenset({name})) for name in listed))
