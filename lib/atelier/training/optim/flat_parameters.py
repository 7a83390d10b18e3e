"""Joins many small weights into one flat tensor, for optimizers that treat every number independently.

A LoRA has hundreds of matrices with some thousand numbers each. On a CPU, calling the optimizer once per small matrix
costs more than the arithmetic. Joined, the weights are stepped at once, with the same result. On a GPU this is not
needed: there, optimizers step all weights at once anyway.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from atelier.training.optim.norms import SMALL, flattened


class FlatParameters:
    """Joins the small weights of each group into one tensor. From then on the weights are slices of it.

    So weights must be changed in place only. At each step, either all weights must have a gradient or none: a missing
    gradient counts as zeros, while the optimizer would have skipped that weight.
    """

    def __init__(self, groups: Sequence[Mapping[str, Any]]) -> None:
        """`groups`: {"params": weights, …} as for an optimizer. Give `self.groups` to the optimizer instead."""
        weights = [weight for group in groups for weight in group["params"]]
        places = {weight: place for place, weight in enumerate(weights)}
        members = [_members(group["params"]) for group in groups]
        self.groups: list[dict[str, Any]] = [
            {**group, "params": [_joined(weights) for weights in lists]} for group, lists in zip(groups, members)
        ]
        self.weights: list[nn.Parameter] = [weight for group in self.groups for weight in group["params"]]
        """The weights that the optimizer gets: joined ones, and large ones as they are."""
        self._members = [weights for lists in members for weights in lists]
        """For each of them, the weights that it is joined from; a large weight is its own only member."""
        self._places = [[places[member] for member in weights] for weights in self._members]
        """For each of them, the indices that its members would have in an optimizer over the original weights."""

    def gather(self) -> None:
        """Copies the members' gradients into the joined weights' gradients."""
        for weight, members in zip(self.weights, self._members):
            if len(members) == 1:
                continue
            gradients = [member.grad for member in members]
            if any(gradient is not None for gradient in gradients):
                weight.grad = flattened(
                    [torch.zeros_like(m) if gradient is None else gradient for m, gradient in zip(members, gradients)]
                )

    def split(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """The optimizer's `state_dict`, with one entry per original weight. Tensors are slices, not copies."""
        found: dict[int, dict[str, Any]] = {}
        for index, kept in state["state"].items():
            for key, value in kept.items():
                for place, part in zip(self._places[index], _parts(value, self._members[index])):
                    found.setdefault(place, {})[key] = part
        groups = [
            {**group, "params": sorted(place for index in group["params"] for place in self._places[index])}
            for group in state["param_groups"]
        ]
        return {"state": dict(sorted(found.items())), "param_groups": groups}

    def join(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """The inverse of `split`. The run that wrote the state need not have joined its weights."""
        kept = [[state["state"].get(place, {}) for place in places] for places in self._places]
        found = {
            index: {key: _whole([state_of_part[key] for state_of_part in parts]) for key in parts[0]}
            for index, parts in enumerate(kept)
            if all(parts)
        }
        numbers = iter(range(len(self.weights)))
        groups = [
            {**saved, "params": [next(numbers) for _ in group["params"]]}
            for saved, group in zip(state["param_groups"], self.groups, strict=True)
        ]
        return {"state": found, "param_groups": groups}


def _members(weights: Sequence[nn.Parameter]) -> list[list[nn.Parameter]]:
    """Groups of weights to join: small weights of the same device and dtype together, every other weight alone."""
    small: dict[tuple[torch.device, torch.dtype], list[nn.Parameter]] = {}
    found: list[list[nn.Parameter]] = []
    for weight in weights:
        if weight.numel() > SMALL:
            found.append([weight])
        else:
            small.setdefault((weight.device, weight.dtype), []).append(weight)
    return [*small.values(), *found]


@torch.no_grad()
def _joined(members: Sequence[nn.Parameter]) -> nn.Parameter:
    if len(members) == 1:
        return members[0]
    whole = flattened(members)
    for member, part in zip(members, _parts(whole, members)):
        member.data = part
    return nn.Parameter(whole)


def _parts(value: Any, members: Sequence[nn.Parameter]) -> list[Any]:
    """Splits a tensor over all members' numbers. Anything else, such as a step count, is the same for all members."""
    sizes = [member.numel() for member in members]
    if not isinstance(value, Tensor):
        return [value] * len(members)
    if value.numel() != sum(sizes):  # a step count: each member gets its own copy
        return [value.clone() for _ in members]
    return [part.view(member.shape) for part, member in zip(value.view(-1).split(sizes), members)]


def _whole(parts: Sequence[Any]) -> Any:
    """The inverse of `_parts`."""
    if len(parts) == 1 or not isinstance(parts[0], Tensor) or parts[0].dim() == 0:
        return parts[0]
    return flattened(parts)
