"""Reads text of which nobody says in which encoding it is: caption files and prompts.

UTF-8 and UTF-16 with a byte order mark are certain. Anything else is guessed: the text is decoded in every encoding
that is usual in such files, and the one whose text is most probable wins. The probabilities are those of single
characters in some languages. So a guess says how sure it is, and the caller can tell the person what was guessed.
"""

from __future__ import annotations

import codecs
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from atelier.config.files.text_languages import LANGUAGES, ascii_bits

SCORED = 4000
"""Bytes that a guess looks at. A caption that long shows its language."""
MARGIN = 10.0
"""Bits between the most probable text and the next one, from which on a guess counts as sure."""
WESTERN_MARGIN = 2.5
"""The same for Windows-1252, where one accented letter in a text is all that there is to see."""
UNKNOWN, UNKNOWN_LATIN = 8.0, 17.0
"""Bits of a byte above 127 in a text that is of none of the languages; of one among letters of ASCII."""
WESTERN = "cp1252"
_LATIN = (WESTERN, "cp1250", "cp1254")
_NAMES = {
    "gb18030": "GBK", "big5hkscs": "Big5", "cp932": "Shift-JIS", "euc_jp": "EUC-JP", "cp949": "EUC-KR",
    "koi8_u": "KOI8", "cp866": "DOS 866", "utf_16_le": "UTF-16", "utf_16_be": "UTF-16", "iso2022_jp_2": "ISO-2022-JP",
    "iso2022_kr": "ISO-2022-KR", "utf_8": "UTF-8", "latin_1": "Latin-1",
}  # fmt: skip


@dataclass(frozen=True)
class Guess:
    """A text and the codec that it was read with. `sure`: nothing else is nearly as probable.

    `damaged`: some of its bytes are no text, or letters were lost before. `bits`: how improbable the text is in each
    codec that can read it; empty for a text that needed no guess.
    """

    text: str
    codec: str = "utf_8"
    sure: bool = True
    damaged: bool = False
    bits: Mapping[str, float] = field(default_factory=dict, compare=False, repr=False)
    data: bytes = field(default=b"", compare=False, repr=False)

    @property
    def encoding(self) -> str:
        """The encoding's name for people."""
        return _NAMES.get(self.codec) or self.codec.replace("cp", "Windows-")

    @property
    def silent(self) -> bool:
        """True when the person need not be told: a certain encoding, or the accents of a western language."""
        return self.sure and not self.damaged and (not self.bits or self.codec == WESTERN)


def read_unknown_text(data: bytes, cut: bool = False) -> Guess:
    """The text in `data`. `cut`: reading stopped somewhere, maybe in the middle of a character. Never raises."""
    for mark, codec in _MARKS:
        if data.startswith(mark):
            return _lossy(data[len(mark) :], codec, cut)
    if _two_bytes_each(data):
        return _lossy(data, "utf_16_le" if data[1::2].count(0) else "utf_16_be", cut)
    if b"\x1b" in data:
        for codec in ("iso2022_jp_2", "iso2022_kr"):
            text = _decoded(data, codec, cut)
            if text is not None and not text.isascii():
                return Guess(text, codec, bits={codec: 0.0}, data=data)
    text = _decoded(data, "utf_8", cut)
    if text is not None and not _is_binary(data):
        return Guess(text, damaged="\ufffd" in text)
    return _damaged_utf8(data) or _guessed(data, cut)


def agreed(guesses: Sequence[Guess]) -> list[Guess]:
    """The guesses again, each in the encoding that fits all of them best together: files of one folder are alike.

    A text that this encoding cannot read, or that is far more probable in another one, keeps its own.
    """
    uncertain = [guess for guess in guesses if guess.bits and guess.data]
    if len(uncertain) < 2:
        return list(guesses)
    codecs_of_all = set().union(*(guess.bits for guess in uncertain))
    total = {
        codec: sum(guess.bits.get(codec, max(guess.bits.values()) + MARGIN) for guess in uncertain)
        for codec in codecs_of_all
    }
    order = sorted(total, key=lambda codec: (total[codec], codec))
    if order[0] == WESTERN:  # nothing that is none by itself is read so: that would be in silence
        return list(guesses)
    plausible = total[order[0]] < sum(_of_none(guess.data, order[0]) for guess in uncertain)
    return [_in_codec(guess, order, total, plausible) if guess.bits and guess.data else guess for guess in guesses]


def _in_codec(guess: Guess, order: Sequence[str], total: Mapping[str, float], plausible: bool) -> Guess:
    """The guess in the first codec of `order`. `plausible`: all texts together are more probable in it than in none."""
    best = order[0]
    if best not in guess.bits or guess.bits[best] - guess.bits.get(guess.codec, 0.0) > 2 * MARGIN:
        return guess
    if best == guess.codec and guess.sure:
        return guess
    text = _decoded(guess.data, best, True)
    if text is None:
        return guess
    others = [total[codec] for codec in order[1:] if _decoded(guess.data, codec, True) not in (None, text)]
    sure = not others or others[0] - total[best] >= MARGIN
    return Guess(text, best, sure and plausible, False, guess.bits, guess.data)


_MARKS = (
    (codecs.BOM_UTF8, "utf_8"),
    (codecs.BOM_UTF32_LE, "utf_32_le"),
    (codecs.BOM_UTF32_BE, "utf_32_be"),
    (codecs.BOM_UTF16_LE, "utf_16_le"),
    (codecs.BOM_UTF16_BE, "utf_16_be"),
)
"""Byte order marks, the longer ones first."""


def _lossy(data: bytes, codec: str, cut: bool) -> Guess:
    text = codecs.getincrementaldecoder(codec)("replace").decode(data, not cut)
    return Guess(text, codec, damaged="\ufffd" in text)


def _two_bytes_each(data: bytes) -> bool:
    """True for UTF-16 without a byte order mark in which some letters are ASCII: every other byte of these is 0."""
    zeros = (data[0::2].count(0), data[1::2].count(0))
    return len(data) % 2 == 0 and min(zeros) == 0 and max(zeros) * 8 >= len(data) > 0


def _is_binary(data: bytes) -> bool:
    """True when too many bytes are control characters: UTF-16 without a byte order mark, of letters beyond ASCII."""
    return len(data) % 2 == 0 and sum(byte < 32 and byte not in b"\t\n\r" for byte in data) * 4 > len(data)


def _decoded(data: bytes, codec: str, cut: bool) -> str | None:
    try:
        return codecs.getincrementaldecoder(codec)("strict").decode(data, not cut)
    except UnicodeError:
        return None


def _damaged_utf8(data: bytes) -> Guess | None:
    """UTF-8 in which single bytes are wrong, as when a letter was cut in two; None when it is none."""
    text = data.decode("utf_8", "replace")
    bad = text.count("\ufffd")
    good = sum(letter > "\u07ff" for letter in text) - bad  # letters of three bytes and more occur by no accident
    return Guess(text.replace("\ufffd", ""), damaged=True) if good >= 2 * bad and good > 1 else None


def _guessed(data: bytes, cut: bool) -> Guess:
    bits: dict[str, float] = {}
    texts: dict[str, str] = {}
    sample, part = data[:SCORED], cut or len(data) > SCORED
    for language in LANGUAGES:
        for codec in language.codecs:
            text = _decoded(sample, codec, part)
            if text is not None:
                score = language.bits_of(text)
                if score < bits.get(codec, float("inf")):
                    bits[codec], texts[codec] = score, text
    whole = {codec: found for codec in bits if (found := _decoded(data, codec, True)) is not None}
    if not whole:
        return Guess(data.decode("latin_1"), "latin_1", False, True, {"latin_1": _of_none(data, WESTERN)}, data)
    best = min(whole, key=lambda codec: (bits[codec], codec))
    if whole.get(WESTERN) == whole[best]:
        best = WESTERN
    others = [bits[codec] for codec in whole if texts[codec] != texts[best]]
    margin = WESTERN_MARGIN if best == WESTERN else MARGIN
    sure = min(others, default=float("inf")) - bits[best] >= margin and bits[best] < _of_none(sample, best)
    return Guess(whole[best], best, sure, False, bits, data)


def _of_none(data: bytes, codec: str) -> float:
    """The bits of a text in none of the languages: a guess must be better than that."""
    unknown = UNKNOWN_LATIN if codec in _LATIN else UNKNOWN
    return sum(unknown if byte > 127 else ascii_bits(chr(byte)) for byte in data[:SCORED])
