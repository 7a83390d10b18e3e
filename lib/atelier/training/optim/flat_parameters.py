"""Many small weights as one, for an optimiser that treats every number by itself.

A LoRA has hundreds of matrices of some thousand numbers. On a processor an optimiser is at each of them longer for
beginning with it than for the numbers; joined, they are stepped at once, with the same result. A GPU takes them all at
once as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from atelier.training.optim.norms import SMALL, flattened


class FlatParameters:
    """Puts the small weights of each group into one tensor; they are windows onto it from then on.

    What writes to a weight has to write in place. Every weight is to have a gradient at every step, or none has: one
    that is missing counts as zeros, where the optimiser would have left the weight alone.
    """

    def __init__(self, groups: Sequence[Mapping[str, Any]]) -> None:
        """`groups` as an optimiser takes them: {"params": weights, …}; `self.groups` are to be given to it instead."""
        places = {weight: place for place, weight in enumerate(each for group in groups for each in group["params"])}
        members = [_members(group["params"]) for group in groups]
        self.groups: list[dict[str, Any]] = [
            {**group, "params": [_joined(each) for each in lists]} for group, lists in zip(groups, members)
        ]
        self.weights: list[nn.Parameter] = [weight for group in self.groups for weight in group["params"]]
        """Those that the optimiser has."""
        self._members = [each for lists in members for each in lists]
        """What each of them is made of: itself, if it is large or alone."""
        self._places = [[places[member] for member in each] for each in self._members]
        """The numbers of these, had the optimiser got them."""

    def gather(self) -> None:
        """Gives the joined weights the gradients of their members."""
        for weight, members in zip(self.weights, self._members):
            if len(members) == 1:
                continue
            gradients = [member.grad for member in members]
            if any(gradient is not None for gradient in gradients):
                weight.grad = flattened(
                    [torch.zeros_like(m) if gradient is None else gradient for m, gradient in zip(members, gradients)]
                )

    def split(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """An optimiser's `state_dict` as it were for the weights by themselves; tensors are windows, not copies."""
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
        """The inverse of `split`, whether or not the weights were joined in the run that wrote it."""
        kept = [[state["state"].get(place, {}) for place in places] for places in self._places]
        found = {
            index: {key: _whole([each[key] for each in parts]) for key in parts[0]}
            for index, parts in enumerate(kept)
            if all(parts)
        }
        numbers = iter(range(len(self.weights)))
        groups = [
            {**told, "params": [next(numbers) for _ in group["params"]]}
            for told, group in zip(state["param_groups"], self.groups, strict=True)
        ]
        return {"state": found, "param_groups": groups}


def _members(weights: Sequence[nn.Parameter]) -> list[list[nn.Parameter]]:
    """The small ones together, each other one by itself. What is joined is of one device and kind of number."""
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
    """A tensor over all members' numbers as one for each; anything else, as a count of steps, is the same for all."""
    sizes = [member.numel() for member in members]
    if not isinstance(value, Tensor):
        return [value] * len(members)
    if value.numel() != sum(sizes):  # each is to count its steps by itself
        return [value.clone() for _ in members]
    return [part.view(member.shape) for part, member in zip(value.view(-1).split(sizes), members)]


def _whole(parts: Sequence[Any]) -> Any:
    """The inverse of `_parts`."""
    if len(parts) == 1 or not isinstance(parts[0], Tensor) or parts[0].dim() == 0:
        return parts[0]
    return flattened(parts)
