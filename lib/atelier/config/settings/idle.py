"""Settings that do nothing as long as another one is not set."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from atelier.config.settings.groups.flow import FlowSettings
from atelier.config.settings.schema import Settings, labelled, option

NEEDS: Mapping[str, tuple[str, ...]] = {
    "adaptive_noise_scale": ("noise_offset",),
    "noise_offset_random_strength": ("noise_offset",),
    "ip_noise_gamma_random_strength": ("ip_noise_gamma",),
    "conv_alpha": ("conv_dim",),
    "skip_until_initial_step": ("initial_step", "initial_epoch"),
}
"""Setting -> the settings of which one must be set."""
OF_FLOWS = tuple(field.name for field in dataclasses.fields(FlowSettings))
"""Settings that only models with a flow read."""
OF_DIFFUSIONS = ("zero_terminal_snr", "snr_after_rescaling")
"""Settings that models with a flow do not read."""


def idle(values: Mapping[str, Any]) -> list[str]:
    """The settings in `values` that are set in vain."""
    return [key for key, needed in NEEDS.items() if values.get(key) and not any(values.get(other) for other in needed)]


def idle_settings(settings: Settings) -> list[str]:
    """A sentence for each setting that is set in vain."""
    return [
        f"{labelled(key)} does nothing without {' or '.join(map(labelled, NEEDS[key]))}."
        for key in idle({key: getattr(settings, key) for keys in NEEDS.items() for key in (keys[0], *keys[1])})
    ]


def foreign_settings(settings: Settings, flow: bool, model: str) -> list[str]:
    """A sentence for each setting that was changed and that a model with (or without) a `flow` does not read."""
    return [
        f"{labelled(key)} does nothing for {model}."
        for key in (OF_DIFFUSIONS if flow else OF_FLOWS)
        if getattr(settings, key) not in (option(key).default, "uniform" if key == "weighting_scheme" else None)
    ]
