"""What was learnt stays: after damage, spoilt weights, full memory in the update, two trainers and signals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from atelier.cli.shared.headless import PrintingRecord, run_job
from atelier.config.errors import AtelierError
from atelier.jobs.files import read_json, write_json
from atelier.jobs.lock import FolderLock
from atelier.models.checkpoints.save import save_checkpoint
from atelier.training import batch_losses as losses_module
from atelier.training.memory import for_run as memory_run
from atelier.training.optim.stepper import Stepper
from atelier.training.progress.state import pack, read_newest, unpack
from tests.support.training_fakes import (
    MemoryRecord,
    Run,
    TinyHost,
    assert_same,
    run,
    tiny_job,
    tiny_parts,
    write_pictures,
)

STEPS = 6
PLAIN: dict[str, Any] = {"max_train_steps": STEPS, "save_every_n_steps": 2, "network_train_unet_only": True}
FREE: dict[str, Any] = {"max_train_steps": STEPS, "optimizer_type": "AdamWScheduleFree"}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("pictures"), 4)


def again(first: Run, pictures: Path, root: Path, **settings: Any) -> Run:
    """The same run in a new process's memory."""
    record = MemoryRecord(first.record.folder)
    record.saves = list(first.record.saves)
    return run(tiny_job(pictures, **settings), root, record=record)


def stopped_at(step: int) -> Any:
    return lambda number, control: control.stop() if number == step else None


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-100] ^= 0xFF
    path.write_bytes(bytes(content))


# -- states ------------------------------------------------------------------------------------------------------------


def test_two_damaged_states_do_not_cost_those_that_follow(pictures: Path, tmp_path: Path) -> None:
    straight = run(tiny_job(pictures, **PLAIN), tmp_path / "straight")
    first = run(tiny_job(pictures, **PLAIN), tmp_path, stopped_at(5))
    states = first.record.folder / "state"
    assert sorted(path.stem for path in states.iterdir()) == ["000000004", "000000005"]
    for path in list(states.iterdir()):
        damage(path)
    second = run(tiny_job(pictures, **PLAIN), tmp_path, stopped_at(3), record=MemoryRecord(first.record.folder))
    assert [row[0] for row in second.record.rows] == [1, 2, 3]
    assert second.record.told("is damaged, so it starts again from its beginning")
    assert sorted(path.stem for path in states.glob("*.safetensors")) == ["000000002", "000000003"]
    assert len(list(states.glob("*.damaged"))) == 2
    third = again(second, pictures, tmp_path, **PLAIN)
    assert third.record.told("Going on from step 3.")
    assert_same(third.tensors, straight.tensors)


def test_the_good_one_of_two_stays_until_there_are_two_newer(pictures: Path, tmp_path: Path) -> None:
    first = run(tiny_job(pictures, **PLAIN), tmp_path, stopped_at(5))
    states = first.record.folder / "state"
    damage(states / "000000005.safetensors")
    again(first, pictures, tmp_path, **{**PLAIN, "save_every_n_steps": None, "max_train_steps": 5})
    assert sorted(path.stem for path in states.glob("*.safetensors")) == ["000000004", "000000005"]
    newest = read_newest(states)
    assert newest is not None and newest.step == 5


def test_memory_that_runs_out_in_the_update_costs_the_steps_since_the_last_state(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight = run(tiny_job(pictures, **PLAIN), tmp_path / "straight")
    step, calls = torch.optim.AdamW.step, {"count": 0}

    def full(self: Any, *arguments: Any) -> Any:
        calls["count"] += 1
        if calls["count"] == 6:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return step(self, *arguments)

    monkeypatch.setattr(torch.optim.AdamW, "step", full)
    done = run(tiny_job(pictures, **PLAIN), tmp_path)
    assert calls["count"] == STEPS + 2  # step 5, after the state at step 4, and step 6 were taken again
    assert_same(done.tensors, straight.tensors)


# -- what else is saved ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ema_save", ["instead", "beside"])
def test_an_average_is_not_spoilt_by_a_loss_that_is_no_number(
    ema_save: str, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses, calls = losses_module.diffusion_losses, {"count": 0}

    def broken(*arguments: Any) -> Any:
        calls["count"] += 1
        return losses(*arguments) * (float("nan") if calls["count"] == 4 else 1.0)

    monkeypatch.setattr(losses_module, "diffusion_losses", broken)
    asked = {**PLAIN, "save_every_n_steps": None, "ema_decay": 0.9, "ema_save": ema_save}
    done = run(tiny_job(pictures, **asked), tmp_path / "broken")
    assert (done.outcome.state, done.outcome.steps) == ("diverged", 3)
    assert all(bool(torch.isfinite(tensor).all()) for tensor in done.tensors.values())
    monkeypatch.undo()
    stopped = run(tiny_job(pictures, **asked), tmp_path / "stopped", stopped_at(3))
    assert_same(done.tensors, stopped.tensors)


def test_a_schedule_free_optimiser_s_own_weights_are_saved(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of eval(), also at the end, when the optimiser has gone; saving and drawing change nothing."""
    pytest.importorskip("schedulefree")
    kept: list[dict[str, torch.Tensor]] = []
    finish = Stepper.finish

    def watched(self: Stepper, step: int) -> None:
        finish(self, step)
        with self.as_used():
            kept.append({str(number): p.detach().clone() for number, p in enumerate(self.parameters)})

    monkeypatch.setattr(Stepper, "finish", watched)
    drawn = {"save_every_n_steps": 1, "sample_every_n_steps": 2, "sample_prompts": "a --s 1 --w 32 --h 32"}
    busy = run(tiny_job(pictures, **FREE, **drawn), tmp_path / "busy")
    monkeypatch.setattr(Stepper, "finish", finish)
    quiet = run(tiny_job(pictures, **FREE), tmp_path / "quiet")
    assert_same(busy.tensors, quiet.tensors)
    used = {tensor.flatten().numpy().tobytes() for tensor in kept[-1].values()}
    saved = [tensor for name, tensor in quiet.tensors.items() if not name.endswith("alpha")]
    assert saved and all(tensor.float().flatten().numpy().tobytes() in used for tensor in saved)
    first = run(tiny_job(pictures, **FREE), tmp_path / "resumed", stopped_at(4))
    assert_same(again(first, pictures, tmp_path / "resumed", **FREE).tensors, quiet.tensors)
    state = read_newest(first.record.folder / "state")
    trained = {tensor.flatten().numpy().tobytes() for tensor in (state.tensors if state else {}).values()}
    stopped = [tensor for name, tensor in first.tensors.items() if not name.endswith("alpha")]
    assert not any(tensor.float().flatten().numpy().tobytes() in trained for tensor in stopped)


def test_a_loss_scaler_survives_in_a_state() -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0) if hasattr(torch, "amp") else None
    if scaler is None or not scaler.is_enabled():
        pytest.skip("this torch has no scaler on a processor")
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.SGD([weight], lr=0.1)
    scaler.scale(weight.sum() * float("inf")).backward()
    scaler.step(optimizer)
    scaler.update()
    tensors: dict[str, torch.Tensor] = {}
    values = pack(scaler.state_dict(), "scaler", tensors)
    other = torch.amp.GradScaler("cpu", init_scale=2.0)
    other.load_state_dict(unpack(values, tensors))
    assert other.state_dict() == scaler.state_dict() and other.get_scale() == 512.0


# -- going on with something else --------------------------------------------------------------------------------------


def test_another_optimiser_is_refused(pictures: Path, tmp_path: Path) -> None:
    first = run(tiny_job(pictures, **PLAIN), tmp_path, stopped_at(3))
    with pytest.raises(AtelierError, match="started with the optimizer adamw"):
        again(first, pictures, tmp_path, **PLAIN, optimizer_type="Lion")
    assert read_newest(first.record.folder / "state") is not None


@pytest.mark.parametrize(
    ("changed", "told"),
    [({"learning_rate": 1e-3}, "learning rates stay"), ({"seed": 8}, "The seed differs"), ({}, "")],
)
def test_other_settings_are_told(changed: dict[str, Any], told: str, pictures: Path, tmp_path: Path) -> None:
    first = run(tiny_job(pictures, **PLAIN), tmp_path, stopped_at(3))
    second = again(first, pictures, tmp_path, **{**PLAIN, **changed})
    warnings = [text for level, text in second.record.messages if level == "warning"]
    assert [told in text for text in warnings] == [True] * bool(told)


def test_other_pictures_are_told(tmp_path: Path) -> None:
    own = write_pictures(tmp_path / "own", 4)
    first = run(tiny_job(own, **PLAIN), tmp_path, stopped_at(3))
    (own / "picture3.png").unlink()
    assert again(first, own, tmp_path, **PLAIN).record.told("The pictures differ from those of the run's start")


# -- without a page ----------------------------------------------------------------------------------------------------


def test_a_run_is_trained_by_one_process_at_a_time(pictures: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    lock = FolderLock(folder)
    assert lock.acquire()
    try:
        with pytest.raises(AtelierError, match="trained by another process"):
            run_job(tiny_job(pictures, **PLAIN), TinyHost(tmp_path), folder)
    finally:
        lock.release()


def test_a_record_of_a_newer_version_is_left_alone(pictures: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    PrintingRecord.create(folder, {})
    write_json(folder / "job.json", {**read_json(folder / "job.json", {}), "version": 99})
    before = sorted(path.name for path in folder.rglob("*"))
    with pytest.raises(AtelierError, match="newer version"):
        run_job(tiny_job(pictures, **PLAIN), TinyHost(tmp_path), folder)
    assert [name for name in sorted(path.name for path in folder.rglob("*")) if name != ".lock"] == before


def test_a_terminal_that_was_closed_ends_no_run(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Closed:
        def write(self, text: str) -> int:
            raise BrokenPipeError

        def flush(self) -> None:
            raise BrokenPipeError

    from tests.support.training_fakes import predicts_nothing

    monkeypatch.setattr(memory_run, "remembering", predicts_nothing)
    monkeypatch.setattr(sys, "stdout", Closed())
    outcome, record = run_job(tiny_job(pictures, **PLAIN), TinyHost(tmp_path), tmp_path / "run")
    assert (outcome.state, record.state) == ("done", "done")


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM to send")
def test_sigterm_keeps_the_last_step(pictures: Path, tmp_path: Path, root: Path) -> None:
    """In a process of its own: after a loss was told the signal comes, and the run goes on from there later."""
    save_checkpoint(tmp_path / "base", tiny_parts(), format="diffusers")
    asked = tmp_path / "asked.toml"
    asked.write_text(
        f"output_name = 'tiny'\nresolution = '32'\nmin_bucket_reso = 32\nbucket_reso_steps = 8\nnetwork_dim = 2\n"
        f"train_data_dir = '{pictures.as_posix()}'\nmax_train_steps = 100000\nmixed_precision = 'no'\nseed = 3\n",
        encoding="utf-8",
    )
    data = ["--device", "cpu", "--data-dir", str(tmp_path / "data")]
    words = ["train", str(asked), "--ckpt", str(tmp_path / "base"), *data]
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "atelier.cli", *words], stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(root / "lib"), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("step "):
            break
    process.send_signal(signal.SIGTERM)
    rest = process.stdout.read()
    assert process.wait(60) == 0, rest
    [states] = (tmp_path / "data" / "runs").glob("*/state")
    state = read_newest(states)
    assert state is not None and f"Stopped after step {state.step}" in rest


SERVED = """
import os, signal, sys
from pathlib import Path
from atelier.hosts.embedded.host import EmbeddedHost
from atelier.hosts.embedded.server import serve

root = Path(sys.argv[1])
serve(
    EmbeddedHost(root / "data", device="cpu", demo_base=None), port=0,
    on_ready=lambda url: os.kill(os.getpid(), signal.SIGTERM), on_end=lambda: (root / "ended").touch(),
)
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM to send")
def test_sigterm_lets_the_embedded_webui_keep_its_run(tmp_path: Path, root: Path) -> None:
    """uvicorn raises the signal again, so that nothing after it is reached: the run is closed before."""
    done = subprocess.run(
        [sys.executable, "-c", SERVED, str(tmp_path)], capture_output=True, text=True, timeout=120, check=False,
        env={**os.environ, "PYTHONPATH": str(root / "lib")},
    )  # fmt: skip
    assert (tmp_path / "ended").exists(), done.stderr
