"""What the operating system counts of a process's memory."""

from __future__ import annotations

from pathlib import Path


def status(name: str, process: str = "self") -> int:
    """VmRSS (now) or VmHWM (at its highest) of a process in bytes. Raises `OSError` where there is no such thing."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    raise OSError(f"{name} is not in /proc/{process}/status")


def forget_highest(process: str = "self") -> None:
    """VmHWM begins anew, at what the process has now."""
    Path(f"/proc/{process}/clear_refs").write_text("5")
