"""The facts about the pictures for a LoRA's metadata, under kohya's keys."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from atelier.data.scan import Picture, Scan


def dataset_dirs(pictures: Iterable[Picture]) -> dict[str, dict[str, int]]:
    """ss_dataset_dirs of `scan.training`, or ss_reg_dataset_dirs of `scan.regularisation`.

    {"10_cat": {"n_repeats": 10, "img_count": 6}}.
    """
    found: dict[str, dict[str, int]] = {}
    for picture in pictures:
        entry = found.setdefault(_folder(picture.subset.image_dir), {"n_repeats": picture.repeats, "img_count": 0})
        entry["img_count"] += 1
    return found


def tag_frequency(scan: Scan) -> dict[str, dict[str, int]]:
    """ss_tag_frequency: {"10_cat": {"fur": 6}}: how many captions of a folder have each tag, in lower case."""
    found: dict[str, Counter[str]] = {}
    for picture in scan.training:
        tags = found.setdefault(_folder(picture.subset.image_dir), Counter())
        tags.update(tag.strip().lower() for tag in picture.caption.replace("\n", ",").split(",") if tag.strip())
    return {folder: dict(tags) for folder, tags in found.items()}


def bucket_info(scan: Scan) -> dict[str, Any]:
    """ss_bucket_info: the buckets by number with their sizes and picture counts (with repeats), and the mean error."""
    counts: Counter[tuple[int, int]] = Counter()
    errors = []
    for picture in scan.pictures:
        counts[picture.bucket] += picture.repeats
        errors.append(abs(picture.bucket[0] / picture.bucket[1] - picture.size[0] / picture.size[1]))
    listed = enumerate(sorted(counts.items()))
    buckets = {str(number): {"resolution": list(size), "count": count} for number, (size, count) in listed}
    return {"buckets": buckets, "mean_img_ar_error": sum(errors) / len(errors) if errors else 0.0}


def _folder(path: str) -> str:
    return Path(path).name
