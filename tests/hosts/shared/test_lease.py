"""A loan and its turns: what is asked of the host in which order, and that everything is given back on every path."""

from __future__ import annotations

from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from atelier.config.errors import AtelierError
from atelier.hosts.contract import BaseGone
from atelier.hosts.shared.lease import WebUILease

ALL = frozenset(("unet", "vae"))


class Host:
    """Notes what it is asked, and whether that was inside its queue."""

    def __init__(self) -> None:
        self.held = False
        self.done: list[str] = []
        self.info: Any = SimpleNamespace(identity="a", refusal=None, title="a")
        self.failing: str | None = None
        self.parts = SimpleNamespace(vae=torch.nn.Linear(2, 2, device="meta"), computes_on=None)

    def do(self, what: str) -> None:
        assert self.held, f"{what} outside the queue"
        self.done.append(what)
        if what == self.failing:
            raise MemoryError(what)

    @contextmanager
    def queue(self) -> Any:
        assert not self.held
        self.held = True
        try:
            yield
        finally:
            self.held = False

    def loaded_model(self) -> Any:
        return self.info

    def borrow(self, parts: frozenset[str]) -> Any:
        assert parts == ALL and not torch.is_inference_mode_enabled()
        self.do("borrow")
        return SimpleNamespace(
            parts=self.parts, moved=lambda: False, rest=lambda: self.do("rest"), follow=lambda: self.do("follow"),
            let_go=lambda: self.do("let go"),
        )  # fmt: skip

    def remove_loras(self) -> None:
        self.do("clean")

    def load_to_device(self) -> None:
        self.do("bring")

    def restore_placement(self) -> None:
        self.do("give back")


class Fetching(Host):
    """With a UNet that it fetches whenever it draws."""

    can_offload_denoiser = True

    def bring_without_unet(self) -> None:
        self.do("bring the rest")


def test_what_is_asked_in_which_order() -> None:
    """LoRAs are taken out once the base is where it computes, and views follow what either has moved."""
    host = Host()
    ended: list[str] = []
    lease = WebUILease(host, ALL, lambda: ended.append("ended"))
    with lease as parts:
        assert parts is host.parts and host.done == ["bring", "clean", "borrow"] and parts.computes_on is None
        host.done.clear()
        with torch.no_grad(), torch.inference_mode(), lease.turn():
            assert host.held and torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
        assert host.done == ["bring", "clean", "follow"] and not host.held and ended == []
        host.done.clear()
    assert host.done == ["let go", "give back"] and ended == ["ended"] and not host.held
    with pytest.raises(AtelierError, match="loan has ended"), lease.turn():
        pass


def test_views_are_made_outside_the_inference_mode_of_a_hosts_thread() -> None:
    """The fake host holds to it that tensors made in there could never be trained through."""
    host = Host()
    with torch.inference_mode(), WebUILease(host, ALL):
        assert host.done == ["bring", "clean", "borrow"]


@pytest.mark.parametrize("failing", ["bring", "clean", "borrow"])
def test_a_loan_that_fails_at_its_beginning_gives_all_back(failing: str) -> None:
    """Whatever of it is already done: the WebUI draws from its own arrangement again, and nothing is leased."""
    host = Host()
    host.failing = failing
    lease = WebUILease(host, ALL)
    with pytest.raises(MemoryError, match=failing), lease:
        raise AssertionError("nothing was lent")
    steps = ["bring", "clean", "borrow"]
    assert host.done == [*steps[: steps.index(failing) + 1], "give back"] and not host.held
    with pytest.raises(AtelierError, match="loan has ended"), lease.turn():
        pass
    host.failing, host.done = None, []
    with lease:
        pass
    assert host.done == [*steps, "let go", "give back"]


@pytest.mark.parametrize("early", [True, False])
def test_a_unet_that_rests_is_not_brought(early: bool) -> None:
    """From the start, or from the next turn on; what computes goes by the VAE's device then."""
    host = Fetching()
    lease = WebUILease(host, ALL)
    assert lease.can_offload_denoiser
    if early:
        lease.offload_denoiser()
    with lease as parts:
        assert host.done[0] == ("bring the rest" if early else "bring")
        assert parts.computes_on == (torch.device("meta") if early else None)
        lease.offload_denoiser()
        assert parts.computes_on == torch.device("meta")
        host.done.clear()
        with lease.turn():
            pass
        assert host.done == ["bring the rest", "clean", "follow"]


@pytest.mark.parametrize(
    ("now", "words"),
    [
        (None, "the WebUI now has none"),
        (SimpleNamespace(identity="b", refusal=None, title="another one"), "the WebUI now has another one"),
        (SimpleNamespace(identity="a", refusal="It is unloaded.", title="a"), "It is unloaded. Training goes on then"),
    ],
)
def test_a_base_that_goes_away_inside_a_turn_is_told_as_that(now: Any, words: str) -> None:
    """Before a turn, and when it makes a turn's own computation fail; any other failure stays what it is."""
    host = Host()
    lease = WebUILease(host, ALL)
    with lease:
        there = host.info
        with pytest.raises(RuntimeError, match="shapes"), lease.turn():
            raise RuntimeError("shapes do not fit")
        with pytest.raises(BaseGone, match=words) as gone, lease.turn():
            host.info = now
            raise RuntimeError("storage of size 0")
        assert "storage of size 0" in str(gone.value.__cause__) and not host.held
        host.done.clear()
        with pytest.raises(BaseGone, match=words), lease.turn():
            raise AssertionError("no turn")
        assert host.done == [] and not host.held
        host.info = there
        with lease.turn():
            pass


@pytest.mark.parametrize(
    ("info", "words"),
    [(None, "No model is loaded"), (SimpleNamespace(identity="a", refusal="It is in 8 bits.", title="a"), "8 bits")],
)
def test_what_cannot_be_lent_is_not_touched(info: Any, words: str) -> None:
    host = Host()
    host.info = info
    with pytest.raises(AtelierError, match=words), WebUILease(host, ALL):
        pass
    assert host.done == [] and not host.held
