"""`run.py train CONFIG.toml`: trains without a browser, on one process or on several that accelerate launched."""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

from atelier.config.errors import AtelierError

EPILOG = """Every setting can be given as --KEY VALUE and wins over the file:
    run.py train my.toml --max_train_steps 400 --output_name my_cat_2
On several GPUs (after one plain start has made the environment):
    .venv/bin/accelerate launch --multi_gpu --num_processes 2 run.py train my.toml"""


def run(arguments: list[str]) -> int:
    """Gives 0 when the run is done or was stopped, 1 when it failed."""
    parser = argparse.ArgumentParser(
        prog="run.py train", description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", help="a training TOML, a GUI preset, or a LoRA file to train like: what import reads")
    parser.add_argument("--dataset_config", help="a dataset TOML, instead of train_data_dir")
    parser.add_argument("--ckpt", help="the base: a checkpoint file or diffusers folder")
    parser.add_argument("--data-dir", default="data", help="folder for LoRAs and runs (default: data)")
    parser.add_argument("--device", help="cpu, cuda, cuda:1 … (default: the first GPU, else the CPU)")
    options, rest = parser.parse_known_args(arguments)
    overrides = pairs(rest)

    from atelier.cli.shared.headless import run_job
    from atelier.config.given_paths import check_base, check_paths, has_state
    from atelier.config.imports.loading import load_job
    from atelier.config.names import check_output_name
    from atelier.hosts.embedded.host import EmbeddedHost

    dataset_config = Path(options.dataset_config) if options.dataset_config else None
    job = load_job(Path(options.config), dataset_config, overrides)
    for note in job.notes:
        print(note, flush=True)
    settings = job.settings
    if not settings.output_name:
        settings.output_name = Path(options.config).stem
    check_output_name(settings.output_name)
    check_paths(job, command_line=True)
    if settings.seed is None:
        settings.seed = 0
    data_dir = Path(options.data_dir).expanduser()
    base = options.ckpt or settings.pretrained_model_name_or_path
    check_base(base, data_dir / "models")
    host = EmbeddedHost(data_dir, device=options.device or own_gpu())
    host.load(base) if base else host.load_default()
    resume = Path(settings.resume).expanduser() if settings.resume else None
    if resume is not None and not has_state(resume):
        print(f"The run in {resume} was ended before its first state was saved, so it starts from its beginning.")
    folder = resume or host.folders.runs / f"{time.strftime('%Y%m%d-%H%M%S')}-{settings.output_name}"
    outcome, _ = run_job(job, host, folder)
    return 1 if outcome.state == "diverged" else 0


def own_gpu() -> str | None:
    """The GPU of this process, one of several that accelerate launched; None where the host chooses."""
    import torch

    rank = os.environ.get("LOCAL_RANK")
    return f"cuda:{rank}" if rank is not None and torch.cuda.is_available() else None


def pairs(arguments: list[str]) -> dict[str, str | list[str]]:
    """["--a", "1", "2", "--b", "x", "--flag"] -> {"a": ["1", "2"], "b": "x", "flag": "true"}.

    Raises `AtelierError` for a value without a key.
    """
    found: dict[str, list[str]] = {}
    key = None
    for argument in arguments:
        if argument.startswith("--") and len(argument) > 2 and not argument[2].isspace():
            name, equals, value = argument[2:].partition("=")
            key = name
            found[key] = [value] if equals else []
        elif key is None:
            raise AtelierError(f"{argument!r} does not belong to a --KEY.")
        else:
            found[key].append(argument)
    return {key: values if len(values) > 1 else "".join(values) if values else "true" for key, values in found.items()}
