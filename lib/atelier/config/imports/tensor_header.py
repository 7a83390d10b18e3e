"""Checks the entry of one tensor in the header of a .safetensors file."""

from __future__ import annotations

from typing import Any


def is_entry(entry: Any) -> bool:
    """True when the entry has a type, a shape, and the tensor's first and last byte."""
    if not isinstance(entry, dict) or not isinstance(entry.get("dtype"), str):
        return False
    shape, place = entry.get("shape"), entry.get("data_offsets")
    counts = all(
        isinstance(numbers, list) and all(type(n) is int and n >= 0 for n in numbers) for numbers in (shape, place)
    )
    return counts and len(entry["data_offsets"]) == 2
