"""LyCORIS' presets: which layers they adapt, and how. There are built-in presets by name, and TOML files."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from torch import nn

from atelier.adapters.config import NetworkConfig
from atelier.adapters.layers.targets import UNET
from atelier.config.errors import AtelierError, shortened
from atelier.config.files.paths import expanded
from atelier.config.kohya.document import read_document
from atelier.config.kohya.network_args import NETWORK_ARGS

UNET_TRANSFORMERS = frozenset({"Transformer2DModel"})
UNET_CONVOLUTIONS = frozenset({"ResnetBlock2D", "Downsample2D", "Upsample2D"})
TEXT_BLOCKS = frozenset({"CLIPAttention", "CLIPSdpaAttention", "CLIPFlashAttention2", "CLIPMLP"})
"""Classes of the text encoders' blocks that LyCORIS' presets name."""
_ATTENTION = frozenset({"CrossAttention", "SelfAttention", "Attention"})
_TEXT_ATTENTION = TEXT_BLOCKS - {"CLIPMLP"}
_FULL = UNET_TRANSFORMERS | UNET_CONVOLUTIONS
_ENDS = ("conv_in", "conv_out", r"time_embedding\.linear_1", r"time_embedding\.linear_2")

Override = Mapping[str, str]
"""network_args for some layers only, as text: algo, dim, alpha, factor …"""


@dataclass(frozen=True)
class Preset:
    """The layers to adapt: those within modules of these classes, and those whose path matches one of these patterns.

    A pattern is the path itself, or a regular expression that matches the beginning of the path. Paths are those of the
    UNet. For text encoders they start with "text_model.", whatever transformers calls them.
    """

    unet_classes: frozenset[str] = frozenset()
    unet_paths: tuple[str, ...] = ()
    text_classes: frozenset[str] = frozenset()
    text_paths: tuple[str, ...] = ()
    convolutions: bool = True
    """False leaves out convolutions with a kernel larger than 1x1."""
    left_out: tuple[str, ...] = ()
    """Patterns of layers, or of modules with all their layers, that are not adapted."""
    wildcards: bool = False
    """True: patterns have * and ? as in a shell, and match the whole path."""

    by_class: Mapping[str, Override] = field(default_factory=dict)
    """Class -> settings for layers within modules of that class."""
    by_path: Mapping[str, Override] = field(default_factory=dict)
    """Pattern -> settings for layers that were chosen by their paths."""

    def layers(self, part: str, root: nn.Module) -> dict[str, Override]:
        """The layers of a part by path, each with the preset's own settings for it."""
        classes = self.unet_classes if part == UNET else self.text_classes
        patterns = self.unet_paths if part == UNET else self.text_paths
        kinds = {path: type(module).__name__ for path, module in root.named_modules()}
        found: dict[str, Override] = {}
        for block_path, block in root.named_modules():
            if kinds[block_path] not in classes or self._any(self.left_out, part, block_path):
                continue
            for path in _layers(block, block_path):
                found.setdefault(path, self._innermost(kinds, block_path, path))
        for path in _layers(root, ""):
            if self._any(patterns, part, path):
                found[path] = self._by_path(part, path) or self.by_class.get(kinds[path], {})
        return {path: override for path, override in found.items() if not self._any(self.left_out, part, path)}

    @property
    def overrides(self) -> list[Override]:
        """All settings that the preset has for some layers."""
        return [*self.by_class.values(), *self.by_path.values()]

    def _innermost(self, kinds: Mapping[str, str], block_path: str, path: str) -> Override:
        """The settings of the innermost module, from the block down to the layer, whose class has settings."""
        while len(path) > len(block_path):
            if kinds[path] in self.by_class:
                return self.by_class[kinds[path]]
            path = path.rpartition(".")[0]
        return self.by_class.get(kinds[block_path], {})

    def _by_path(self, part: str, path: str) -> Override | None:
        return next((override for pattern, override in self.by_path.items() if self._any((pattern,), part, path)), None)

    def _any(self, patterns: tuple[str, ...], part: str, path: str) -> bool:
        if not patterns or not path:
            return False
        known = path if part == UNET else "text_model." + path.removeprefix("text_model.")
        matches = fnmatch if self.wildcards else (lambda name, pattern: re.match(pattern, name) is not None)
        return any(known == pattern or matches(known, pattern) for pattern in patterns)


def _layers(block: nn.Module, path: str) -> Iterator[str]:
    for inner, module in block.named_modules(prefix=path):
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            yield inner


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
"""LyCORIS' built-in presets for these models, by name (network_args preset=NAME)."""


def preset_of(config: NetworkConfig) -> Preset:
    """The preset that network_args name, or the preset in the TOML file that they name; by default "full".

    Raises `AtelierError` for an unknown name and for a file that cannot be used.
    """
    name = config.arguments.get("preset") or "full"
    if name in PRESETS:
        return PRESETS[name]
    if not name.lower().endswith(".toml"):
        raise AtelierError(
            f"{NETWORK_ARGS}: preset={name} is not known. Use one of {', '.join(PRESETS)}, or the path of a TOML file."
        )
    return read_preset(expanded(name))


_CLASSES = ("unet_target_module", "text_encoder_target_module")
_PATTERNS = ("unet_target_name", "text_encoder_target_name", "exclude_name")
_SWITCHES = ("enable_conv", "use_fnmatch")
_MAPS = ("module_algo_map", "name_algo_map")
_ELSEWHERE = ("target_module", "target_name", "lycoris_prefix")
"""Keys that LyCORIS reads only for models other than Stable Diffusion."""
_ALSO: Mapping[str, frozenset[str]] = {"CrossAttention": _ATTENTION, "CLIPAttention": _TEXT_ATTENTION}
"""Class names in presets -> the names of the same classes in diffusers and transformers."""


LONGEST = 200
_NESTED = re.compile(r"[+*}][^()]*\)[+*{]")
"""Finds nested repetitions such as (a+)+, with which a regular expression can run practically for ever."""


def read_preset(path: Path) -> Preset:
    """Reads a preset file of LyCORIS. Keys that it lacks are as in "full".

    Raises `AtelierError` when it cannot be read, or asks for something that is not supported.
    """
    where = f"{NETWORK_ARGS}: the preset {path}"
    try:
        content = read_document(path).content
    except AtelierError as error:
        raise AtelierError(f"{NETWORK_ARGS}: preset: {error}") from error
    for key, value in content.items():
        if key in _CLASSES + _PATTERNS:
            if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
                raise AtelierError(f"{where}: {key} must be a list of texts, in square brackets.")
        elif key in _SWITCHES:
            if not isinstance(value, bool):
                raise AtelierError(f"{where}: {key} must be true or false.")
        elif key in _MAPS:
            if not isinstance(value, dict) or not all(isinstance(table, dict) for table in value.values()):
                example = "{ algo = 'lokr' }"
                raise AtelierError(f"{where}: {key} must be a table of tables, such as FeedForward = {example}.")
        elif key not in _ELSEWHERE:
            raise AtelierError(f"{where}: {key} is not known. Remove it.")
    full = PRESETS["full"]
    patterns = {key: tuple(content[key]) for key in _PATTERNS if key in content}
    wildcards = content.get("use_fnmatch", False)
    if not wildcards:
        written_as = {**patterns, "name_algo_map": tuple(content.get("name_algo_map", ()))}
        for key, pattern in ((key, pattern) for key, listed in written_as.items() for pattern in listed):
            if len(pattern) > LONGEST or _NESTED.search(pattern):
                raise AtelierError(
                    f"{where}: {shortened(pattern)!r} in {key} is too complex. A pattern can have at most {LONGEST} "
                    "characters, and no repetition inside a repetition."
                )
            try:
                re.compile(pattern)
            except (re.error, OverflowError, RecursionError) as error:
                raise AtelierError(
                    f"{where}: {pattern!r} in {key} is not a regular expression ({error}). To use * and ? as in file "
                    "names, set use_fnmatch = true."
                ) from error
    return Preset(
        _classes(content.get("unet_target_module"), full.unet_classes),
        patterns.get("unet_target_name", full.unet_paths),
        _classes(content.get("text_encoder_target_module"), full.text_classes),
        patterns.get("text_encoder_target_name", full.text_paths),
        content.get("enable_conv", True),
        patterns.get("exclude_name", ()),
        wildcards,
        _overrides(where, content.get("module_algo_map", {})),
        _overrides(where, content.get("name_algo_map", {})),
    )


_NETWORK_ARGS = {"weight_decompose": "dora_wd", "wd_on_out": "wd_on_output"}
"""Keys that have another name in a preset's tables than in network_args."""


def _overrides(where: str, written: Mapping[str, Mapping[str, Any]]) -> dict[str, Override]:
    found: dict[str, Override] = {}
    for name, asked in written.items():
        override = {_NETWORK_ARGS.get(key, key): str(value) for key, value in asked.items()}
        try:
            NetworkConfig().overridden(override)
        except AtelierError as error:
            raise AtelierError(f"{where}: {name}: {error}") from error
        for called in _ALSO.get(name, frozenset({name})):
            if called == name or called not in written:
                found[called] = override
    return found


def _classes(listed: list[str] | None, otherwise: frozenset[str]) -> frozenset[str]:
    if listed is None:
        return otherwise
    return frozenset().union(*(_ALSO.get(name, frozenset({name})) for name in listed))
