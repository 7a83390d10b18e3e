"""Settings that no run of a job alone shows: what a command or a plan makes of two values."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from atelier.cli import train_command
from atelier.cli.shared import headless
from atelier.config.settings.schema import Settings
from atelier.hosts.embedded.host import EmbeddedHost
from atelier.jobs import webhook
from atelier.jobs.record import Record
from atelier.models.family import Flow
from atelier.training.context import noise_process, whole_text_rates
from atelier.training.device.plan import Plan
from atelier.training.memory.request import request_for
from atelier.training.run import Outcome
from atelier.training.trained.whole_model import WholeModel
from tests.support.models_tiny import tiny_configs
from tests.support.models_tiny import tiny_parts as parts_of
from tests.support.training_fakes import run, spoil, tiny_job, tiny_parts, write_pictures

Shown = Callable[[Path, pytest.MonkeyPatch], tuple[Any, Any]]
"""What two values of the setting are seen by, in a folder of its own."""


def _command(key: str, make: Callable[[Path], object], see: Callable[[dict[str, Any]], Any]) -> Shown:
    """What the command train loads and where it trains, for two paths that `make` has made."""

    def shown(root: Path, patch: pytest.MonkeyPatch) -> tuple[Any, Any]:
        write_pictures(root / "pictures", 1)
        (root / "x.toml").write_text(f"train_data_dir = '{root / 'pictures'}'\noutput_name = 'x'\n", encoding="utf-8")
        found = []
        for name in ("one", "two"):
            made: dict[str, Any] = {}
            make(root / name)
            patch.setattr(EmbeddedHost, "load", lambda host, base, made=made: made.update(base=base))
            patch.setattr(
                headless, "run_job",
                lambda job, host, folder, made=made: (made.update(folder=folder), (Outcome("done", 1, None), None))[1],
            )  # fmt: skip
            data = ["--data-dir", str(root / "data")]
            assert train_command.run([str(root / "x.toml"), f"--{key}", str(root / name), *data]) == 0
            found.append(see(made))
        return found[0], found[1]

    return shown


def _run_folder(path: Path) -> None:
    path.mkdir()
    (path / "job.json").write_text("{}", encoding="utf-8")


def _when_diverged(root: Path, patch: pytest.MonkeyPatch) -> tuple[Any, Any]:
    pictures = write_pictures(root / "pictures", 2)
    found = []
    for when in ("stop", "lower"):
        with pytest.MonkeyPatch.context() as inner:
            spoil(inner, 2)
            job = tiny_job(pictures, max_train_steps=3, save_every_n_steps=1, when_diverged=when)
            found.append(run(job, root / when).outcome.state)
    return found[0], found[1]


def _fp8_base(root: Path, patch: pytest.MonkeyPatch) -> tuple[Any, Any]:
    """What a streamed UNet computes, of weights that are kept in 8 bits or not."""
    found = []
    for asked in (False, True):
        parts = tiny_parts()
        request = request_for(Settings(fp8_base=asked), "sd1", tiny_configs("sd1"), (64, 64), 1, "no")
        plan = Plan("no", streamed=True, fp8=request.fp8)
        with torch.no_grad(), plan.applied(parts, torch.device("cpu")):
            out = parts.denoiser(torch.ones(1, 4, 4, 4), torch.tensor([1]), torch.ones(1, 7, 32)).sample
        found.append(out.numpy().tobytes())
    return found[0], found[1]


def _block_lr(root: Path, patch: pytest.MonkeyPatch) -> tuple[Any, Any]:
    found = []
    for rate in ("1e-5", "2e-5"):
        model = WholeModel(parts_of("sdxl"), False, block_lr=",".join([rate] * 23))
        found.append([group["lr"] for group in model.parameter_groups(1e-3, [])])
    return found[0], found[1]


def _learning_rate_te2(root: Path, patch: pytest.MonkeyPatch) -> tuple[Any, Any]:
    """The rate of SDXL's second text encoder."""
    found = []
    for rate in (1e-5, 2e-5):
        settings = Settings(learning_rate_te2=rate, train_text_encoder=True)
        model = WholeModel(parts_of("sdxl"), True)
        groups = model.parameter_groups(settings.learning_rate, whole_text_rates(settings))
        found.append({group["name"]: group["lr"] for group in groups}["text_encoder_2"])
    return found[0], found[1]


def _webhook_url(root: Path, patch: pytest.MonkeyPatch) -> tuple[Any, Any]:
    """Whom the record of a run tells of its end."""
    found: list[Any] = []
    told = threading.Event()
    patch.setattr(webhook, "_tell", lambda url, *_: (found.append(url), told.set()))
    for name in ("one", "two"):
        record = Record.create(root / name, {}, {"name": name})
        webhook.watch(record, name, tiny_job(write_pictures(root / "pictures", 1), webhook_url=f"https://{name}.org"))
        told.clear()
        record.status("done", "Done.")
        assert told.wait(30)
    return found[0], found[1]


def _flow(key: str, one: Any, two: Any, **more: Any) -> Shown:
    """What a step of a flow is trained on: the amounts of noise, what is compared, and how much each counts."""

    def shown(root: Path, patch: pytest.MonkeyPatch) -> tuple[Any, Any]:
        parts = tiny_parts()
        patch.setattr(type(parts.family), "flow", Flow(3.0))
        found = []
        for value in (one, two):
            process = noise_process(Settings(**{**more, key: value}), parts)
            sigma = process.sample_times(8, 256, torch.Generator().manual_seed(1))
            x = torch.arange(8.0)[:, None, None, None]
            compared = process.compared(x, 2 * x, 3 * x, 4 * x, sigma)
            found.append((sigma.tolist(), [tensor.tolist() for tensor in compared], str(process.weights(sigma))))
        return found[0], found[1]

    return shown


ELSEWHERE: dict[str, Shown] = {
    "pretrained_model_name_or_path": _command(
        "pretrained_model_name_or_path", lambda path: path.mkdir(), lambda made: made["base"]
    ),
    "resume": _command("resume", _run_folder, lambda made: made["folder"]),
    "when_diverged": _when_diverged,
    "fp8_base": _fp8_base,
    "block_lr": _block_lr,
    "learning_rate_te2": _learning_rate_te2,
    "webhook_url": _webhook_url,
    "timestep_sampling": _flow("timestep_sampling", "sigmoid", "uniform"),
    "discrete_flow_shift": _flow("discrete_flow_shift", None, 1.0),
    "sigmoid_scale": _flow("sigmoid_scale", 1.0, 2.0),
    "weighting_scheme": _flow("weighting_scheme", "none", "cosmap"),
    "logit_mean": _flow("logit_mean", 0.0, 1.0, timestep_sampling="sigma", weighting_scheme="logit_normal"),
    "logit_std": _flow("logit_std", 1.0, 2.0, timestep_sampling="logsnr"),
    "mode_scale": _flow("mode_scale", 1.29, -0.5, timestep_sampling="sigma", weighting_scheme="mode"),
    "model_prediction_type": _flow("model_prediction_type", "raw", "sigma_scaled"),
}
