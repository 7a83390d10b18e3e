"""What the extension adds to the start of an AUTOMATIC1111-like WebUI, by the WebUI's own clock.

    python tests/webui/measurements/start_time.py PAIRS COMMAND

COMMAND starts the WebUI, on a free port. It is started in turn as it is and with --disable-extra-extensions, PAIRS
times each after one start of either that does not count, and ended as soon as it says how long that took. No other
extension should be installed.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import statistics
import subprocess
import sys

WITHOUT = "--disable-extra-extensions"
TOLD = re.compile(r"Startup time: ([\d.]+)s")
PART = re.compile(r"([\w ]+): ([\d.]+)s")


def start(command: list[str]) -> dict[str, float]:
    """Seconds of one start, in all ("") and by the parts that the WebUI tells. Raises RuntimeError if it ends first."""
    running = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", start_new_session=True
    )
    assert running.stdout is not None
    try:
        for line in running.stdout:
            found = TOLD.search(line)
            if found:
                parts = {name.strip(): float(seconds) for name, seconds in PART.findall(line[found.end() :])}
                return {"": float(found.group(1)), **parts}
    finally:
        os.killpg(running.pid, signal.SIGKILL)
        running.wait()
    raise RuntimeError(f"{shlex.join(command)} ended before it had started")


def main(pairs: int, command: list[str]) -> None:
    start(command), start([*command, WITHOUT])
    both = [(start(command), start([*command, WITHOUT])) for _ in range(pairs)]
    for part in both[0][0]:
        added = [ours.get(part, 0.0) - without.get(part, 0.0) for ours, without in both]
        took = statistics.median([ours.get(part, 0.0) for ours, _ in both])
        print(f"{part or 'in all'}: {took:.1f} s, the extension adds {statistics.median(added):+.1f} s, {added}")


if __name__ == "__main__":
    main(int(sys.argv[1]), shlex.split(sys.argv[2]))
