"""A WebUI whose own code raises, in each call that the trainer makes: what was learnt is kept, and nothing borrowed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from training_fakes import MemoryRecord, Run, TinyHost, WatchedLease, assert_same, run, tiny_job, write_pictures

from atelier.hosts.contract import SampleRequest
from atelier.training.state import read_newest

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


def again(first: MemoryRecord, pictures: Path, root: Path) -> Run:
    """Another run over the same record, with nothing in its way."""
    record = MemoryRecord(first.folder)
    record.saves = list(first.saves)
    return run(tiny_job(pictures, **SETTINGS), root, record=record)


class Broken(RuntimeError):
    """What a host's own code may raise."""


class BrokenLease(WatchedLease):
    def __enter__(self) -> Any:
        if self._host.breaks("enter"):
            raise Broken("enter")
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        if self._host.breaks("exit"):
            raise Broken("exit")

    @contextmanager
    def turn(self) -> Iterator[None]:
        if self._host.breaks("turn"):
            raise Broken("turn")
        with super().turn():
            yield
        if self._host.breaks("end of turn"):
            raise Broken("end of turn")


class BrokenHost(TinyHost):
    """Raises in one of its calls, when that is made for the nth time."""

    def __init__(self, root: Path, call: str, number: int) -> None:
        super().__init__(root)
        self._call, self._left = call, number
        if call in ("free", "ask"):
            self.memory = BrokenMemory(self)

    def breaks(self, call: str) -> bool:
        if call == self._call:
            self._left -= 1
        return call == self._call and self._left == 0

    def loaded_model(self) -> Any:
        if self.breaks("loaded_model"):
            raise Broken("loaded_model")
        return super().loaded_model()

    def lease(self, parts: frozenset[str]) -> Any:
        if self.breaks("lease"):
            raise Broken("lease")
        return BrokenLease(self, parts)

    def turn(self) -> Any:
        if self.breaks("turn of its own"):
            raise Broken("turn of its own")
        return super().turn()

    def publish_lora(self, path: Path) -> None:
        if self.breaks("publish"):
            raise Broken("publish")
        super().publish_lora(path)

    def publish_checkpoint(self, path: Path, load: bool) -> None:
        if self.breaks("publish a checkpoint"):
            raise Broken("publish a checkpoint")
        super().publish_checkpoint(path, load)

    def sample(self, request: SampleRequest) -> Any:
        if self.breaks("sample"):
            raise Broken("sample")
        return super().sample(request)


class BrokenMemory:
    """Memory that never suffices, so that the host is asked for more."""

    def __init__(self, host: BrokenHost) -> None:
        self._host = host

    def free(self) -> int:
        if self._host.breaks("free"):
            raise Broken("free")
        return -1

    def total(self) -> int:
        return 1 << 30

    def ask(self, size: int) -> None:
        if self._host.breaks("ask"):
            raise Broken("ask")


@pytest.mark.parametrize(
    ("call", "number"),
    [
        ("loaded_model", 1), ("loaded_model", 2), ("loaded_model", 3), ("lease", 1), ("enter", 1), ("exit", 1),
        ("turn", 1), ("turn", 2), ("turn", 5), ("end of turn", 1), ("end of turn", 2), ("end of turn", 5),
    ],
)  # fmt: skip
def test_the_host_raises(call: str, number: int, originals: Path, straight: Run, tmp_path: Path) -> None:
    """Its error comes out as it is; the run can be resumed from the last whole step, also from one just taken."""
    record, host = MemoryRecord(tmp_path / "record"), BrokenHost(tmp_path, call, number)
    with pytest.raises(Broken, match=call):
        run(tiny_job(originals, **SETTINGS), tmp_path, host=host, record=record)
    assert host.leases == [] and not host.queue.locked()
    state = read_newest(record.folder / "state")
    taken = {("turn", 2): 0, ("turn", 5): 3, ("end of turn", 2): 1, ("end of turn", 5): 4, ("exit", 1): 6}
    if (call, number) in taken:
        assert (state.step if state else 0) == taken[call, number]
    assert_same(again(record, originals, tmp_path).tensors, straight.tensors)


@pytest.mark.parametrize("call", ["ask", "turn of its own"])
def test_the_host_raises_while_a_whole_model_is_trained(call: str, originals: Path, tmp_path: Path) -> None:
    whole = {**SETTINGS, "train_whole_model": True}
    straight = run(tiny_job(originals, **whole), tmp_path / "straight")
    record = MemoryRecord(tmp_path / "record")
    with pytest.raises(Broken, match=call):
        run(tiny_job(originals, **whole), tmp_path, host=BrokenHost(tmp_path, call, 1), record=record)
    resumed = run(tiny_job(originals, **whole), tmp_path / "again", record=record)
    assert_same(resumed.tensors, straight.tensors)


@pytest.mark.parametrize("call", ["free", "ask"])
def test_the_host_does_not_tell_its_memory(call: str, originals: Path, straight: Run, tmp_path: Path) -> None:
    done = run(tiny_job(originals, **SETTINGS), tmp_path, host=BrokenHost(tmp_path, call, 1))
    assert done.record.told("could not be predicted")
    assert_same(done.tensors, straight.tensors)


def test_the_host_cannot_draw(originals: Path, straight: Run, tmp_path: Path) -> None:
    settings = {**SETTINGS, "sample_with": "host", "sample_every_n_steps": 2, "sample_prompts": "a zwx"}
    done = run(tiny_job(originals, **settings), tmp_path, host=BrokenHost(tmp_path, "sample", 1))
    assert done.record.told("could not draw")
    assert_same(done.tensors, straight.tensors)


def test_the_host_cannot_be_told_of_a_checkpoint(originals: Path, tmp_path: Path) -> None:
    host = BrokenHost(tmp_path, "publish a checkpoint", 1)
    done = run(tiny_job(originals, **{**SETTINGS, "train_whole_model": True}), tmp_path, host=host)
    assert done.record.told("the page could not be told")
    assert done.outcome.state == "done" and done.outcome.path is not None and done.outcome.path.exists()


def test_the_host_cannot_be_told_of_a_file(originals: Path, straight: Run, tmp_path: Path) -> None:
    host = BrokenHost(tmp_path, "publish", 1)
    done = run(tiny_job(originals, **SETTINGS), tmp_path, host=host)
    assert done.record.told("the page could not be told")
    assert [path.stem for path in host.published] == ["tiny-step00000004", "tiny"]
    assert_same(done.tensors, straight.tensors)
