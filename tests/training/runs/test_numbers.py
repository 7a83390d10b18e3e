"""Losses that are no numbers, and devices that run out of memory: back to the last good weights, or on with less."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from atelier.config.errors import AtelierError
from atelier.training import batch_losses as losses_module
from atelier.training.optim.rates import TRIES
from atelier.training.progress.state import read_newest
from tests.support.training_fakes import MemoryRecord, Run, assert_same, run, spoil, tiny_job, write_pictures

pytestmark = pytest.mark.slow

STEPS = 6
SETTINGS: dict[str, Any] = {
    "max_train_steps": STEPS, "network_dropout": 0.3, "noise_offset": 0.1, "save_every_n_steps": 2, "flip_aug": True,
}  # fmt: skip


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("originals"), 4)


@pytest.fixture(scope="module")
def straight(originals: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run(tiny_job(originals, **SETTINGS), tmp_path_factory.mktemp("straight"))


def again(first: MemoryRecord, pictures: Path, root: Path, **settings: Any) -> Run:
    """Another run over the same record, with nothing in its way."""
    record = MemoryRecord(first.folder)
    record.saves = list(first.saves)
    return run(tiny_job(pictures, **{**SETTINGS, **settings}), root, record=record)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("at_step", [1, 4])
def test_a_loss_that_is_no_number(
    value: float, at_step: int, originals: Path, straight: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(monkeypatch, at_step, value)
    done = run(tiny_job(originals, **SETTINGS), tmp_path)
    good = at_step - 1
    assert (done.outcome.state, done.outcome.steps) == ("diverged", good)
    assert done.record.statuses[-1][0] == "failed" and "lower learning rate" in done.record.statuses[-1][1]
    state = read_newest(done.record.folder / "state")
    assert (state.step if state else 0) == good // 2 * 2
    assert all(bool(torch.isfinite(tensor).all()) for tensor in (state.tensors if state else {}).values())
    if good:
        stopped = run(
            tiny_job(originals, **SETTINGS), tmp_path / "stopped", lambda n, c: c.stop() if n == good else None
        )
        assert_same(done.tensors, stopped.tensors)
    else:
        assert done.outcome.path is None and done.files == []
    assert_same(again(done.record, originals, tmp_path).tensors, straight.tensors)


@pytest.mark.parametrize("at_step", [2, 4, 6])
def test_a_loss_that_is_no_number_among_several_read_at_once(
    at_step: int, originals: Path, straight: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Back to the weights after the last losses that were all numbers, and to the losses until there."""
    settings = {**SETTINGS, "save_every_n_steps": None}
    spoil(monkeypatch, at_step)
    done = run(tiny_job(originals, **settings), tmp_path, losses_at_once=3)
    good = (at_step - 1) // 3 * 3
    assert (done.outcome.state, done.outcome.steps) == ("diverged", good)
    monkeypatch.undo()
    if good:
        stopped = run(
            tiny_job(originals, **settings), tmp_path / "stopped", lambda n, c: c.stop() if n == good else None
        )
        assert_same(done.tensors, stopped.tensors)
    resumed = again(done.record, originals, tmp_path, save_every_n_steps=None)
    assert_same(resumed.tensors, straight.tensors)


@pytest.mark.parametrize("when", ["stop", "lower"])
def test_a_whole_model_whose_loss_is_no_number(
    when: str, originals: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No second copy of it is kept: its last state is what there is to go back to, and no file is made of the rest."""
    whole = {**SETTINGS, "train_whole_model": True, "learning_rate": 1e-3, "when_diverged": when}
    plain = run(tiny_job(originals, **whole), tmp_path / "plain")
    spoil(monkeypatch, 4)
    done = run(tiny_job(originals, **whole), tmp_path / "run")
    monkeypatch.undo()
    saved = sorted(path.stem for path in done.host.folders.checkpoints.iterdir())
    if when == "lower":
        assert (done.outcome.state, done.outcome.steps) == ("done", STEPS)
        assert done.record.told("back to step 2, with half the learning rate")
        assert saved == ["tiny", "tiny-step00000002", "tiny-step00000004"]
        return
    assert done.outcome.state == "diverged" and saved == ["tiny-step00000002"]
    state = read_newest(done.record.folder / "state")
    assert state is not None and state.step == 2
    resumed = again(done.record, originals, tmp_path / "run", **whole)
    assert resumed.outcome.path is not None and plain.outcome.path is not None
    assert_same(load_file(resumed.outcome.path), load_file(plain.outcome.path))


@pytest.mark.parametrize("at_step", [1, 4])
def test_a_loss_that_is_no_number_and_a_lower_rate(
    at_step: int, originals: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the last good state on with half the rate, as a run does that was stopped there and resumed so."""
    calls = spoil(monkeypatch, at_step)
    done = run(tiny_job(originals, **SETTINGS, when_diverged="lower", lr_scheduler="cosine"), tmp_path)
    good = (at_step - 1) // 2 * 2
    assert (done.outcome.state, done.outcome.steps) == ("done", STEPS)
    assert done.record.told(f"back to step {good}, with half the learning rate")
    assert calls["count"] == at_step + STEPS - good
    monkeypatch.undo()
    plain = run(tiny_job(originals, **SETTINGS, lr_scheduler="cosine"), tmp_path / "plain")
    rates = {row[0]: row[2]["unet"] for row in plain.record.rows}
    for step, _, found in done.record.rows[good:]:
        assert found["unet"] == pytest.approx(rates[step] / 2)
    for name, tensor in done.tensors.items():
        assert bool(torch.isfinite(tensor).all()), name


def test_a_lower_rate_outlasts_a_pause_and_a_restart(
    originals: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = spoil(monkeypatch, 4)
    settings = {**SETTINGS, "when_diverged": "lower"}
    straight = run(tiny_job(originals, **settings), tmp_path / "straight")
    calls["count"] = 0
    first = run(tiny_job(originals, **settings), tmp_path, lambda n, c: c.stop() if calls["count"] == 6 else None)
    record = MemoryRecord(first.record.folder)
    record.saves = list(first.record.saves)
    second = run(tiny_job(originals, **settings), tmp_path, record=record)
    assert [row[0] for row in second.record.rows] == [5, 6]
    assert_same(second.tensors, straight.tensors)


def test_lower_rates_do_not_help(originals: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    losses = losses_module.diffusion_losses
    monkeypatch.setattr(losses_module, "diffusion_losses", lambda *given: losses(*given) * float("nan"))
    done = run(tiny_job(originals, **SETTINGS, when_diverged="lower"), tmp_path)
    assert (done.outcome.state, done.outcome.steps) == ("diverged", 0)
    assert sum("half the learning rate" in text for _, text in done.record.messages) == TRIES


def out_of_memory() -> list[BaseException]:
    return [
        torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ]


@pytest.mark.parametrize("error", out_of_memory(), ids=["GPU", "Python", "processor", "cuBLAS"])
@pytest.mark.parametrize("losses_at_once", [1, 10])
def test_out_of_memory(
    error: BaseException,
    losses_at_once: int,
    originals: Path,
    straight: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = {"count": 0}
    losses = losses_module.diffusion_losses

    def full(*arguments: Any) -> Any:
        calls["count"] += 1
        if calls["count"] == 4:
            raise error
        return losses(*arguments)

    monkeypatch.setattr(losses_module, "diffusion_losses", full)
    done = run(tiny_job(originals, **SETTINGS), tmp_path, losses_at_once=losses_at_once)
    assert calls["count"] == STEPS + 1
    assert done.record.told("gradient checkpointing is now on") and done.record.told("The step is repeated")
    assert [row[0] for row in done.record.rows] == list(range(1, STEPS + 1))
    assert_same(done.tensors, straight.tensors)


def test_out_of_memory_again_and_again(originals: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: Any) -> Any:
        raise out_of_memory()[0]

    monkeypatch.setattr(losses_module, "diffusion_losses", full)
    with pytest.raises(AtelierError, match="gradient checkpointing, a batch in parts.*a smaller resolution or rank"):
        run(tiny_job(originals, **SETTINGS), tmp_path)


def test_out_of_memory_of_another_kind_of_error_is_not_hidden(
    originals: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(*arguments: Any) -> Any:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(losses_module, "diffusion_losses", wrong)
    with pytest.raises(RuntimeError, match="mat1"):
        run(tiny_job(originals, **SETTINGS), tmp_path)


def test_out_of_memory_within_the_update(
    originals: Path, straight: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some weights may have taken the step already: training goes back to the last whole state."""
    step, calls = torch.optim.AdamW.step, {"count": 0}

    def full(self: Any, *arguments: Any) -> Any:
        calls["count"] += 1
        if calls["count"] == 4:
            with torch.no_grad():
                for group in self.param_groups:
                    group["params"][0].add_(1.0)
            raise out_of_memory()[0]
        return step(self, *arguments)

    monkeypatch.setattr(torch.optim.AdamW, "step", full)
    done = run(tiny_job(originals, **SETTINGS), tmp_path)
    assert_same(done.tensors, straight.tensors)
    assert done.record.told("Training goes on from step 2, the last saved state.")


@pytest.mark.parametrize("module", ["networks.lora", "lycoris.kohya"])
def test_a_step_in_which_every_layer_is_left_out(module: str, originals: Path, tmp_path: Path) -> None:
    """module_dropout can hit all of a small adapter: a step without gradients, not an error."""
    arguments = ["module_dropout=0.99999"]
    if module != "networks.lora":
        pytest.importorskip("lycoris")
        arguments.append("algo=loha")
    done = run(tiny_job(originals, max_train_steps=2, network_module=module, network_args=arguments), tmp_path)
    assert (done.outcome.state, done.outcome.steps) == ("done", 2)
    starts = [tensor for name, tensor in done.tensors.items() if name.endswith(("lora_up.weight", "hada_w2_a"))]
    assert starts and all(not tensor.any() for tensor in starts)
