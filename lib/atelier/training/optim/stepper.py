"""The steps of a session: the optimizer and its schedule, with their memory savings, and the moving average (EMA)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from atelier.adapters.kinds.lora import PLAIN
from atelier.adapters.network import Network
from atelier.config.settings.schema import labelled
from atelier.training.context import RunContext, schedule_options
from atelier.training.device.plan import Plan
from atelier.training.device.processes import sum_gradients
from atelier.training.optim.ema import Average
from atelier.training.optim.flat_parameters import FlatParameters
from atelier.training.optim.norms import all_finite
from atelier.training.optim.optimizers import by_itself, create_optimizer, is_schedule_free
from atelier.training.optim.schedulers import create_scheduler
from atelier.training.optim.update import Updater, check_each_for_itself, clip_gradients, load_optimizer
from atelier.training.progress.state import pack, unpack
from atelier.training.trained.whole_model import WholeModel

ADAPTER_RATES = ("unet_lr", "text_encoder_lr")
WHOLE_RATES = ("learning_rate", "learning_rate_te", "learning_rate_te1", "learning_rate_te2")
"""Settings of the learning rates."""


class Stepper:
    """Steps the trained weights of one session."""

    def __init__(
        self, context: RunContext, network: Network | WholeModel, plan: Plan, accelerator: Accelerator
    ) -> None:
        """Raises `AtelierError` for an optimizer that is not installed or cannot do what the settings ask."""
        settings = context.job.settings
        self._context, self._settings = context, settings
        self._network, self._accelerator = network, accelerator
        groups = network.parameter_groups(*context.rates)
        self.parameters: list[nn.Parameter] = [parameter for group in groups for parameter in group["params"]]
        self.name = name = plan.optimizer or settings.optimizer_type
        self.fused = self._can_fuse(plan, name)
        rounds = context.whole_model and settings.full_bf16 and accelerator.scaler is None
        if rounds:
            check_each_for_itself(name, "full_bf16")
        # Not for weights that change between bf16 and float32. With scaled losses, accelerate would miss skipped steps.
        one_kernel = not rounds and accelerator.scaler is None
        self._flat = FlatParameters(groups) if one_kernel and self._can_join(name) else None
        if self._flat is not None:
            groups = self._flat.groups
        self.stepped: list[nn.Parameter] = self.parameters if self._flat is None else self._flat.weights
        """The weights that the optimizer has, with small ones joined."""
        self._all = list(dict.fromkeys([*self.parameters, *self.stepped]))
        self.optimizer = create_optimizer(
            groups, name, settings.learning_rate, settings.optimizer_args, one_kernel,
            WHOLE_RATES if context.whole_model else ADAPTER_RATES,
        )  # fmt: skip
        self.scheduler = create_scheduler(self.optimizer, schedule_options(settings), context.step_schedule.total_steps)
        # Before a state is restored, since accelerate reloads the optimizer's state in the precision of the weights.
        self._prepared = accelerator.prepare_optimizer(self.optimizer)
        self._updater: Updater | None = None
        if self.fused or rounds:
            self._updater = Updater(self.optimizer, context.seed, settings.max_grad_norm or 0.0)
        if is_schedule_free(self.optimizer):
            self.optimizer.train()  # type: ignore[attr-defined]
        self.average: Average | None = None
        if settings.ema_decay:
            trained = set(map(id, self.parameters))
            named = {key: weight for key, weight in network.named_parameters() if id(weight) in trained}
            self.average = Average(named, settings.ema_decay)

    def begin(self, step: int) -> AbstractContextManager[Any]:
        """Entered around the forward and backward pass of step number `step` (from 0). It clears the gradients."""
        stop = self._settings.stop_text_encoder_training or 0
        if isinstance(self._network, WholeModel) and 0 < stop <= step:
            self._network.rest_text()
        self._forget_gradients()
        if self._updater is None:
            return nullcontext()
        self._updater.step_number = step
        return self._updater.fused() if self.fused else nullcontext()

    def finish(self, step: int) -> None:
        """Clips the gradients, steps the optimizer (unless fused) and the schedule, and frees the gradients."""
        settings = self._settings
        if not self.fused:
            sum_gradients(self._accelerator, self.parameters)
            if self._flat is not None:
                self._flat.gather()
            if settings.max_grad_norm:
                self._accelerator.unscale_gradients(self._prepared)
                clip_gradients(self.stepped, settings.max_grad_norm)
            if self._updater is not None:
                self._updater.step()
            else:
                self._prepared.step()
        self._forget_gradients()  # those of a whole model would need memory while it is saved
        # Also after a step that overflowed: steps are counted, and the schedule ends with the last of them.
        self.scheduler.step()
        if settings.scale_weight_norms:
            self._network.apply_max_norm(settings.scale_weight_norms)
        if self.average is not None:
            self.average.update(step + 1)

    def _forget_gradients(self) -> None:
        """Does the same as the optimizer's zero_grad, faster."""
        for parameter in self._all:
            parameter.grad = None

    @contextmanager
    def as_used(self) -> Iterator[None]:
        """Replaces the weights inside the block by those for use. Afterwards they are as before, bit for bit.

        The two differ for schedule-free optimizers (Defazio et al. 2024), which train at an interpolated point.
        """
        if not is_schedule_free(self.optimizer):
            yield
            return
        kept = [parameter.detach().to("cpu", copy=True) for parameter in self.parameters]
        self.optimizer.eval()  # type: ignore[attr-defined]
        try:
            yield
        finally:
            self.optimizer.train()  # type: ignore[attr-defined]
            with torch.no_grad():
                for parameter, tensor in zip(self.parameters, kept):
                    parameter.copy_(tensor)

    def retire(self) -> None:
        """Ends stepping: the weights become those for use, and the optimizer's memory is freed."""
        if is_schedule_free(self.optimizer):
            self.optimizer.eval()  # type: ignore[attr-defined]
        self.optimizer.state.clear()

    @property
    def sound(self) -> bool:
        """True when all weights, and their moving average if there is one, are finite."""
        averages = () if self.average is None else self.average.tensors().values()
        return all_finite((*self.stepped, *averages))

    def rates(self) -> dict[str, float]:
        """The current learning rate of each group, by name."""
        groups = enumerate(self.optimizer.param_groups)
        return {group.get("name", str(index)): float(group["lr"] or 0.0) for index, group in groups}

    def capture(self, tensors: dict[str, Tensor]) -> dict[str, Any]:
        """The values for a state to resume from; its tensors are added to `tensors`."""
        flat, optimizer = self._flat, self.optimizer.state_dict()
        values = {
            "optimizer": pack(optimizer if flat is None else flat.split(optimizer), "optimizer", tensors),
            "scheduler": pack(_plain(self.scheduler.state_dict()), "scheduler", tensors),
        }
        if self._accelerator.scaler is not None:
            values["scaler"] = pack(self._accelerator.scaler.state_dict(), "scaler", tensors)
        if self.average is not None:
            values["average"] = pack(self.average.tensors(), "average", tensors)
        return values

    def restore(self, values: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        """The inverse of `capture`. Raises `AtelierError` when the average belongs to other weights."""
        optimizer = unpack(values["optimizer"], tensors)
        load_optimizer(self.optimizer, optimizer if self._flat is None else self._flat.join(optimizer))
        self.scheduler.load_state_dict(unpack(values["scheduler"], tensors))
        if self._accelerator.scaler is not None and "scaler" in values:
            self._accelerator.scaler.load_state_dict(unpack(values["scaler"], tensors))
        if self.average is not None and "average" in values:
            self.average.load(unpack(values["average"], tensors))

    def _can_join(self, optimizer: str) -> bool:
        """True when joining small weights saves time and changes nothing: each has a gradient at every step."""
        network = self._network
        return (
            isinstance(network, Network)
            and network.config.module in PLAIN
            and not network.config.module_dropout
            and not self._context.trains_text
            and self.parameters[0].device.type == "cpu"
            and by_itself(optimizer)
        )

    def _can_fuse(self, plan: Plan, optimizer: str) -> bool:
        """True when steps can be taken inside the backward pass. If it was asked for and cannot be, says why once."""
        if not self._settings.fused_backward_pass:
            return False
        check_each_for_itself(optimizer, "fused_backward_pass")
        reasons = {
            "gradients are accumulated over several batches": self._context.accumulation > 1,
            "a batch is computed in parts to fit into memory": plan.micro_batches > 1,
            "several processes train together": self._accelerator.num_processes > 1,
            "fp16 needs all gradients at once": self._accelerator.scaler is not None,
            "this torch is older than 2.1": not hasattr(torch.Tensor, "register_post_accumulate_grad_hook"),
        }
        why = next((reason for reason, holds in reasons.items() if holds), None)
        if why is not None:
            self._context.record.message(f"{labelled('fused_backward_pass')} is off, since {why}.", "warning")
        return why is None


def _plain(state: dict[str, Any]) -> dict[str, Any]:
    """A schedule's state without functions, which some schedules keep in it; the class has them anyway."""
    return {key: value for key, value in state.items() if not callable(value)}
