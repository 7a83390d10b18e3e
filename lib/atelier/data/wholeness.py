"""Detects pictures that are cut short, without decoding them, by the end of the file."""

from __future__ import annotations

from pathlib import Path

from atelier.data.images import open_picture, picture_size

_TAIL = 64
_MOST_BOXES = 1000


def check_picture(path: Path) -> tuple[int, int]:
    """(width, height) of a picture that seems complete. A file with a suspicious end is decoded to be sure.

    Raises `AtelierError` when the picture cannot be decoded to its end.
    """
    size = picture_size(path)
    if not _ends_well(path):
        open_picture(path)
    return size


def _ends_well(path: Path) -> bool:
    """False when the file may be cut short. Formats without a known end are suspicious."""
    try:
        with path.open("rb") as file:
            head = file.read(32)
            length = file.seek(0, 2)
            file.seek(max(0, length - _TAIL))
            tail = file.read()
    except OSError:
        return False
    if head.startswith(b"\x89PNG"):
        return b"IEND" in tail
    if head.startswith(b"\xff\xd8"):
        return b"\xff\xd9" in tail
    if head.startswith(b"RIFF"):
        return length >= 8 + int.from_bytes(head[4:8], "little")
    if head.startswith(b"GIF8"):
        return tail.rstrip(b"\x00").endswith(b";")
    if head[4:8] == b"ftyp" or head[4:8] == b"JXL ":
        return _boxes_end_well(path, length)
    if head.startswith(b"BM"):
        return length >= int.from_bytes(head[2:6], "little") > 0
    return False


def _boxes_end_well(path: Path, length: int) -> bool:
    """True when the boxes of an ISO base media file (AVIF, HEIC, JPEG XL) end where the file ends."""
    place = 0
    try:
        with path.open("rb") as file:
            for _ in range(_MOST_BOXES):
                if place == length:
                    return True
                file.seek(place)
                head = file.read(16)
                size = int.from_bytes(head[:4], "big")
                if size == 1:
                    size = int.from_bytes(head[8:16], "big")
                if size < 8 or len(head) < 8:  # 0 is a box up to the end, however much of it is there
                    return False
                place += size
    except OSError:
        return False
    return False
