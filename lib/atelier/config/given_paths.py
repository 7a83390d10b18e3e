"""Checks, before a run makes or reads anything, that every file and folder that it names is there and of its kind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from atelier.config.datasets import Subset
from atelier.config.errors import AtelierError, Problem, SettingsError
from atelier.config.files.paths import exists, expanded, is_file, is_folder
from atelier.config.job import JobConfig
from atelier.config.sample_prompts import prompts_file

_STATE_OF_KOHYA = (
    "train_state.json", "optimizer.bin", "scheduler.bin", "sampler.bin", "random_states_0.pkl", "scaler.pt",
    "custom_checkpoint_0.pkl", "optimizer", "pytorch_model.bin", "model.safetensors",
)  # fmt: skip
"""Files that accelerate writes into a state's folder, for sd-scripts and others."""
_CHECKPOINTS = (".safetensors", ".ckpt", ".pt", ".pth")
_OUTPUTS = ("output_dir", "logging_dir")


def check_paths(job: JobConfig, command_line: bool = False) -> None:
    """Raises `SettingsError` for each path that is missing, or a folder in place of a file, or the other way round.

    `command_line`: the setting that only the command line reads counts too: resume.
    """
    problems = list(_wrong_paths(job))
    if command_line:
        problems += _wrong_on_a_command_line(job)
    if problems:
        raise SettingsError(problems)


def check_base(base: str | None, models: Path) -> None:
    """Raises `SettingsError` when a base that is given by its path is neither there nor in the folder `models`."""
    a_path = base is not None and (any(mark in base for mark in "/\\") or base.lower().endswith(_CHECKPOINTS))
    if base and a_path and not exists(base) and not exists(models / base):
        allowed = "there is no such file or folder; give a checkpoint, or a folder of diffusers, on this machine"
        raise SettingsError([Problem("pretrained_model_name_or_path", base, allowed)])


def has_state(run: Path) -> bool:
    """True when the folder of a run has a state to go on from."""
    return any((run / "state").glob("[0-9]*.safetensors"))


def _wrong_paths(job: JobConfig) -> Iterator[Problem]:
    settings = job.settings
    if settings.network_weights:
        yield from _file("network_weights", settings.network_weights)
    if settings.vae and not exists(settings.vae):
        yield Problem("vae", settings.vae, "there is no such file or folder; give one on this machine")
    for path in settings.base_weights:
        yield from _file("base_weights", path)
    try:
        prompts_file(settings.sample_prompts)
    except AtelierError as error:
        yield Problem("sample_prompts", settings.sample_prompts, _clause(error))
    for argument in settings.network_args:
        key, _, value = argument.partition("=")
        if key.strip() == "preset" and value.strip().lower().endswith(".toml"):
            yield from _file("network_args", value.strip())
    told: set[tuple[str, str]] = set()
    for subset in job.datasets.subsets:
        for problem in _of_subset(subset, drawn=bool(settings.num_class_images)):
            if (problem.key, str(problem.value)) not in told:
                told.add((problem.key, str(problem.value)))
                yield problem
    for key in _OUTPUTS:
        text = getattr(settings, key, None) or job.extra.get(key)
        if text and exists(text) and not is_folder(text):
            yield Problem(key, text, "it is a file; give a folder")


def _of_subset(subset: Subset, drawn: bool) -> Iterator[Problem]:
    """`drawn`: a folder of class pictures may be missing, since the run draws them."""
    if subset.num_repeats < 1:
        return
    if subset.image_dir and not (subset.is_reg and drawn and not exists(subset.image_dir)):
        yield from _folder("image_dir", subset.image_dir)
    if subset.conditioning_data_dir:
        yield from _folder("conditioning_data_dir", subset.conditioning_data_dir)
    if subset.metadata_file:
        yield from _file("metadata_file", subset.metadata_file)


def _wrong_on_a_command_line(job: JobConfig) -> Iterator[Problem]:
    settings = job.settings
    if settings.resume:
        allowed = why_no_run(settings.resume)
        if allowed:
            yield Problem("resume", settings.resume, allowed)


def why_no_run(text: str) -> str | None:
    """Why a run cannot be resumed from this path, as a clause; None for the folder of a run of ours."""
    folder = expanded(text)
    if not exists(text):
        return "there is no such folder; give the folder of a run, or leave it out to start a new one"
    run = _run_around(folder)
    if is_file(text):
        return f"it is a file; give the folder of the run, {run}" if run else "it is a file; give the folder of a run"
    if _is_run(folder):
        return None
    if run:
        return f"it is a part of a run; give the folder of the run, {run}"
    if any((folder / name).exists() for name in _STATE_OF_KOHYA):
        return (
            "it is a state of sd-scripts, which cannot be read here; give the LoRA that was saved with it as "
            "network_weights, and its step as initial_step"
        )
    inside = sorted(path for path in folder.iterdir() if path.is_dir() and _is_run(path))
    if inside:
        return f"it is the folder around runs; give one of them, such as {inside[-1]}"
    return "there is no run of Atelier in it; give the folder of a run, or leave it out to start a new one"


def _is_run(folder: Path) -> bool:
    """True for the folder of a run, also of one that was killed as it was begun."""
    return (folder / "job.json").is_file() or (folder / "samples").is_dir() or has_state(folder)


def _run_around(path: Path) -> Path | None:
    return next((parent for parent in list(path.parents)[:2] if (parent / "job.json").is_file()), None)


def _file(key: str, text: str) -> Iterator[Problem]:
    if not exists(text):
        yield Problem(key, text, "there is no such file")
    elif not is_file(text):
        yield Problem(key, text, "it is a folder; give a file" if is_folder(text) else "it is no file")


def _folder(key: str, text: str) -> Iterator[Problem]:
    if not exists(text):
        yield Problem(key, text, "there is no such folder")
    elif not is_folder(text):
        yield Problem(key, text, "it is a file; give the folder that it is in")


def _clause(error: AtelierError) -> str:
    return str(error).partition("; ")[2] or str(error)
