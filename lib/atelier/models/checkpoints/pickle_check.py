"""Checks a pickle before it is read, since a few bytes can keep Python busy for ever or fill its memory."""

from __future__ import annotations

import pickletools
from typing import IO

DEEPEST = 16
"""Most nested tuples; PyTorch nests three. A tuple of the same tuple twice, and so on, is hashed 2^levels times."""
_TUPLES = ("TUPLE", "TUPLE1", "TUPLE2", "TUPLE3")
_MADE = (*_TUPLES, "REDUCE", "BUILD", "NEWOBJ", "NEWOBJ_EX", "OBJ", "INST", "BINPERSID", "FROZENSET")
"""Operations that make an object, which may be a key, from other objects."""
_MARK = -1


def is_harmless(file: IO[bytes]) -> bool:
    """Reads the next pickle of a file without creating its objects. False when the pickle

    - uses a memo number beyond its own length, since Python would allocate memory up to that number, or
    - nests tuples, or objects made of tuples, deeper than `DEEPEST`.

    Raises whatever pickletools raises for data that is no pickle (ValueError and others).
    """
    stack: list[int] = []
    """Depth of each object on the stack; `_MARK` for a mark."""
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
    """Removes the arguments of an operation from the stack; None when there are too few."""
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
