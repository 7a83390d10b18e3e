"""What a model says suits it, in a JSON file beside it: `NAME.atelier.json` for the file or folder NAME.

{"train": {"learning_rate": 0.001, …}, "draw": {"steps": 20, "cfg_scale": 3, "sampler": "DDIM"}}
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from atelier.config.schema import check_value, options
from atelier.models.family import Parts


@dataclass(frozen=True)
class Recommended:
    """`train`: settings by their keys, better than a preset for the family. `draw`: steps, cfg_scale, sampler."""

    side: int
    """The side in pixels that the model draws best."""
    train: dict[str, Any] = field(default_factory=dict)
    draw: dict[str, Any] = field(default_factory=dict)


def recommended(path: Path, parts: Parts) -> Recommended:
    """The sizes that the UNet was built for, and the file's words where they are usable."""
    sample_size = getattr(parts.unet.config, "sample_size", None)
    side = 8 * sample_size if isinstance(sample_size, int) else parts.family.resolution
    train: dict[str, Any] = {}
    if side < parts.family.resolution:
        train = {
            "resolution": str(side),
            "min_bucket_reso": max(8, side // 2),
            "max_bucket_reso": side * 2,
            "bucket_reso_steps": max(8, side // 8),
        }
    said = _read(path.with_name(path.name + ".atelier.json"))
    known = {option.key: option for option in options()}
    for key, value in _section(said, "train").items():
        if key in known and check_value(known[key], value) is None:
            train[key] = value
    return Recommended(side, train, _section(said, "draw"))


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _section(content: dict[str, Any], name: str) -> dict[str, Any]:
    section = content.get(name)
    return section if isinstance(section, dict) else {}
