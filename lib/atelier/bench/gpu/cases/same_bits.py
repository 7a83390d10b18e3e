"""A run that was stopped and resumed, with pictures drawn between its steps, beside one that was left alone."""

from __future__ import annotations

from atelier.adapters.files.kohya_file import read_lora
from atelier.bench.gpu.bases import SD15
from atelier.bench.gpu.case import Case, Found
from atelier.bench.gpu.machine import Machine
from atelier.bench.gpu.runs import bench, half
from atelier.hosts.contract import SampleRequest
from atelier.jobs.control import Control

STEPS = 6


def run(machine: Machine) -> Found:
    """The largest difference between both LoRAs; fused attention adds in any order, so it may not be 0 on a GPU."""
    with bench(machine, SD15, half(machine)) as on:
        side = max(64, on.base.side_on(machine))

        def meddle(step: int, control: Control) -> None:
            on.host.sample(SampleRequest("a cat", width=side, height=side, steps=2, seed=step))
            if step >= STEPS // 2:
                control.stop()

        straight, _ = on.train(max_train_steps=STEPS)
        assert straight.path is not None
        expected = dict(read_lora(straight.path).tensors)
        before = machine.allocated()
        record = on.record()
        stopped, _ = on.train(record, meddle, max_train_steps=STEPS, output_name="again")
        del record.losses
        outcome, _ = on.train(record, max_train_steps=STEPS, output_name="again")
        assert outcome.path is not None
        found = read_lora(outcome.path).tensors
        machine.free_everything()
        left = machine.allocated() - before
    apart = max(float((found[name].float() - tensor.float()).abs().max()) for name, tensor in expected.items())
    largest = max(float(tensor.float().abs().max()) for name, tensor in expected.items() if "alpha" not in name)
    return Found(
        apart <= 0.02 * largest and outcome.steps == STEPS and abs(left) < 1 << 20,
        f"stopped after {stopped.steps}, largest difference {apart:.1e} of {largest:.1e}, left behind {left} bytes",
        {"difference": apart, "largest": largest, "left": left, "stopped": stopped.steps},
    )


CASE = Case("same_bits", "A run that was stopped, shared and resumed learns what one left alone does.", 110, 40, run)
