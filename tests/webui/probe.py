"""A look into a running WebUI's process: a script that a test puts into its extensions folder and takes out again."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.webui.hosts import WebUI
from tests.webui.page import open_page, reload_page

FOLDER = "atelier-test-probe"
SCRIPT = """
import ctypes, gc, hashlib, json, logging, os, sys
import numpy, torch
from modules import call_queue, script_callbacks, shared


def digest(data):
    return hashlib.sha256(data).hexdigest()


def parameters():
    {model_code}
    {roots_code}
    named = [pair for root in roots for pair in root.named_parameters()]
    whole = hashlib.sha256()
    for name, value in named:
        whole.update(name.encode())
        whole.update(value.detach().cpu().reshape(-1).contiguous().view(torch.uint8).numpy().tobytes())
    return {{
        "bits": whole.hexdigest(),
        "count": len(named),
        "requires_grad": [name for name, value in named if value.requires_grad],
        "with_gradient": [name for name, value in named if value.grad is not None],
        "training": [type(module).__name__ for root in roots for module in root.modules() if module.training][:20],
    }}


def process():
    options = getattr(shared.opts, "data", {{}})
    # Python's own random numbers are left out: the WebUI draws some for every request.
    return {{
        "options": digest(json.dumps(options, sort_keys=True, default=str).encode()),
        "torch_random": digest(torch.get_rng_state().numpy().tobytes()),
        "numpy_random": digest(repr(numpy.random.get_state()).encode()),
        "torch_load": repr(torch.load),
        "default_dtype": str(torch.get_default_dtype()),
        "grad_enabled": torch.is_grad_enabled(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "cwd": os.getcwd(),
        "path": list(sys.path),
        "log_level": logging.getLogger().level,
        "log_handlers": [repr(handler) for handler in logging.getLogger().handlers],
        "linear": repr(torch.nn.Linear.__init__) + repr(torch.nn.Linear.forward),
    }}


def memory():
    import psutil

    gc.collect()
    if sys.platform == "linux":
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    return psutil.Process().memory_info().rss


def look(memory_only: bool = False):
    with call_queue.queue_lock:
        if memory_only:
            return {{"memory": memory()}}
        return {{"parameters": parameters(), "process": process(), "memory": memory()}}


script_callbacks.on_app_started(lambda page, app: app.add_api_route("/atelier-test-probe", look, methods=["GET"]))
"""


def routes_of(script: str) -> list[str]:
    """The routes that a script adds."""
    return re.findall(r'add_api_route\("([^"]+)"', script)


@contextmanager
def probed(webui: WebUI, script: str = SCRIPT) -> Iterator[Any]:
    """Gives a function that looks into the process: `parameters`, `process`, `memory` in bytes.

    Another `script` may be put there in place of the one that looks; `model_code` and `roots_code` in it stand for the
    lines that find the model and its modules, inside a function. A WebUI whose page is not to be built anew may have
    been started with the script in its extensions folder: its routes then answer already, and nothing is put there.
    """
    if set(routes_of(script)) <= set(webui.ask("/openapi.json").get("paths", ())):
        yield lambda: webui.ask("/atelier-test-probe")
        return
    folder = webui.folder / "extensions" / FOLDER
    (folder / "scripts").mkdir(parents=True, exist_ok=True)
    code = {
        key: text.replace("\n", "\n    ")
        for key, text in (("model_code", webui.kind.model_code), ("roots_code", webui.kind.roots_code))
    }
    (folder / "scripts" / "probe.py").write_text(script.format(**code), encoding="utf-8")
    try:
        with open_page(webui) as page:
            reload_page(page, webui)
            yield lambda: webui.ask("/atelier-test-probe")
    finally:
        shutil.rmtree(folder)
