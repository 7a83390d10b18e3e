"""Every kind of adapter over a base in fp16, in every precision: all of its weights learn."""

from __future__ import annotations

import importlib
from typing import Any

from atelier.adapters.network import Network
from atelier.bench.gpu.bases import SD1, all_bases
from atelier.bench.gpu.case import Case, Found
from atelier.bench.gpu.machine import Machine
from atelier.bench.gpu.planned import session_with
from atelier.bench.gpu.runs import Bench, bench, half

KINDS: dict[str, dict[str, Any]] = {
    "LoRA": {},
    "LoCon": {"conv_dim": 4, "conv_alpha": 4.0},
    **{
        name: {"network_module": "lycoris.kohya", "network_args": [f"algo={name.lower()}"]}
        for name in ("LoHa", "LoKr", "IA3", "DoRA")
    },
    "OFT": {"network_module": "lycoris.kohya", "network_args": ["algo=diag-oft", "preset=attn-mlp"]},
}
PRECISIONS: dict[str, dict[str, Any]] = {
    "fp16": {"mixed_precision": "fp16"},
    "bf16": {"mixed_precision": "bf16"},
    "no": {"mixed_precision": "no"},
    "full_bf16": {"full_bf16": True},
}
STEPS = 6
"""The first of them may be skipped by the scaler, and what is multiplied by a zero moves from the second on."""


def run(machine: Machine) -> Found:
    """Takes some steps with each and looks at which weights have moved."""
    precisions = PRECISIONS if machine.is_gpu else {"no": PRECISIONS["no"]}
    kinds = kinds_here(machine)
    still: dict[str, str] = {}
    count = 0
    for base in machine.in_time([SD1, *(base for base in all_bases() if base != SD1)]):
        with bench(machine, base, half(machine)) as on:
            # The kinds do not depend on the family; that its layers are reached does.
            for kind, settings in (kinds if base == SD1 else {"LoRA": {}}).items():
                for precision, more in precisions.items():
                    count += 1
                    left = _left_alone(on, {**settings, **more})
                    if left:
                        still[f"{base.name} {kind} {precision}"] = left
    says = f"{count - len(still)} of {count} learn in all of their weights"
    return Found(not still, says + (f"; not: {', '.join(still)}" if still else ""), {"still": still, "tried": count})


def kinds_here(machine: Machine) -> dict[str, dict[str, Any]]:
    """The kinds that can be trained with what is installed; some of them on a CPU. What is left out is noted."""
    kinds = KINDS if machine.is_gpu else {kind: KINDS[kind] for kind in ("LoRA", "DoRA", "OFT")}
    try:
        importlib.import_module("lycoris")
    except ImportError:
        machine.notes.append("LyCORIS is not installed: only LoRA and LoCon")
        return {kind: settings for kind, settings in kinds.items() if "network_module" not in settings}
    return kinds


def _left_alone(on: Bench, settings: dict[str, Any]) -> str:
    """What is wrong: the weights that did not move, or an error; "" when all is well."""
    try:
        with session_with(on, learning_rate=1e-2, network_dim=4, network_alpha=4, **settings) as session:
            network = session.learner.network
            assert isinstance(network, Network)
            before = {name: tensor.clone() for name, tensor in network.trained_tensors().items()}
            for _ in range(STEPS):
                session.take_step()
            after = network.trained_tensors()
            still = [name for name, tensor in before.items() if bool((tensor == after[name]).all())]
            wrong = [name for name, tensor in after.items() if not bool(tensor.isfinite().all())]
    except Exception as error:  # noqa: BLE001 - which kind fails on this device, and with what words, is the finding
        return f"{type(error).__name__}: {error}"
    if wrong:
        return f"not finite: {wrong[0]} and {len(wrong) - 1} more"
    return f"{len(still)} of {len(before)} did not move, as {still[0]}" if still else ""


CASE = Case("kinds", "Every kind of adapter learns over an fp16 base, in every precision.", 20, 60, run)
