"""Sessions with chosen memory savings instead of those that a plan would choose."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

from atelier.bench.gpu.runs import Bench
from atelier.jobs.control import Control
from atelier.training.run import PARTS, prepare
from atelier.training.session import Session

SAVINGS = ("gradient_checkpointing", "micro_batches", "text_and_vae_off", "streamed", "fp8", "optimizer")


@contextmanager
def session_with(on: Bench, **changes: Any) -> Iterator[Session]:
    """A run that is about to take its first step; whoever has it takes the steps.

    Of `changes` those named in `SAVINGS` are turned on as they are, the others are settings.
    """
    savings = {name: changes.pop(name) for name in SAVINGS if name in changes}
    context = prepare(on.job(**changes), on.host, on.record(), Control())
    context.savings.planned = True  # nothing else is chosen
    for name, value in savings.items():
        setattr(context.savings, name, value)
    session = Session(context, lambda state: None)
    with torch.inference_mode(False), torch.enable_grad(), ExitStack() as stack:
        session.enter(stack, on.host.lease(PARTS), None)
        try:
            yield session
        finally:
            session.leave()
