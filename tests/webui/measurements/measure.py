"""The figures of docs/hosts.md, measured in a running WebUI without a GPU on the machine it runs on.

    python tests/webui/measurements/measure.py URL DIR PID

URL and DIR as for run.py test; PID is the WebUI's process, whose memory is watched. The page is built anew once before
and the script that looks into the process is taken out afterwards.
"""

from __future__ import annotations

import statistics
import sys
import time
import uuid
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(ROOT), str(ROOT / "lib")]

from tests.support.process_memory import forget_highest, status  # noqa: E402
from tests.webui.hosts import WebUI, wait  # noqa: E402
from tests.webui.probe import probed  # noqa: E402

STEPS = 20
SCRIPT = '''
from modules import script_callbacks


def steps(pairs: int = 9):
    """Seconds of our step and of the bare loop on the same lent UNet, taken in turn."""
    import tempfile
    from pathlib import Path

    from atelier.bench.models import Shape
    from atelier.bench.steps import Case, begun_session, in_turn
    from atelier.hosts.detect import detect

    case = Case(Shape("loaded", "sd1", 64), rank=16)
    with tempfile.TemporaryDirectory() as name, begun_session(detect(), case, pairs, Path(name)) as session:
        session.take_step()
        ours, bare = in_turn(session, case, pairs)
        session.watch.on = True
        session.advance()
        return {{"ours": ours, "bare": bare, "parts": dict(session.watch.seconds)}}


def copied():
    """Bytes of the lent parts, and of those the ones that are not the WebUI's own memory."""
    from atelier.hosts.detect import detect

    {model_code}
    {roots_code}
    own = {{value.untyped_storage().data_ptr() for root in roots for value in root.parameters()}}
    lent = other = tensors = 0
    host = detect()
    with host.lease(frozenset(("unet", "text_encoder", "vae"))) as parts:
        for module in (parts.denoiser, *parts.text_encoders, parts.vae):
            for value in module.parameters():
                size = value.numel() * value.element_size()
                tensors += 1
                lent += size
                other += 0 if value.untyped_storage().data_ptr() in own else size
    return {{"tensors": tensors, "lent": lent, "copied": other}}


def routes(page, app):
    app.add_api_route("/atelier-test-steps", steps, methods=["GET"])
    app.add_api_route("/atelier-test-copied", copied, methods=["GET"])


script_callbacks.on_app_started(routes)
'''


def main(address: str, folder: str, pid: str) -> None:
    """Prints one figure a line."""
    webui = WebUI(address, Path(folder))
    subject = ROOT / "assets" / "demo" / "subject"
    with probed(webui, SCRIPT):
        print("checkpoint", webui.checkpoint()["title"])
        print("lent", webui.ask("/atelier-test-copied"))
        began = time.monotonic()
        webui.draw(steps=2)
        picture = time.monotonic() - began
        print(f"a picture of 2 steps, idle: {picture:.1f} s")
        idle = status("VmRSS", pid)
        forget_highest(pid)
        name = "m" + uuid.uuid4().hex[:6]
        began = time.monotonic()
        run = webui.train(name, subject, max_train_steps=STEPS, network_dim=16)
        wait(lambda: webui.job(run)["step"] >= 1, "the first step")
        print(f"Train to the end of the first step: {time.monotonic() - began:.1f} s")
        wait(lambda: webui.job(run)["step"] >= STEPS, "the last step")
        ended = time.monotonic()
        webui.until(run)
        # Read before the picture: many WebUIs keep a second copy of every weight that a LoRA of a prompt changes.
        trained = status("VmHWM", pid)
        webui.draw(f"a red circle <lora:{name}:1>", steps=2)
        print(f"last step to a picture with the LoRA: {time.monotonic() - ended:.1f} s")
        print(f"peak of training over idle: {(trained - idle) / 2**20:.0f} MB over {idle / 2**20:.0f} MB")
        print(f"and with the picture: {(status('VmHWM', pid) - idle) / 2**20:.0f} MB")
        rows = webui.ask(f"/atelier/v1/jobs/{run}/events?since=0&losses=")
        print(f"seconds a step: {rows['progress']['seconds_per_step']:.2f}" if "progress" in rows else list(rows))
        answer = webui.ask("/atelier-test-steps")
        ours, bare = answer["ours"], answer["bare"]
        ratio = statistics.median(our / floor for our, floor in zip(ours, bare))
        medians = [f"{name} {statistics.median(taken):.2f} s" for name, taken in (("our step", ours), ("bare", bare))]
        print(f"in turn: {', '.join(medians)}; ratio {ratio:.3f}")
        print("parts of our step:", {part: round(seconds, 3) for part, seconds in answer["parts"].items()})


if __name__ == "__main__":
    main(*sys.argv[1:4])
