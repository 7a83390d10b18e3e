"""Optimizers that need a package of their own: what an import says where it is missing."""

from __future__ import annotations

from importlib.util import find_spec

BITSANDBYTES = "bitsandbytes"
_IN_PLACE = {
    "adamw8bit": "AdamW", "pagedadamw": "AdamW", "pagedadamw8bit": "AdamW", "pagedadamw32bit": "AdamW",
    "lion8bit": "Lion", "pagedlion8bit": "Lion", "sgdnesterov8bit": "SGDNesterov",
}  # fmt: skip
"""Optimizers of bitsandbytes -> the one that trains in the same way, with more memory for its moments."""
_OTHERS = {
    "prodigy": ("prodigyopt", "pytorch_optimizer"), "lion": ("pytorch_optimizer",),
    **{f"{kind}schedulefree": ("schedulefree",) for kind in ("radam", "adamw", "sgd")},
    **{f"dadapt{kind}": ("pytorch_optimizer",)
       for kind in ("ation", "ationpreprint", "adampreprint", "adam", "adagrad", "adan", "adanip", "lion", "sgd")},
}  # fmt: skip
"""Other optimizers -> the packages of which one must be there."""


def missing_package(optimizer: str) -> str | None:
    """A sentence when the package that an optimizer needs is not installed, with what to choose instead."""
    name = optimizer.lower()
    if name in _IN_PLACE and not _installed(BITSANDBYTES):
        return (
            f"optimizer_type {optimizer} needs the package {BITSANDBYTES}, which is not installed here. Install it, or "
            f"set optimizer_type to {_IN_PLACE[name]}, which trains in the same way and needs more memory."
        )
    if "." in optimizer:
        return missing_class("optimizer_type", optimizer, "AdamW")
    packages = _OTHERS.get(name, ())
    if packages and not any(map(_installed, packages)):
        return (
            f"optimizer_type {optimizer} needs the package {packages[0]}, which is not installed here. Install it, or "
            "set optimizer_type to AdamW with a learning rate of 1e-4."
        )
    return None


def missing_class(key: str, path: str, instead: str) -> str | None:
    """A sentence when the package of a class, named as module.Class, is not installed."""
    package = path.partition(".")[0]
    if not package or _installed(package):
        return None
    return (
        f"{key} {path} needs the package {package}, which is not installed here. Install it, or set {key} to "
        f"{instead or 'nothing'}."
    )


def _installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except (ImportError, ValueError):  # a package that is there in part
        return False
