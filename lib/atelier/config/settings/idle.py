"""Settings that do nothing as long as another one is not set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from atelier.config.settings.schema import Settings, labelled

NEEDS: Mapping[str, tuple[str, ...]] = {
    "adaptive_noise_scale": ("noise_offset",),
    "noise_offset_random_strength": ("noise_offset",),
    "ip_noise_gamma_random_strength": ("ip_noise_gamma",),
    "conv_alpha": ("conv_dim",),
    "skip_until_initial_step": ("initial_step", "initial_epoch"),
}
"""Setting -> the settings of which one must be set."""


def idle(values: Mapping[str, Any]) -> list[str]:
    """The settings in `values` that are set in vain."""
    return [key for key, needed in NEEDS.items() if values.get(key) and not any(values.get(other) for other in needed)]


def idle_settings(settings: Settings) -> list[str]:
    """A sentence for each setting that is set in vain."""
    return [
        f"{labelled(key)} does nothing without {' or '.join(map(labelled, NEEDS[key]))}."
        for key in idle({key: getattr(settings, key) for keys in NEEDS.items() for key in (keys[0], *keys[1])})
    ]
