"""`run.py import FILE`: shows what a kohya TOML, a GUI preset or a LoRA file asks for, key by key."""

from __future__ import annotations

import argparse
import json
from typing import Any


def run(arguments: list[str]) -> int:
    """Returns 0 when the file can be used, else 1."""
    parser = argparse.ArgumentParser(prog="run.py import", description=__doc__)
    parser.add_argument("file", help="a training or dataset TOML, a kohya_ss JSON preset, or a LoRA .safetensors")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    options = parser.parse_args(arguments)

    from atelier.config.imports.importer import import_report

    report = import_report(options.file)
    report["notes"] = [*report["notes"], *_about_its_kind(report)]
    print(json.dumps(report, indent=2, ensure_ascii=False) if options.json else as_text(report))
    return 0 if report["usable"] else 1


def _about_its_kind(report: dict[str, Any]) -> list[str]:
    """Which WebUIs can use the kind of adapter that a file asks for; nothing for a plain LoRA."""
    settings = report["settings"]
    if not report["usable"] or settings.get("network_module") in (None, "networks.lora"):
        return []
    from atelier.adapters.usable import kind_text
    from atelier.config.errors import AtelierError
    from atelier.config.settings.schema import Settings

    try:
        text = kind_text(Settings(**settings), "")
    except AtelierError as error:
        text = str(error)
    return [text] if text else []


def as_text(report: dict[str, Any]) -> str:
    """The report as lines for a terminal."""
    lines = [f"{report['file']}: {report['kind'] or 'not readable'}"]
    width = max((len(key["key"]) for key in report["keys"]), default=0)
    for key in report["keys"]:
        note = f" ({key['note']})" if key.get("note") else ""
        lines.append(f"  {key['key']:<{width}}  {key['verdict']}: {key['value']!r}{note}")
    lines += [f"note: {note}" for note in report["notes"]]
    lines += [f"problem: {problem}" for problem in report["problems"]]
    lines.append("It can be used." if report["usable"] else "It cannot be used as it is.")
    return "\n".join(lines)
