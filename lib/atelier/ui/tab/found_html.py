"""The summary of the pictures as HTML: counts, thumbnails, sizes, captions and problems."""

from __future__ import annotations

import hashlib
import html
from collections.abc import Sequence

from atelier.ui.tab.preview_data import Found, FoundPicture
from atelier.ui.tab.thumbnails import thumbnail

MOST_THUMBNAILS = 24
MOST_PROBLEMS = 12
MOST_BUCKETS = 8
UNCAPTIONED = '<span class="atelier-uncaptioned">no caption</span>'


def nothing_yet() -> str:
    """The summary before there are any pictures."""
    return (
        '<section class="atelier-found" aria-label="Pictures found">'
        '<p class="atelier-quiet">Your pictures will be shown here, with their sizes, their captions and any '
        "problems.</p></section>"
    )


def found_html(found: Found, name_note: str, memory: str | None = "") -> str:
    """Counts, thumbnails, sizes, three captions and problems, below a line that can be folded to.

    `memory`: sentences about the memory that the run needs, "" when it is not known, None while it is being computed.
    The page's script then asks for it and fills it in.
    """
    problems = [*filter(None, [name_note]), *_shortened(found.problems, MOST_PROBLEMS)]
    parts = [_list("atelier-problems", problems)] if problems else []
    parts.append(_thumbnails(found.pictures))
    if found.examples:
        parts.append("<h4>Captions as the model gets them</h4>")
        parts.append(
            _list("atelier-captions", [f"“{text}”" if text else "(an empty caption)" for text in found.examples])
        )
    if found.buckets:
        parts.append("<h4>Sizes</h4>")
        sizes = [_bucket(f"{width}×{height}", count) for (width, height), count in found.buckets]
        parts.append(_list("atelier-buckets", _shortened(sizes, MOST_BUCKETS)))
    parts += [_list("atelier-notes", found.notes)] if found.notes else []
    parts.append(_WORKED_OUT if memory is None else _quiet(memory))
    return (
        f'<details class="atelier-found" aria-label="Pictures found" data-pictures="{_signature(found)}" open>'
        f'<summary><span class="atelier-count" role="status">{html.escape(_summary(found))}</span>'
        f"{_problem_count(len(found.problems) + bool(name_note))}</summary>"
        f'<div class="atelier-found-more">{"".join(parts)}</div></details>'
    )


_WORKED_OUT = '<p class="atelier-quiet atelier-worked-out">Working out how much memory this needs …</p>'


def _signature(found: Found) -> str:
    """Another text for other pictures."""
    names = "\n".join(str(picture.path) for picture in found.pictures)
    return hashlib.sha256(names.encode("utf-8", "replace")).hexdigest()[:16]


def _problem_count(count: int) -> str:
    if not count:
        return ""
    words = "1 thing to look at" if count == 1 else f"{count} things to look at"
    return f'<span class="atelier-problem-count">{words}</span>'


def _bucket(size: str, count: int) -> str:
    return f"{size}: 1 picture" if count == 1 else f"{size}: {count} pictures"


def _summary(found: Found) -> str:
    words = ["1 picture" if found.count == 1 else f"{found.count} pictures"]
    words.append(f"{found.captioned} of {found.count} captioned")
    if found.class_count:
        words.append(f"{found.class_count} class pictures")
    if found.steps:
        words.append(f"{found.steps} steps")
    return ", ".join(words) + "."


def _thumbnails(pictures: Sequence[FoundPicture]) -> str:
    cards = []
    for picture in pictures[:MOST_THUMBNAILS]:
        address = thumbnail(picture.path)
        name = html.escape(picture.path.name)
        shown = (
            f'<img src="{address}" alt="{name}" loading="lazy">' if address else '<span class="atelier-broken">?</span>'
        )
        size = f"{picture.size[0]}×{picture.size[1]}"
        cut = "" if picture.bucket == picture.size else f" → {picture.bucket[0]}×{picture.bucket[1]}"
        label = f"{picture.path.name}, {size}{cut}"
        cards.append(
            f'<li title="{html.escape(label)}">{shown}<span class="atelier-size">{html.escape(size + cut)}</span>'
            f"{'' if picture.captioned else UNCAPTIONED}</li>"
        )
    more = len(pictures) - MOST_THUMBNAILS
    after = f'<p class="atelier-quiet">… and {more} more.</p>' if more > 0 else ""
    return f'<ul class="atelier-thumbnails">{"".join(cards)}</ul>{after}' if cards else ""


def _list(name: str, lines: Sequence[str]) -> str:
    return f'<ul class="{name}">' + "".join(f"<li>{html.escape(line)}</li>" for line in lines) + "</ul>"


def _shortened(lines: Sequence[str], most: int) -> list[str]:
    if len(lines) <= most:
        return list(lines)
    return [*lines[: most - 1], f"… and {len(lines) - most + 1} more."]


def _quiet(text: str) -> str:
    return f'<p class="atelier-quiet">{html.escape(text)}</p>' if text else ""
