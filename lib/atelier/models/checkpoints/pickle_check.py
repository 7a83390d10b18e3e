"""Whether a pickle is what it looks like: a few bytes can keep Python busy, or its memory full, for ever."""

from __future__ import annotations

import pickletools
from typing import IO

DEEPEST = 16
"""Tuples within each other; PyTorch nests three. Twice the same in each of many levels is hashed 2^levels times."""
_TUPLES = ("TUPLE", "TUPLE1", "TUPLE2", "TUPLE3")
_MADE = (*_TUPLES, "REDUCE", "BUILD", "NEWOBJ", "NEWOBJ_EX", "OBJ", "INST", "BINPERSID", "FROZENSET")
"""What makes something that can be a key out of others."""
_MARK = -1


def is_harmless(file: IO[bytes]) -> bool:
    """Reads the next pickle of a file without making anything of it. False for one that

    - keeps something under a number beyond its own length, for which Python makes room up to there, or
    - nests tuples, or objects made of them, deeper than `DEEPEST`.

    Raises whatever pickletools raises for what is no pickle (ValueError and others).
    """
    stack: list[int] = []
    """How deep each thing is nested; `_MARK` for a mark."""
    memo: dict[int, int] = {}
    for count, (opcode, number, _) in enumerate(pickletools.genops(file)):
        name = opcode.name
        if name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            place = len(memo) if name == "MEMOIZE" else int(number or 0)
            if place > count or not stack:
                return False
            memo[place] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(memo.get(int(number or 0), 0))
        elif name == "MARK":
            stack.append(_MARK)
        else:
            taken = _take(stack, opcode)
            if taken is None:
                return False
            deepest = max(taken, default=0)
            depth = deepest + (name in _MADE) if name in _MADE or name == "DUP" else 0
            if depth > DEEPEST:
                return False
            stack += [depth] * len(opcode.stack_after)
    return True


def _take(stack: list[int], opcode: pickletools.OpcodeInfo) -> list[int] | None:
    """Takes off the stack what an operation takes; None where that is more than there is."""
    before = opcode.stack_before
    taken: list[int] = []
    if pickletools.markobject in before:
        while stack and stack[-1] != _MARK:
            taken.append(stack.pop())
        if not stack:
            return None
        stack.pop()
        before = before[: before.index(pickletools.markobject)]
    if len(stack) < len(before):
        return None
    for _ in before:
        taken.append(stack.pop())
    return taken if _MARK not in taken else None
