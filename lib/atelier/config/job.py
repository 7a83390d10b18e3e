"""A job: the settings and datasets of one run, as an object and as JSON for the queue."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from atelier.config.datasets import Dataset, DatasetConfig, Subset, datasets_from_folders
from atelier.config.errors import AtelierError, shortened
from atelier.config.settings.checks import check
from atelier.config.settings.option import Option
from atelier.config.settings.schema import Settings, options
from atelier.config.settings.values import plain

VERSION = 1


@dataclass
class JobConfig:
    """Settings and datasets of one run, checked and complete."""

    settings: Settings
    datasets: DatasetConfig
    notes: list[str] = field(default_factory=list)
    """Sentences for the person about the file that the job was read from."""
    extra: dict[str, Any] = field(default_factory=dict)
    """sd-scripts' keys that have no setting here, kept for export."""

    @property
    def trigger(self) -> str:
        return self.settings.trigger.strip()

    @property
    def name(self) -> str:
        return self.settings.output_name


def job_from_settings(settings: Settings, datasets: DatasetConfig | None = None) -> JobConfig:
    """A job from settings, with the datasets of its folders unless some are given. Raises `SettingsError`."""
    check(settings)
    return JobConfig(settings, datasets if datasets is not None else datasets_from_folders(settings))


def job_to_dict(job: JobConfig) -> dict[str, Any]:
    """The job as JSON holds it."""
    return {
        "version": VERSION,
        "settings": dataclasses.asdict(job.settings),
        "datasets": [dataclasses.asdict(dataset) for dataset in job.datasets.datasets],
        "extra": plain(job.extra),
    }


def job_from_dict(data: dict[str, Any]) -> JobConfig:
    """The inverse of `job_to_dict`. Raises `AtelierError` for a job of a newer version, and for other data."""
    try:
        if data["version"] > VERSION:
            raise AtelierError("This job was made by a newer version of Atelier. Update Atelier to run it.")
        settings = Settings(**data["settings"])
        for option in options():
            if not _fits(option, getattr(settings, option.key)):
                raise ValueError(f"{option.key} is {shortened(repr(getattr(settings, option.key)))}")
        extra = dict(data.get("extra") or {})
        datasets = []
        for item in data["datasets"]:
            subsets = [Subset(**subset) for subset in item["subsets"]]
            width, height = item["resolution"]
            datasets.append(Dataset(**{**item, "subsets": subsets, "resolution": (width, height)}))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise AtelierError(f"The job cannot be read: {error}.") from error
    return JobConfig(settings, DatasetConfig(datasets), extra=extra)


_KINDS: dict[str, type | tuple[type, ...]] = {
    "bool": bool, "int": int, "float": (int, float), "int_or_float": (int, float), "str": str, "strs": str,
    "floats": (int, float),
}  # fmt: skip


def _fits(option: Option, value: Any) -> bool:
    """True when a value has the type of its setting."""
    if value is None:
        return option.optional or option.kind in ("strs", "floats")
    if option.kind in ("strs", "floats") and not isinstance(value, str):
        items = value if isinstance(value, (list, tuple)) else [value]
        return all(isinstance(item, _KINDS[option.kind]) for item in items)
    return isinstance(value, _KINDS.get(option.kind, object))
