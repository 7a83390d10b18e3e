"""Changes to files, from one byte to whole pieces: what a damaged or hostile file can look like."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence

LARGEST = 200_000
"""Bytes that a mutated file may have."""
NUMBER = re.compile(rb"-?\d+(?:\.\d+)?")
WORD = re.compile(rb"[A-Za-z_][A-Za-z0-9_.-]{2,}")
EXTREMES = (
    b"0", b"-1", b"1e999", b"-1e-999", b"NaN", b"Infinity", b"2147483648", b"18446744073709551616", b"9" * 400,
    b"0.1", b"true", b"null", b'""', b"[]", b"{}", b"1979-05-27",
)  # fmt: skip
PIECES = (
    b"../../../etc/passwd", b"C:\\NUL", b"\\\\server\\share", b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b"\xed\xa0\x80",
    "ﷺ\u202e\U0001f98a".encode(), b"<script>alert(1)</script>", b"'''", b'"""', b"[[", b"]]", b"{" * 300, b"[" * 300,
    b"(" * 300, b"[" * 100_000, b"[[a]]\n" * 20_000, b"a.b.c=1\n" * 99, b'{"a":' * 900,
    b"\\u0000", b"\\ud800", b"%s%n", b"\r\n", b"=", b":", b",", b"|", b"--", b"{a|b}", b"inf", b"__class__",
)  # fmt: skip

Mutation = Callable[[random.Random, bytes, Sequence[bytes]], bytes]


def flip_bits(draws: random.Random, content: bytes, seeds: Sequence[bytes]) -> bytes:
    changed = bytearray(content)
    for _ in range(draws.choice((1, 1, 2, 8))):
        changed[draws.randrange(len(changed))] ^= 1 << draws.randrange(8)
    return bytes(changed)


def other_bytes(draws: random.Random, content: bytes, seeds: Sequence[bytes]) -> bytes:
    at, count = draws.randrange(len(content)), draws.choice((1, 2, 4, 8))
    new = draws.choice((draws.randbytes(count), b"\x00" * count, b"\xff" * count))
    return content[:at] + new + content[at + count :]


def cut(draws: random.Random, content: bytes, seeds: Sequence[bytes]) -> bytes:
    return content[: draws.randrange(len(content))]


def without_a_piece(draws: random.Random, content: bytes, seeds: Sequence[bytes]) -> bytes:
    at = draws.randrange(len(content))
    return content[:at] + content[at + draws.randint(1, 40) :]


def a_piece_twice(draws: random.Random, content: bytes, seeds: Sequence[bytes]) -> bytes:
    at = draws.randrange(len(content))
    piece = content[at : at + draws.randint(1, 60)]
    return content[:at] + piece * draws.choice((2, 3, 200)) + content[at:]


def spliced(draws: random.Random, content: bytes, seeds: Sequence[bytes]) -> bytes:
    other = draws.choice(seeds)
    return content[: draws.randrange(len(content))] + other[draws.randrange(len(other) + 1) :]


def inserted(draws: random.Random, content: bytes, seeds: Sequence[bytes]) -> bytes:
    at = draws.randrange(len(content) + 1)
    return content[:at] + draws.choice(PIECES) + content[at:]


def another_number(draws: random.Random, content: bytes, seeds: Sequence[bytes]) -> bytes:
    return _in_place(draws, content, NUMBER, draws.choice(EXTREMES))


def another_word(draws: random.Random, content: bytes, seeds: Sequence[bytes]) -> bytes:
    words = WORD.findall(draws.choice(seeds))
    return _in_place(draws, content, WORD, draws.choice(words) if words else b"x")


def lines_in_another_order(draws: random.Random, content: bytes, seeds: Sequence[bytes]) -> bytes:
    lines = content.split(b"\n")
    draws.shuffle(lines)
    return b"\n".join(lines)


MUTATIONS: tuple[Mutation, ...] = (
    flip_bits, other_bytes, cut, without_a_piece, a_piece_twice, spliced, inserted, another_number, another_word,
    lines_in_another_order,
)  # fmt: skip


VALUES: tuple[Mutation, ...] = (another_number, another_word)
"""Those after which a text mostly still has the form that it had."""


def mutated(draws: random.Random, seeds: Sequence[bytes], is_text: bool) -> bytes:
    """One of the seeds, changed in one to five ways; of a text every other time only its values."""
    content = draws.choice(seeds)
    ways = VALUES if is_text and draws.random() < 0.5 else MUTATIONS
    for _ in range(draws.choice((1, 1, 2, 3, 5))):
        if not content:
            return draws.randbytes(draws.randint(0, 40))
        content = draws.choice(ways)(draws, content, seeds)[:LARGEST]
    return content


def _in_place(draws: random.Random, content: bytes, pattern: re.Pattern[bytes], new: bytes) -> bytes:
    """`new` for one of the places where the pattern is found."""
    places = [found.span() for found in pattern.finditer(content)]
    if not places:
        return content
    start, stop = draws.choice(places)
    return content[:start] + new + content[stop:]
