"""What the header of a .safetensors file must say of each tensor."""

from __future__ import annotations

from typing import Any


def is_entry(entry: Any) -> bool:
    """True for a type, a shape, and where the tensor begins and ends."""
    if not isinstance(entry, dict) or not isinstance(entry.get("dtype"), str):
        return False
    shape, place = entry.get("shape"), entry.get("data_offsets")
    counts = all(isinstance(each, list) and all(type(n) is int and n >= 0 for n in each) for each in (shape, place))
    return counts and len(entry["data_offsets"]) == 2
