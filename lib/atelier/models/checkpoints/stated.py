"""Configuration values that a checkpoint file states in its metadata, since its tensors' shapes do not show them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

CONFIG_KEY = "atelier.config"
"""Metadata key of a single file: JSON with the values that shapes do not show, per part (see `views.configs`)."""


def stated_config(metadata: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """The configuration values in the metadata of a file that we wrote, per part."""
    try:
        content = json.loads(metadata.get(CONFIG_KEY, "{}"))
    except (ValueError, RecursionError):
        return {}
    if not isinstance(content, dict):
        return {}
    return {str(part): changes for part, changes in content.items() if isinstance(changes, dict)}
