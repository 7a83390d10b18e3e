"""The machine's part of a bug report: versions, system, card and memory. Unknown facts are left out."""

from __future__ import annotations

import importlib
import importlib.util
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from atelier import __version__
from atelier.config.packages import installed_version
from atelier.hosts.webui import by_name

ROOT = Path(__file__).resolve().parents[3]
"""The checkout."""
PACKAGES = (
    "torch", "diffusers", "transformers", "accelerate", "safetensors", "gradio", "lycoris-lora", "bitsandbytes",
    "pytorch-optimizer", "prodigyopt", "schedulefree", "xformers", "numpy",
)  # fmt: skip
PATIENCE = 10.0
"""Seconds that another program may take to answer."""
GB = 1 << 30
_VALUES = re.compile(
    r"\d{1,5}(?:\.\d{1,4})?|all|auto|autocast|cpu|cuda(?::\d+)?|directml|full|half|ipex|mps|none|openvino|rocm"
)
"""Values of launch flags that say nothing of anybody."""


def atelier_line() -> str:
    """ "0.1.0, commit 1a2b3c4". The commit is that of the checkout, where git is there to tell."""
    commit = git(ROOT, "rev-parse", "--short", "HEAD") if (ROOT / ".git").exists() else ""
    return f"{__version__}, commit {commit}" if commit else __version__


def system_line() -> str:
    return f"Python {platform.python_version()} ({platform.python_implementation()}), {platform.platform()}"


def package_lines() -> Iterator[str]:
    """The packages that training uses, with their versions."""
    for name in PACKAGES:
        yield f"{name} {installed_version(name) or 'is not installed'}"


def webui_line(folder: Path | None) -> str:
    """The WebUI in `folder`, told by what it has, and its version."""
    if folder is None:
        return "none: this was made by run.py"

    def has(module: str) -> bool:
        path = folder.joinpath(*module.split("."))
        return path.is_dir() or path.with_suffix(".py").is_file()

    name = next((webui.title for webui in by_name().values() if webui.is_here(has)), "one not known")
    return f"{name} {git(folder, 'describe', '--tags', '--always') if (folder / '.git').exists() else ''}".rstrip()


def webui_folder(checkout: Path = ROOT) -> Path | None:
    """The folder of the WebUI that has the checkout among its extensions; None when it lies elsewhere."""
    inside = checkout.parent.name in ("extensions", "extensions-builtin")
    return checkout.parents[1] if inside and (checkout.parents[1] / "modules").is_dir() else None


def flags_line(arguments: Sequence[str]) -> str:
    """Launch flags. Of what they are set to only numbers and words such as "cpu" or "full" are told."""
    words: list[str] = []
    for word in arguments:
        flag, equals, value = word.partition("=")
        if re.fullmatch(r"--?[A-Za-z][\w-]*", flag):
            words.append(f"{flag}={_value(value)}" if equals else flag)
        elif not words or words[-1] != "…":
            words.append(_value(word))
    return " ".join(words) or "none known"


def launch_arguments(given: Sequence[str] = ()) -> list[str]:
    """What a WebUI was started with: on its command line, and through its environment."""
    text = os.environ.get("COMMANDLINE_ARGS", "")
    try:
        more = shlex.split(text)
    except ValueError:  # a quotation mark that is never closed
        more = text.split()
    return [*given, *(word for word in more if word not in given)]


def card_lines() -> Iterator[str]:
    """The GPUs, as torch and the driver's own program see them, and what torch is built for."""
    cards = [line for asked in (_by_torch, _by_driver) for line in _guarded(asked)]
    yield from cards or ["none that torch can use"]
    yield from _guarded(_torch_build)


def memory_lines(data: Path | None) -> Iterator[str]:
    """The machine's memory, and the room on the disk of the data folder."""
    yield from _guarded(_system_memory)
    if data is not None:
        yield from _guarded(lambda: iter([f"{shutil.disk_usage(data).free / GB:.1f} GB free on the disk of the runs"]))


@lru_cache(maxsize=16)
def git(folder: Path, *words: str) -> str:
    """What git says of a folder; "" where it says nothing. Asked once a process."""
    return _said("git", "-C", str(folder), *words)


def _value(text: str) -> str:
    return text if _VALUES.fullmatch(text) else "…"


def _torch() -> Any:
    """torch, None where it is not installed."""
    there = "torch" in sys.modules or importlib.util.find_spec("torch") is not None
    return importlib.import_module("torch") if there else None


def _torch_build() -> Iterator[str]:
    torch = _torch()
    if torch is not None:
        built = [("CUDA", torch.version.cuda), ("ROCm", getattr(torch.version, "hip", None))]
        kinds = " and ".join(f"{name} {version}" for name, version in built if version)
        yield f"torch {torch.__version__}, built for {kinds or 'neither CUDA nor ROCm'}"


def _by_torch() -> Iterator[str]:
    torch = _torch()
    if torch is None:
        return
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            about = torch.cuda.get_device_properties(index)
            free = torch.cuda.mem_get_info(index)[0]
            yield (
                f"{about.name}, {about.total_memory / GB:.1f} GB, {free / GB:.1f} GB free, "
                f"compute capability {about.major}.{about.minor}"
            )
    for kind in ("mps", "xpu"):
        found: Any = getattr(torch.backends, kind, None) if kind == "mps" else getattr(torch, kind, None)
        if found is not None and found.is_available():
            yield kind


@lru_cache(maxsize=1)
def _driver() -> tuple[str, ...]:
    said = _said("nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader")
    return tuple(line.strip() for line in said.splitlines() if line.strip())


def _by_driver() -> Iterator[str]:
    for line in _driver():
        name, _, rest = line.partition(", ")
        version, _, total = rest.partition(", ")
        yield f"NVIDIA's driver {version}: {name}, {total}"


def _system_memory() -> Iterator[str]:
    try:
        import psutil
    except ImportError:
        pages = os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 0
        if pages:
            yield f"{pages * os.sysconf('SC_PAGE_SIZE') / GB:.1f} GB of memory, {os.cpu_count()} CPU cores"
        return
    memory = psutil.virtual_memory()
    yield (
        f"{memory.total / GB:.1f} GB of memory, {memory.available / GB:.1f} GB of it free, {os.cpu_count()} CPU cores"
    )


def _guarded(asked: Callable[[], Iterator[str]]) -> Iterator[str]:
    """What can be told until something fails, and that it failed."""
    try:
        yield from asked()
    except Exception as error:  # noqa: BLE001 - a report is made where something is broken
        yield f"not known ({type(error).__name__})"


def _said(*command: str) -> str:
    """What a program prints; "" when it is not there, fails or takes too long."""
    program = shutil.which(command[0])
    if program is None:
        return ""
    try:
        done = subprocess.run(
            [program, *command[1:]], capture_output=True, text=True, errors="replace", timeout=PATIENCE,
            stdin=subprocess.DEVNULL, creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
