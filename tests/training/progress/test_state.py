"""The state on disk: whole, checked, the last two kept, and nothing that runs code in it."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import pytest
import torch

from atelier.config.errors import AtelierError
from atelier.training.optim import schedulers
from atelier.training.optim.optimizers import create_optimizer
from atelier.training.optim.schedulers import ScheduleOptions, create_scheduler
from atelier.training.progress import state as state_module
from atelier.training.progress.state import State, pack, read_newest, unpack, write_state


def some_state(step: int) -> State:
    tensors = {
        "a": torch.randn(3, 4),
        "half": torch.randn(5).to(torch.bfloat16),
        "scalar": torch.tensor(2.5),
        "part": torch.arange(12.0).reshape(3, 4)[:, 1:3],
    }
    return State(step, tensors, {"rate": 0.1 + 0.2, "names": ["x", None, True]})


def test_round_trip_keeps_every_bit(tmp_path: Path) -> None:
    written = some_state(7)
    write_state(tmp_path, written)
    found = read_newest(tmp_path)
    assert found is not None and found.step == 7 and found.values == written.values
    for name, tensor in written.tensors.items():
        assert found.tensors[name].dtype == tensor.dtype
        assert torch.equal(found.tensors[name], tensor)


def test_the_last_two_are_kept(tmp_path: Path) -> None:
    for step in (1, 5, 30):
        write_state(tmp_path, some_state(step))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000000005.safetensors", "000000030.safetensors"]


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "header"])
def test_a_damaged_state_is_passed_over(tmp_path: Path, damage: str) -> None:
    write_state(tmp_path, some_state(1))
    newest = write_state(tmp_path, some_state(2))
    data = bytearray(newest.read_bytes())
    if damage == "cut":
        data = data[: len(data) // 2]
    elif damage == "flip":
        data[-3] ^= 1
    elif damage == "empty":
        data = bytearray()
    else:
        data[20] ^= 0xFF
    newest.write_bytes(bytes(data))
    found = read_newest(tmp_path)
    assert found is not None and found.step == 1


def test_a_full_disk_leaves_the_older_states(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_state(tmp_path, some_state(1))

    def full(file: BinaryIO, entries: object, metadata: object) -> None:
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(state_module, "write_tensors", full)
    with pytest.raises(OSError, match="No space left"):
        write_state(tmp_path, some_state(2))
    assert [path.name for path in tmp_path.iterdir()] == ["000000001.safetensors"]
    found = read_newest(tmp_path)
    assert found is not None and found.step == 1


def test_a_state_of_a_newer_version_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_module, "VERSION", 99)
    write_state(tmp_path, some_state(1))
    monkeypatch.undo()
    with pytest.raises(AtelierError, match="newer version"):
        read_newest(tmp_path)


def test_no_state(tmp_path: Path) -> None:
    assert read_newest(tmp_path / "missing") is None


@pytest.mark.parametrize(
    "name", ["AdamW", "Lion", "Prodigy", "Adafactor", "SGDNesterov", "DAdaptAdam", "torch.optim.RMSprop"]
)
def test_an_optimiser_goes_on_to_the_same_bits(name: str) -> None:
    def steps(weight: torch.nn.Parameter, optimizer: torch.optim.Optimizer, scheduler, first: int, last: int) -> None:
        for step in range(first, last):
            optimizer.zero_grad()
            weight.grad = torch.randn(weight.shape, generator=torch.Generator().manual_seed(step))
            optimizer.step()
            scheduler.step()

    def fresh() -> tuple:
        weight = torch.nn.Parameter(torch.ones(6, 5))
        optimizer = create_optimizer([{"params": [weight], "lr": 0.1}], name, 0.1, [])
        return weight, optimizer, create_scheduler(optimizer, ScheduleOptions("cosine", warmup_steps=2), 10)

    straight = fresh()
    steps(*straight, 0, 8)
    half = fresh()
    steps(*half, 0, 4)
    tensors: dict[str, torch.Tensor] = {}
    packed = pack({"o": half[1].state_dict(), "s": half[2].state_dict()}, "x", tensors)
    tensors = {key: value.clone() for key, value in tensors.items()}
    resumed = fresh()
    with torch.no_grad():
        resumed[0].copy_(half[0])
    values = unpack(packed, tensors)
    resumed[1].load_state_dict(values["o"])
    resumed[2].load_state_dict(values["s"])
    steps(*resumed, 4, 8)
    assert not torch.equal(straight[0], half[0])
    assert torch.equal(straight[0], resumed[0])


@pytest.mark.parametrize(
    ("options", "factors"),
    [
        (ScheduleOptions("constant"), {0: 1.0, 9: 1.0}),
        (ScheduleOptions("constant_with_warmup", warmup_steps=4), {0: 0.0, 2: 0.5, 4: 1.0}),
        (ScheduleOptions("constant_with_warmup", warmup_steps=0.4), {0: 0.0, 2: 0.5, 4: 1.0}),
        (ScheduleOptions("linear"), {0: 1.0, 5: 0.5}),
        (ScheduleOptions("cosine"), {0: 1.0, 5: 0.5}),
        (ScheduleOptions("polynomial", power=2.0), {0: 1.0, 5: 0.25}),
        (ScheduleOptions("cosine_with_min_lr", min_lr_ratio=0.2), {0: 1.0, 5: 0.6}),
        (ScheduleOptions("warmup_stable_decay", warmup_steps=2, decay_steps=4), {1: 0.5, 3: 1.0, 8: 0.5}),
        (ScheduleOptions(class_path="StepLR", arguments=["step_size=3", "gamma=0.5"]), {0: 1.0, 3: 0.5, 6: 0.25}),
    ],
)
def test_schedules(options: ScheduleOptions, factors: dict[int, float]) -> None:
    optimizer = create_optimizer([{"params": [torch.nn.Parameter(torch.ones(1))], "lr": 2.0}], "AdamW", 2.0, [])
    scheduler = create_scheduler(optimizer, options, 10)
    found = []
    for _ in range(10):
        found.append(optimizer.param_groups[0]["lr"] / 2.0)
        optimizer.step()
        scheduler.step()
    for step, factor in factors.items():
        assert found[step] == pytest.approx(factor, abs=0.02), step


@pytest.mark.parametrize("name", ["cosine_with_min_lr", "warmup_stable_decay"])
def test_schedules_that_an_old_transformers_lacks(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours give transformers' rates at every step."""
    options = ScheduleOptions(name, warmup_steps=3, decay_steps=5, min_lr_ratio=0.2)

    def rates() -> list[float]:
        optimizer = create_optimizer([{"params": [torch.nn.Parameter(torch.ones(1))], "lr": 2.0}], "AdamW", 2.0, [])
        scheduler = create_scheduler(optimizer, options, 12)
        found = []
        for _ in range(14):
            found.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step()
        return found

    theirs = rates()
    monkeypatch.setitem(schedulers._FUNCTIONS, name, "transformers.optimization.not_there_yet")
    assert rates() == pytest.approx(theirs, rel=1e-12) and min(theirs[4:]) < 2.0


def test_unknown_names_say_what_is_known() -> None:
    groups = [{"params": [torch.nn.Parameter(torch.ones(1))], "lr": 1.0}]
    with pytest.raises(AtelierError, match="adamw"):
        create_optimizer(groups, "Addam", 1.0, [])
    with pytest.raises(AtelierError, match="pip install notthere"):
        create_optimizer(groups, "notthere.Adam", 1.0, [])
    with pytest.raises(AtelierError, match="does not accept these arguments"):
        create_optimizer(groups, "AdamW", 1.0, ["wibble=3"])
    with pytest.raises(AtelierError, match="key=value"):
        create_optimizer(groups, "AdamW", 1.0, ["wibble"])
    optimizer = create_optimizer(groups, "AdamW", 1.0, ["weight_decay=0.5", "betas=(0.5, 0.6)"])
    assert optimizer.param_groups[0]["weight_decay"] == 0.5 and optimizer.param_groups[0]["betas"] == (0.5, 0.6)
    with pytest.raises(AtelierError, match="cosine_with_restarts"):
        create_scheduler(optimizer, ScheduleOptions("cosinus"), 10)
