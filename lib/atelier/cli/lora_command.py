"""`run.py lora check|convert|resize|merge|extract`: tools for LoRA files, without training."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atelier.config.errors import AtelierError, shortened

if TYPE_CHECKING:
    from atelier.models.family import Parts


MOST_SHOWN = 10
"""Layers of one fault that `check` lists."""


def run(arguments: list[str]) -> int:
    """Returns 0, or 1 when `check` finds a fault. Raises `AtelierError` for a file that does not fit.

    No file is overwritten.
    """
    parser = argparse.ArgumentParser(prog="run.py lora", description=__doc__)
    tools = parser.add_subparsers(dest="tool", required=True, metavar="check|convert|resize|merge|extract")
    check = tools.add_parser("check", help="which keys of a LoRA match a base, norms, NaN")
    check.add_argument("lora")
    check.add_argument("--base", help="the checkpoint to compare it with")
    convert = tools.add_parser("convert", help="between kohya's layout and PEFT's")
    convert.add_argument("lora")
    convert.add_argument("--to", choices=("kohya", "peft"), required=True)
    convert.add_argument("--base", required=True, help="the checkpoint that it belongs to")
    resize = tools.add_parser("resize", help="fewer ranks, by singular values")
    resize.add_argument("lora")
    resize.add_argument("--rank", type=int, required=True)
    resize.add_argument("--energy", type=float, help="keep this share (0 to 1) with as few ranks as possible")
    merge = tools.add_parser("merge", help="a LoRA into a checkpoint")
    merge.add_argument("lora")
    merge.add_argument("--base", required=True)
    merge.add_argument("--weight", type=float, default=1.0)
    extract = tools.add_parser("extract", help="a LoRA from the difference of two checkpoints")
    extract.add_argument("tuned")
    extract.add_argument("--base", required=True)
    extract.add_argument("--rank", type=int, default=32)
    extract.add_argument("--energy", type=float, help="keep this share (0 to 1) with as few ranks as possible")
    for tool in (convert, resize, merge, extract):
        tool.add_argument("--out", required=True, help="the file to write")
        tool.add_argument("--precision", choices=("fp16", "bf16", "float"), default="fp16")
    options = parser.parse_args(arguments)
    if options.tool != "check" and Path(options.out).exists():
        raise AtelierError(f"{options.out} exists already. Choose another name.")
    return {"check": _check, "convert": _convert, "resize": _resize, "merge": _merge, "extract": _extract}[
        options.tool
    ](options)


def _base(path: str) -> Parts:
    from atelier.models.checkpoints.load import load_checkpoint

    return load_checkpoint(Path(path).expanduser()).parts


def _dtype(options: argparse.Namespace) -> Any:
    import torch

    return {"fp16": torch.float16, "bf16": torch.bfloat16, "float": torch.float32}[options.precision]


def _write(options: argparse.Namespace, tensors: dict[str, Any], metadata: dict[str, str]) -> int:
    from atelier.adapters.files.kohya_file import save_lora

    save_lora(Path(options.out), {name: tensor.to(_dtype(options)) for name, tensor in tensors.items()}, metadata)
    print(f"Wrote {options.out}: {len(tensors)} tensors.")
    return 0


def _check(options: argparse.Namespace) -> int:
    from atelier.adapters.files.kohya_file import read_lora
    from atelier.adapters.tools.check import check_lora

    found = check_lora(read_lora(options.lora), _base(options.base) if options.base else None)
    print(f"kind {found.kind}, layout {found.layout}, family {found.family}, ranks {_ranks(found.ranks)}")
    for label, norm in found.norms.items():
        print(f"  {label:<16} norm {norm:.4f}")
    foreign = "not of this base" if options.base else "not of a LoRA"
    for name, keys in (("NaN", found.broken), (foreign, found.unmatched), ("no effect", found.silent)):
        if keys:
            print(f"{name}: {len(keys)}, such as {shortened(keys[0])}")
    if found.unfitting:
        print(f"of another shape than in this base: {len(found.unfitting)}")
        for layer in found.unfitting[:MOST_SHOWN]:
            print(f"  {layer}")
        if len(found.unfitting) > MOST_SHOWN:
            print(f"  and {len(found.unfitting) - MOST_SHOWN} more")
    if options.base:
        print(f"{found.matched} of {found.layers} layers match.")
    if not found.layers or found.kind == "unknown":
        print("It has no layer of a LoRA.")
        return 1
    return 1 if found.broken or (options.base and not found.usable) else 0


def _ranks(counts: dict[int, int]) -> str:
    """{rank: number of layers}, in short where there are many."""
    if len(counts) <= MOST_SHOWN:
        return str(counts)
    return f"{min(counts)} to {max(counts)}, {len(counts)} different ones"


def _convert(options: argparse.Namespace) -> int:
    from atelier.adapters.files.kohya_file import read_lora
    from atelier.adapters.tools.exchange import to_kohya, to_peft

    file = read_lora(options.lora)
    file.check_finite()
    found = (to_kohya if options.to == "kohya" else to_peft)(_base(options.base), file)
    if found.unknown:
        print(f"{len(found.unknown)} keys belong to no layer and were left out, such as {shortened(found.unknown[0])}.")
    return _write(options, found.tensors, file.metadata)


def _resize(options: argparse.Namespace) -> int:
    from atelier.adapters.files.kohya_file import read_lora
    from atelier.adapters.tools.exchange import with_alphas_inside
    from atelier.adapters.tools.resize import resize

    file = read_lora(options.lora)
    file.check_finite()
    tensors, metadata = with_alphas_inside(file)
    found = resize(tensors, options.rank, energy=options.energy)
    print(f"{found.kept:.1%} of its strength is kept.")
    labels = {"ss_network_dim": found.label, "ss_network_alpha": found.alpha_label}
    return _write(options, found.tensors, {**metadata, **labels})


def _merge(options: argparse.Namespace) -> int:
    from atelier.training.outputs.lora_tools import merge_lora

    base = Path(options.base).expanduser()
    made = merge_lora(Path(options.lora), base, Path(options.out), options.weight, options.precision)
    print(f"Wrote {made.report}")
    return 0


def _extract(options: argparse.Namespace) -> int:
    from atelier.training.outputs.lora_tools import extract_lora_file

    tuned, base = Path(options.tuned).expanduser(), Path(options.base).expanduser()
    made = extract_lora_file(tuned, base, Path(options.out), options.rank, options.energy, options.precision)
    print(f"Wrote {made.report}")
    return 0
