"""The one schema of settings, under kohya's names: the tab, TOML, the API, validation and docs all come from it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from atelier.config.settings.groups.basics import BasicSettings
from atelier.config.settings.groups.flow import FlowSettings
from atelier.config.settings.groups.network import LearningSettings, NetworkSettings
from atelier.config.settings.groups.objective import ObjectiveSettings
from atelier.config.settings.groups.pictures import CaptionSettings, PictureSettings
from atelier.config.settings.groups.running import DreamboothSettings, NotificationSettings, RunningSettings
from atelier.config.settings.option import GROUPS, Option, option_of


@dataclass
class Settings(
    NotificationSettings,
    DreamboothSettings,
    RunningSettings,
    FlowSettings,
    ObjectiveSettings,
    LearningSettings,
    NetworkSettings,
    CaptionSettings,
    PictureSettings,
    BasicSettings,
):
    """Every setting of a training run. Datasets, which may differ from one another, are in `config.datasets`."""

    def replace(self, **changes: Any) -> Settings:
        """A copy with some settings changed."""
        return dataclasses.replace(self, **changes)


@lru_cache(maxsize=1)
def options() -> tuple[Option, ...]:
    """Every setting, ordered by group, within a group as declared."""
    found = [option_of(field) for field in dataclasses.fields(Settings)]
    return tuple(sorted(found, key=lambda option: GROUPS.index(option.group)))


def option(key: str) -> Option:
    """The setting named `key`. Raises KeyError when there is none."""
    return {found.key: found for found in options()}[key]


def labelled(key: str) -> str:
    """The setting as the tab calls it, with its key: "Rank (network_dim)". A key that is no setting stays as it is."""
    label = {found.key: found.label for found in options()}.get(key, key)
    return label if label.lower() == key.lower() else f"{label} ({key})"


def parse_resolution(text: str | int) -> tuple[int, int]:
    """ "512" or "512,768" -> (width, height) in pixels. Raises ValueError."""
    sides = [int(side) for side in str(text).lower().replace("x", ",").split(",")]
    if len(sides) == 1:
        sides *= 2
    if len(sides) != 2:
        raise ValueError(text)
    return sides[0], sides[1]
