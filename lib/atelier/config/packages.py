"""The Python packages that Atelier needs, and which version of each suits the libraries that the WebUI has.

A WebUI runs this at every start. So only the standard library is used, and no package is imported to look it up.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

INSTALLER = Path(__file__).resolve().parents[3] / "install.py"
"""The script that adds what is missing."""


@dataclass(frozen=True)
class Package:
    """A package: what it is for, whether training needs it, and the oldest version that works."""

    name: str
    why: str
    required: bool = False
    at_least: str = ""


# Python reads TOML by itself from 3.11 on.
TOMLI = (Package("tomli", "reading settings as TOML", required=True),) if sys.version_info < (3, 11) else ()
PACKAGES = (
    Package("torch", "all computation", required=True, at_least="2.1"),
    Package("transformers", "the text encoders", required=True, at_least="4.30"),
    Package("diffusers", "the model classes and the noise schedules", required=True, at_least="0.31"),
    Package("accelerate", "training on one device or several", required=True),
    Package("safetensors", "reading and writing model files", required=True),
    Package("tomlkit", "writing settings as TOML", required=True),
    *TOMLI,
    Package("psutil", "knowing how much memory is free", required=True),
    Package("lycoris-lora", "LoHa, LoKr, (IA)3, OFT, BOFT and DoRA; a plain LoRA does without"),
    Package("pytorch-optimizer", "the optimizers Lion and D-Adaptation"),
    Package("prodigyopt", "the optimizer Prodigy"),
    Package("schedulefree", "the schedule-free optimizers"),
    Package("importlib-metadata", "diffusers looks versions up with it", required=True),
    Package("zipp", "importlib-metadata reads archives with it", required=True),
    Package("toml", "lycoris-lora reads its settings with it"),
)


@dataclass(frozen=True)
class Pin:
    """The version of a package to install where each package named in `below` is older than the version given there."""

    name: str
    version: str
    below: Mapping[str, str] = field(default_factory=dict)


# The first line that fits decides. Each version was installed beside the pinned libraries of the WebUI named and ran.
# A package without a line (torch, transformers, …) belongs to the WebUI and is never installed.
PINS = (
    Pin("diffusers", "0.31.0", {"transformers": "4.48"}),  # AUTOMATIC1111: newer pipelines do not import there
    Pin("diffusers", "0.32.2", {"transformers": "5"}),
    Pin("diffusers", "0.40.0"),
    Pin("tomlkit", "0.14.0"),
    Pin("tomli", "2.5.0"),
    Pin("lycoris-lora", "4.0.0", {"torch": "2.2"}),  # AUTOMATIC1111
    Pin("lycoris-lora", "3.2.0", {"torch": "2.4"}),  # Forge: 4.1 does not import, 3.3 and 3.4 fail on full matrices
    Pin("lycoris-lora", "4.1.3"),
    Pin("pytorch-optimizer", "4.1.0"),
    Pin("prodigyopt", "1.1.2"),
    Pin("schedulefree", "1.4.1"),
    Pin("importlib-metadata", "9.0.1"),
    Pin("zipp", "4.1.2"),
    Pin("toml", "0.10.2"),
)


@dataclass(frozen=True)
class Missing:
    """A package that is absent or too old: what it is needed for, and the command that installs it."""

    name: str
    why: str
    command: str
    required: bool

    def __str__(self) -> str:
        return f"{self.name} is missing ({self.why}). To install it: {self.command}"


def normalised(name: str) -> str:
    """A package's name as pip compares it: lower case, with single hyphens."""
    return re.sub(r"[-_.]+", "-", name).lower()


def release(version: str) -> tuple[int, ...]:
    """The numbers at the start of a version, for comparing: "2.1.2+cu121" -> (2, 1, 2). Trailing zeros are dropped."""
    found = re.match(r"v?(\d+(?:\.\d+)*)", version)
    numbers = [int(number) for number in found.group(1).split(".")] if found else []
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def installed_version(name: str) -> str | None:
    """The version of an installed package, read from its metadata; None when it is not installed."""
    try:
        # A folder that a broken installation left behind has metadata without a version.
        return metadata.version(name) or None
    except (metadata.PackageNotFoundError, KeyError, TypeError):
        return None


def installed() -> dict[str, str]:
    """Name -> version of every installed package; of two copies, the one that would be imported."""
    found: dict[str, str] = {}
    for distribution in metadata.distributions():
        try:
            name, version = distribution.metadata["Name"], distribution.version
        except KeyError:
            continue
        if name and version:
            found.setdefault(normalised(name), version)
    return found


class Lookup(Mapping[str, str]):
    """Name -> version of installed packages, each looked up when asked for, since listing all takes a second."""

    def __init__(self) -> None:
        self._known: dict[str, str | None] = {}

    def __getitem__(self, name: str) -> str:
        if name not in self._known:
            self._known[name] = installed_version(name)
        version = self._known[name]
        if version is None:
            raise KeyError(name)
        return version

    def __iter__(self) -> Iterator[str]:
        return iter(installed())

    def __len__(self) -> int:
        return len(installed())


def pinned(name: str, present: Mapping[str, str] | None = None) -> str | None:
    """The version of `name` to install beside the packages `present` (by default the installed ones), or None.

    A condition on a package that is absent does not hold.
    """
    present = Lookup() if present is None else present
    for pin in PINS:
        if pin.name == normalised(name) and all(
            other in present and release(present[other]) < release(limit) for other, limit in pin.below.items()
        ):
            return pin.version
    return None


def to_add(present: Mapping[str, str] | None = None) -> list[str]:
    """The missing packages to install, as `name==version`. A package present in any version is not among them."""
    present = Lookup() if present is None else present
    wanted = [(package.name, pinned(package.name, present)) for package in PACKAGES if package.name not in present]
    return [f"{name}=={version}" for name, version in wanted if version]


def constraints(present: Mapping[str, str]) -> str:
    """A pip constraints file that holds every package at the version it has."""
    # A version that is none by PEP 440 would make pip refuse the whole file.
    regular = re.compile(r"(\d+!)?\d+(\.\d+)*((a|b|rc)\d+)?(\.post\d+)?(\.dev\d+)?(\+[a-z0-9.]+)?", re.IGNORECASE)
    return "".join(f"{name}=={version}\n" for name, version in sorted(present.items()) if regular.fullmatch(version))


def missing(present: Mapping[str, str] | None = None) -> list[Missing]:
    """What is absent or too old among the packages Atelier uses, required ones first. Empty when all is well."""
    present = Lookup() if present is None else present
    lacking = []
    for package in PACKAGES:
        version = pinned(package.name, present)
        requirement = f"{package.name}=={version}" if version else package.name
        if package.name not in present:
            arguments = [str(INSTALLER), package.name] if version else ["-m", "pip", "install", requirement]
            lacking.append(Missing(package.name, package.why, _command(arguments), package.required))
        elif release(present[package.name]) < release(package.at_least):
            if not version:
                requirement = f"{package.name}>={package.at_least}"
            why = (
                f"{package.why}; version {present[package.name]} is installed and {package.at_least} or newer is "
                "needed. It was left as it is, because the WebUI or another extension may rely on it"
            )
            command = _command(["-m", "pip", "install", requirement])
            lacking.append(Missing(package.name, why, command, package.required))
    return sorted(lacking, key=lambda missing: not missing.required)


def _command(arguments: list[str]) -> str:
    """A command line for this Python, to be pasted into a console."""
    # Imported here: every start of a WebUI waits for this file, and most starts have no command to show.
    import shlex
    import subprocess

    words = [sys.executable, *arguments]
    return subprocess.list2cmdline(words) if os.name == "nt" else shlex.join(words)
