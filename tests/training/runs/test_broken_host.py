"""A WebUI whose own code raises, in each call that the trainer makes: what was learnt is kept, and nothing borrowed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from atelier.hosts.contract import SampleRequest
from atelier.hosts.powers import bytes_on_device, make_room
from atelier.training.device.savings import FILE
from atelier.training.progress.state import read_newest
from tests.support.training_fakes import (
    MemoryRecord,
    Run,
    TinyHost,
    WatchedLease,
    assert_same,
    run,
    tiny_job,
    write_pictures,
)

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


@pytest.mark.parametrize("call", ["remarks", "lora_remark", "usual_request", "bytes_on_device", "make_room"])
def test_what_a_host_offers_beyond_the_contract_fails(
    call: str, originals: Path, straight: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run does without, and the log has it."""
    host = TinyHost(tmp_path)
    asked: list[str] = []

    def broken(*arguments: Any) -> Any:
        asked.append(call)
        raise Broken(call)

    monkeypatch.setattr(host, call, broken, raising=False)
    if call in ("bytes_on_device", "make_room"):  # for the tab, and while a whole model is trained on a GPU
        assert bytes_on_device(host) is None if call == "bytes_on_device" else make_room(host, 1) is None
    else:
        changes = {"sample_with": "host", "sample_at_first": True, "sample_prompts": "a --w 32 --h 32 --s 1"}
        done = run(tiny_job(originals, **SETTINGS, **changes), tmp_path, host=host)
        assert_same(done.tensors, straight.tensors)
    assert asked


def test_the_unet_cannot_be_put_to_rest(originals: Path, straight: Run, tmp_path: Path) -> None:
    """Nothing is trained then, and the run can be resumed."""
    record = MemoryRecord(tmp_path / "record")
    kept = {"text_and_vae_off": False, "gradient_checkpointing": True, "pieces": 1, "optimizer": "", "streamed": True}
    (record.folder / FILE).write_text(json.dumps({**kept, "fp8": False}), encoding="utf-8")
    host = TinyHost(tmp_path)

    def broken() -> bool:
        raise Broken("rest")

    host.send_unet_to_rest = broken  # type: ignore[method-assign]
    with pytest.raises(Broken, match="rest"):
        run(tiny_job(originals, **SETTINGS), tmp_path, host=host, record=record)
    assert host.leases == [] and not host.queue.locked()
    assert_same(again(record, originals, tmp_path).tensors, straight.tensors)


def test_the_host_cannot_draw(originals: Path, straight: Run, tmp_path: Path) -> None:
    settings = {**SETTINGS, "sample_with": "host", "sample_every_n_steps": 2, "sample_prompts": "a zwx"}
    done = run(tiny_job(originals, **settings), tmp_path, host=BrokenHost(tmp_path, "sample", 1))
    assert done.record.told("could not draw")
    assert_same(done.tensors, straight.tensors)


def test_the_host_cannot_be_told_of_a_checkpoint(originals: Path, tmp_path: Path) -> None:
    host = BrokenHost(tmp_path, "publish a checkpoint", 1)
    done = run(tiny_job(originals, **{**SETTINGS, "train_whole_model": True}), tmp_path, host=host)
    assert done.record.told("the WebUI does not list it yet")
    assert done.outcome.state == "done" and done.outcome.path is not None and done.outcome.path.exists()


def test_the_host_cannot_be_told_of_a_file(originals: Path, straight: Run, tmp_path: Path) -> None:
    host = BrokenHost(tmp_path, "publish", 1)
    done = run(tiny_job(originals, **SETTINGS), tmp_path, host=host)
    assert done.record.told("the WebUI does not list it yet")
    assert [path.stem for path in host.published] == ["tiny-step00000004", "tiny"]
    assert_same(done.tensors, straight.tensors)
