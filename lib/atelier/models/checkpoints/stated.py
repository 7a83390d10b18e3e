"""What a file of tensors says about its configuration, beyond their shapes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

CONFIG_KEY = "atelier.config"
"""Metadata of a single file: JSON of what its shapes do not tell, per part (see `models.configs`)."""


def stated_config(metadata: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """What a file written here says about its configuration beyond its shapes, per part."""
    try:
        content = json.loads(metadata.get(CONFIG_KEY, "{}"))
    except (ValueError, RecursionError):
        return {}
    if not isinstance(content, dict):
        return {}
    return {str(part): changes for part, changes in content.items() if isinstance(changes, dict)}
