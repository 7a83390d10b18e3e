"""The prediction of memory against what the operating system counts, and the savings that a plan chooses."""

from __future__ import annotations

import functools
import json
import logging
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from atelier.config.errors import AtelierError
from atelier.training.device.savings import MemorySavings
from atelier.training.memory import for_run
from atelier.training.memory.plan import make_memory_plan, needs, size
from atelier.training.memory.prediction import Prediction, predict
from atelier.training.memory.request import Request
from atelier.training.memory.tracking import LiveBytes
from tests.support.training_fakes import MemoryRecord, run, tiny_job, write_pictures
from tests.support.training_memory_models import pictures_to_measure, request_to_measure

MB = 1 << 20


CASES = [
    ("off", "16"), ("on", "128"), ("off", "16", "algo=lora", "dora_wd=True"), ("off", "16", "algo=lokr"),
    ("on", "16", "whole"),
]  # fmt: skip


@pytest.fixture(scope="module")
def peaks() -> dict[tuple[str, ...], dict[str, int]]:
    """The peaks of `CASES` in processes of their own, which share no counting with the prediction."""
    root = Path(__file__).resolve().parents[3]
    victim = root / "tests" / "support" / "training_memory_victim.py"
    # glibc would keep freed blocks for later; as mappings they go back, and the peak is what was alive.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(victim), json.dumps(CASES)],
        env={**environment, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return dict(zip(CASES, map(json.loads, done.stdout.splitlines()), strict=True))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peaks are reset by Linux' clear_refs")
@pytest.mark.parametrize("case_", CASES, ids="-".join)
def test_prediction_is_within_15_percent_of_the_measured_peak(
    case_: tuple[str, ...], peaks: dict[tuple[str, ...], dict[str, int]]
) -> None:
    found = peaks[case_]
    assert abs(found["predicted"] / found["measured"] - 1) < 0.15, found
    # A prediction of the weights alone would not do.
    assert found["predicted"] > 1.3 * found["base"]


worked_out = functools.cache(predict)
"""Predictions, each worked out once: a few seconds."""


@pytest.fixture(scope="module")
def request_(tmp_path_factory: pytest.TempPathFactory) -> Request:
    folder = tmp_path_factory.mktemp("memory") / "pictures"
    pictures_to_measure(folder)
    return request_to_measure(tiny_job(folder, network_dim=8, train_batch_size=4, network_train_unet_only=True))


@pytest.mark.slow
def test_what_a_step_needs_follows_its_settings(request_: Request) -> None:
    plain = worked_out(request_)
    assert worked_out(replace(request_, gradient_checkpointing=True)).activations < 0.6 * plain.activations
    assert worked_out(replace(request_, micro_batches=4)).activations < 0.5 * plain.activations
    assert worked_out(replace(request_, width=128)).activations < 0.7 * plain.activations
    half = worked_out(replace(request_, base_dtype="float16", autocast="float16", device="cuda"))
    assert half.base < 0.6 * plain.base and half.activations < plain.activations
    # Weights of another precision than autocast's are copied for the step.
    mixed = worked_out(replace(request_, base_dtype="float16", autocast="bfloat16", device="cuda"))
    assert mixed.activations > half.activations + 0.7 * half.base * 0.8
    whole = worked_out(replace(request_, whole_model=True))
    assert whole.trained > 10 * plain.trained and whole.optimizer == pytest.approx(2 * whole.trained, rel=0.01)
    assert whole.borrowed == 0 and plain.borrowed == plain.base


@pytest.mark.slow
@pytest.mark.parametrize("kind", [["algo=lora", "dora_wd=True"], ["algo=loha"], ["algo=lokr"], ["algo=diag-oft"]])
def test_a_kind_that_computes_whole_weights_keeps_them(request_: Request, kind: list[str]) -> None:
    settings = {**json.loads(request_.settings), "network_module": "lycoris.kohya", "network_args": kind}
    found = worked_out(replace(request_, settings=json.dumps(settings)))
    plain = worked_out(request_)
    assert found.activations > plain.activations + 0.5 * plain.base


@pytest.mark.slow
def test_what_a_whole_model_saves(request_: Request) -> None:
    """A step inside the backward pass never holds all gradients; bf16 weights need half, their moments stay float32."""
    whole = replace(request_, whole_model=True, trains_text=False, gradient_checkpointing=True)

    def with_settings(**changes: object) -> Prediction:
        settings = json.dumps({**json.loads(whole.settings), **changes}, sort_keys=True)
        base = "bfloat16" if changes.get("full_bf16") else "float32"
        return worked_out(replace(whole, settings=settings, base_dtype=base))

    plain, fused = with_settings(), with_settings(fused_backward_pass=True)
    assert plain.gradients == plain.trained and fused.gradients < 0.2 * plain.trained
    assert fused.step < plain.step - 0.5 * plain.trained and fused.update < plain.update
    asked = json.dumps({**json.loads(whole.settings), "fused_backward_pass": True})
    assert worked_out(replace(whole, settings=asked, micro_batches=2)).gradients == plain.gradients
    half = with_settings(full_bf16=True)
    assert half.trained == pytest.approx(plain.trained / 2) and half.optimizer == pytest.approx(plain.optimizer)
    # Adafactor reads what it computes, as fake tensors do not allow: it keeps a row and a column of means.
    assert worked_out(replace(whole, optimizer="AdaFactor")).optimizer < 0.1 * plain.optimizer


def test_live_bytes_follow_real_tensors() -> None:
    with LiveBytes() as live:
        first = torch.zeros(1000)
        assert live.now == 4000
        view = first[:10]
        del first
        assert live.now == 4000
        del view
        assert live.now == 0 and live.peak == 4000


def predicted(request: Request) -> Prediction:
    """A model of 2 GB whose step needs 800 MB a picture, a quarter with checkpointing, beside 100 MB of weights."""
    activations = 800 * MB * request.rows // (4 if request.gradient_checkpointing else 1)
    optimizer = (10 if "8bit" in request.optimizer else 40) * MB
    resting = 300 * MB if request.text_and_vae_off else 0
    step = 2000 * MB + 100 * MB + optimizer + activations - resting
    borrowed = 0 if request.whole_model else 2000 * MB
    return Prediction(2000 * MB, 300 * MB, borrowed, 50 * MB, 50 * MB, optimizer, activations, 0, 0, step, 0)


def case(**changes: object) -> Request:
    return replace(Request("sd1", "{}", 512, 512, 4, "{}", device="cuda"), **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("free", "checkpointing", "micro_batches", "optimizer"),
    [
        (4000, False, 1, "AdamW"),
        (1100, True, 1, "AdamW"),
        (650, True, 2, "AdamW"),
        (380, True, 4, "AdamW"),
        (10, True, 4, "AdamW"),  # 8-bit states save an adapter next to nothing: see test_gpu_requests
    ],
)
def test_the_fewest_savers_that_fit(free: int, checkpointing: bool, micro_batches: int, optimizer: str) -> None:
    plan = make_memory_plan(case(), free * MB, predicted, eight_bit=True)
    chosen = (plan.request.gradient_checkpointing, plan.request.micro_batches, plan.request.optimizer)
    assert chosen == (checkpointing, micro_batches, optimizer)
    assert len(plan.notes) == checkpointing + (micro_batches > 1) + (optimizer != "AdamW")
    assert plan.fits == (free > 10) and ("may not be enough" in plan.sentences()[-1]) == (free == 10)
    assert plan.sentences()[0].endswith(f"{size(free * MB)} are free.")
    savings = plan.savings()
    assert (savings.micro_batches, savings.optimizer) == (micro_batches, "" if optimizer == "AdamW" else optimizer)


def test_only_a_model_of_its_own_can_rest() -> None:
    free = int(2700 * MB * 1.1)
    assert make_memory_plan(case(batch=1, whole_model=True), free, predicted, True).request.text_and_vae_off
    for other in (case(batch=1, device="cpu", whole_model=True), case(batch=1)):
        assert not make_memory_plan(other, free, predicted, True).request.text_and_vae_off


def test_no_saver_that_cannot_be_had() -> None:
    assert make_memory_plan(case(), 10 * MB, predicted, eight_bit=False).request.optimizer == "AdamW"
    assert make_memory_plan(case(device="cpu"), 10 * MB, predicted, eight_bit=True).request.optimizer == "AdamW"
    assert make_memory_plan(case(optimizer="Prodigy"), 10 * MB, predicted, True).request.optimizer == "Prodigy"
    assert make_memory_plan(case(divisible=False), 10 * MB, predicted, True).request.micro_batches == 1


@pytest.mark.parametrize(
    ("device", "checkpointing", "share"),
    [("cuda", False, 1.1), ("cuda", True, 1.1), ("cpu", False, 1.4), ("cpu", True, 1.6)],
)
def test_a_plan_has_a_share_in_hand(device: str, checkpointing: bool, share: float) -> None:
    plan = make_memory_plan(case(batch=1, device=device, gradient_checkpointing=checkpointing), 10**12, predicted)
    extra = plan.prediction.extra
    assert plan.needs(None) == pytest.approx(extra * share, abs=1) and extra > 100 * MB
    assert needs(plan.prediction) == int(extra * 1.1)
    just, short = (replace(plan, free=round(extra * share) + more) for more in (1, -2))
    assert just.fits and not short.fits


def test_savers_are_taken_in_order_and_outlast_a_restart(tmp_path: Path) -> None:
    savings = MemorySavings(largest_batch=3, can_rest=True)
    taken = []
    while savings.take_next():
        taken.append((savings.text_and_vae_off, savings.gradient_checkpointing, savings.micro_batches))
    assert taken == [(True, False, 1), (True, True, 1), (True, True, 2), (True, True, 3)]
    assert len(savings.notes) == 4
    savings.keep(tmp_path)
    again = MemorySavings()
    assert again.recall(tmp_path) and (again.micro_batches, again.gradient_checkpointing) == (3, True)
    (tmp_path / "savers.json").write_text('{"pieces": 2')
    damaged = MemorySavings()
    assert not damaged.recall(tmp_path) and damaged.micro_batches == 1


def test_all_that_was_turned_on_outlasts_a_restart(tmp_path: Path) -> None:
    """And what is possible does not: that is found anew on each device."""
    savings = MemorySavings(True, True, 3, "AdamW8bit", streamed=True, fp8=True, largest_batch=4, can_stream=True)
    savings.keep(tmp_path)
    again = MemorySavings()
    assert again.recall(tmp_path)
    assert again == MemorySavings(True, True, 3, "AdamW8bit", streamed=True, fp8=True, known=True)
    kept = json.loads((tmp_path / "savers.json").read_text(encoding="utf-8"))
    assert kept == {
        "text_and_vae_off": True, "gradient_checkpointing": True, "pieces": 3, "optimizer": "AdamW8bit",
        "streamed": True, "fp8": True,
    }  # fmt: skip


@pytest.mark.parametrize("written", ['{"pieces": 2}', "[]", '{"pieces": "many"}', "null", None])
def test_savings_that_cannot_be_read_change_nothing(written: str | None, tmp_path: Path) -> None:
    if written is not None:
        MemorySavings(micro_batches=4).keep(tmp_path)
        whole = json.loads((tmp_path / "savers.json").read_text(encoding="utf-8"))
        found = json.loads(written)
        if found == {"pieces": "many"}:
            written = json.dumps({**whole, **found})
        (tmp_path / "savers.json").write_text(written, encoding="utf-8")
    savings = MemorySavings()
    assert not savings.recall(tmp_path) and savings == MemorySavings()


def test_the_last_saver_is_a_streamed_base() -> None:
    savings = MemorySavings(gradient_checkpointing=True, can_stream=True)
    assert savings.take_next() and savings.streamed and not savings.take_next()


@pytest.mark.parametrize("algo", ["loha", "lokr", "ia3", "diag-oft"])
def test_the_kinds_of_lycoris_are_predicted(algo: str, tmp_path: Path) -> None:
    record = MemoryRecord(tmp_path / "record")
    job = tiny_job(
        write_pictures(tmp_path / "pictures", 1), max_train_steps=1, network_module="lycoris.kohya",
        network_args=[f"algo={algo}"],
    )  # fmt: skip
    run(job, tmp_path, record=record)
    assert any("needs about" in text for _, text in record.messages), record.messages


# -- when it cannot be predicted ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [AtelierError("block_dims has 3 numbers"), RuntimeError("the library broke")])
def test_a_prediction_that_fails_puts_no_traceback_on_the_terminal(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What is wrong with the settings is told by the run itself, and only once."""

    def fail(*arguments: object, **named: object) -> None:
        raise error

    monkeypatch.setattr(for_run, "_plan_on", fail)
    done = run(tiny_job(write_pictures(tmp_path / "own", 2), max_train_steps=1), tmp_path)
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
    told = [text for level, text in done.record.messages if level != "log" and str(error) in text]
    logged = [text for level, text in done.record.messages if level == "log"]
    if isinstance(error, AtelierError):
        assert told == [] and logged == []
    else:
        assert told == ["The memory that this run needs could not be predicted: the library broke"]
        assert len(logged) == 1 and "Traceback" in logged[0]
