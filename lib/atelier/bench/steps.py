"""Times our step and the bare UNet loop, in turn, in one process, with the same layers and shapes."""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
from torch.nn import functional

from atelier.bench.models import Shape, loaded_host
from atelier.bench.pictures import PICTURES, bench_job
from atelier.hosts.contract import Host
from atelier.jobs.control import Control
from atelier.jobs.record import Record
from atelier.models.family import SizeConditions
from atelier.training.progress.monitor import STEPS, longest_wait
from atelier.training.run import PARTS, prepare
from atelier.training.session import Session

WATCHED = 3
"""Steps whose parts are timed: a stopwatch at every part slows a step, so these are others than those compared."""


@dataclass(frozen=True)
class Case:
    """What to measure."""

    shape: Shape
    precision: str = "no"
    gradient_checkpointing: bool = False
    rank: int = 8


@dataclass
class Figures:
    """Medians in seconds, of the parts the mean of a few steps. `step_ratio`: ours over the bare loop, in the median
    of the pairs; ours are iterations of the real loop, with the reading of losses and all that is due. A pair is as
    many steps of each as losses are read of at once."""

    case: str
    precision: str
    gradient_checkpointing: bool
    rank: int
    side: int
    pairs: int
    bare_seconds: float
    step_seconds: float
    step_ratio: float
    first_step_seconds: float
    save_seconds: float
    peak_memory_bytes: int
    parts_seconds: dict[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, object]:
        return asdict(self)


def measure(case: Case, pairs: int) -> Figures:
    """Takes `pairs` turns of ours and of the bare loop, after a warm-up of both."""
    with tempfile.TemporaryDirectory(prefix="atelier-bench-") as name:
        folder = Path(name)
        host = loaded_host(case.shape, folder / "data")
        begun = time.perf_counter()
        with begun_session(host, case, pairs, folder) as session:
            session.take_step()
            first = time.perf_counter() - begun
            ours, floor = in_turn(session, case, pairs)
            session.watch.on = True
            for _ in range(WATCHED):
                session.advance()
            saved = timed(lambda: session.learner.outputs.save(session.step, "asked"))
            return Figures(
                case=case.shape.name,
                precision=case.precision,
                gradient_checkpointing=case.gradient_checkpointing,
                rank=case.rank,
                side=case.shape.side,
                pairs=pairs,
                bare_seconds=statistics.median(floor),
                step_seconds=statistics.median(ours),
                step_ratio=statistics.median([a / b for a, b in zip(ours, floor)]),
                first_step_seconds=first,
                save_seconds=saved,
                peak_memory_bytes=peak_memory(),
                parts_seconds={name: seconds / WATCHED for name, seconds in session.watch.seconds.items()},
            )


@contextmanager
def begun_session(host: Host, case: Case, pairs: int, folder: Path) -> Iterator[Session]:
    """A run on the model that `host` has loaded, about to take its first step. `folder` takes its files."""
    job = bench_job(
        case.shape, folder / "pictures", 2 * PICTURES + 2 * STEPS * pairs + 2 + WATCHED, network_dim=case.rank,
        network_alpha=case.rank, mixed_precision=case.precision, gradient_checkpointing=case.gradient_checkpointing,
    )  # fmt: skip
    context = prepare(job, host, Record.create(folder / "run", {}), Control())
    session = Session(context, lambda state: None)
    # A host's thread may have gradients off.
    with torch.inference_mode(False), torch.enable_grad(), ExitStack() as stack:
        session.enter(stack, host.lease(PARTS), None)
        yield session


def in_turn(session: Session, case: Case, pairs: int) -> tuple[list[float], list[float]]:
    """Seconds of a step, `pairs` times of ours and of the bare loop, in turn. Only ours pay for the host's turns."""
    bare = BareLoop(session, case.shape.side)

    def floor_steps(count: int) -> float:
        with session.workplace.lease.turn():
            return each_of(count, bare.step)

    each_of(PICTURES, session.advance)  # every picture's latents are then cached
    floor_steps(1)
    count = max(1, min(STEPS, round(longest_wait(session.learner.device) / floor_steps(1))))
    both = [(floor_steps(count), each_of(count, session.advance)) for _ in range(pairs)]
    return [ours for _, ours in both], [floor for floor, _ in both]


class BareLoop:
    """Forward, mean squared error, backward, the same AdamW as ours, zero_grad, and nothing else."""

    def __init__(self, session: Session, side: int) -> None:
        """`side`: of a picture, in pixels. The family calls its denoiser, so that this serves every family."""
        parts = self._parts = session.workplace.parts
        self.unet = parts.denoiser
        one_kernel = session.learner.stepper.optimizer.defaults.get("fused")
        self._optimizer = torch.optim.AdamW(session.learner.stepper.parameters, lr=1e-4, fused=one_kernel)
        device, family = session.learner.device, parts.family
        latent = side // family.pixel_step
        self._latents = torch.randn(1, family.latent_channels, latent, latent, device=device)
        self._noise = torch.randn_like(self._latents)
        self._times = torch.tensor([500 if family.flow is None else 0.5], device=device)
        with torch.no_grad():
            self._text = session.workplace.losses.embed(["a zwx thing"])
        self._dtype = session.workplace.plan.dtype
        pixels = torch.tensor([[float(side)] * 2], device=device)
        self._sizes = SizeConditions(pixels, torch.zeros_like(pixels), pixels)

    def step(self) -> None:
        """One step, on the same latents each time."""
        kind = self._latents.device.type
        autocast = torch.autocast(kind, dtype=self._dtype) if self._dtype else nullcontext()
        parts = replace(self._parts, denoiser=self.unet)
        with autocast:
            found = parts.family.predict(parts, self._latents, self._times, self._text, self._sizes)
            loss = functional.mse_loss(found.float(), self._noise)
        loss.backward()
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)


def peak_memory() -> int:
    """The most bytes that this process had at any time."""
    if sys.platform == "win32":
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def each_of(count: int, work: Callable[[], object]) -> float:
    """Seconds that `work` takes, as the mean of so many times in a row."""

    def every() -> None:
        for _ in range(count):
            work()

    return timed(every) / count


def timed(work: Callable[[], object]) -> float:
    """Seconds of the clock that `work` takes, with what it left a GPU to do."""
    started = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started
