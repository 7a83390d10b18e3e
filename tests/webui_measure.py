"""The figures of docs/hosts.md, measured in a running WebUI without a GPU on the machine it runs on.

    python tests/webui_measure.py URL DIR PID

URL and DIR as for run.py test; PID is the WebUI's process, whose memory is watched. The page is built anew once before
and the script that looks into the process is taken out afterwards.
"""

from __future__ import annotations

import sys
import time
import uuid
from pathlib import Path

from process_memory import forget_highest, status
from webui_hosts import WebUI, wait
from webui_probe import probed

STEPS = 20
SCRIPT = '''
import time
import torch
from modules import script_callbacks


def bare(size: int = 8, repeats: int = 9):
    """Seconds of the lent UNet alone: forward and backward of one picture, no weight in training."""
    from atelier.hosts.detect import detect

    took = []
    lease = detect().lease(frozenset(("unet",)))
    with lease as parts, lease.turn(), torch.enable_grad():
        states = torch.randn(1, 77, parts.unet.config.cross_attention_dim)
        for _ in range(repeats + 1):
            picture = torch.randn(1, 4, size, size, requires_grad=True)
            began = time.perf_counter()
            parts.unet(picture, torch.tensor([500]), encoder_hidden_states=states).sample.square().mean().backward()
            took.append(time.perf_counter() - began)
    return {{"seconds": sorted(took[1:])}}


def copied():
    """Bytes of the lent parts, and of those the ones that are not the WebUI's own memory."""
    from atelier.hosts.detect import detect

    {model_code}
    {roots_code}
    own = {{value.untyped_storage().data_ptr() for root in roots for value in root.parameters()}}
    lent = other = tensors = 0
    host = detect()
    with host.lease(frozenset(("unet", "text_encoder", "vae"))) as parts:
        for module in (parts.unet, *parts.text_encoders, parts.vae):
            for value in module.parameters():
                size = value.numel() * value.element_size()
                tensors += 1
                lent += size
                other += 0 if value.untyped_storage().data_ptr() in own else size
    return {{"tensors": tensors, "lent": lent, "copied": other}}


def routes(page, app):
    app.add_api_route("/atelier-test-bare", bare, methods=["GET"])
    app.add_api_route("/atelier-test-copied", copied, methods=["GET"])


script_callbacks.on_app_started(routes)
'''


def main(address: str, folder: str, pid: str) -> None:
    """Prints one figure a line."""
    webui = WebUI(address, Path(folder))
    subject = Path(__file__).resolve().parent.parent / "assets" / "demo" / "subject"
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
        print("the UNet alone:", [round(second, 2) for second in webui.ask("/atelier-test-bare")["seconds"]])


if __name__ == "__main__":
    main(*sys.argv[1:4])
