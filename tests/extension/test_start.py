"""A WebUI starts without waiting for what only training needs: libraries that it has not loaded itself come later."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

LATE = (
    "diffusers", "accelerate", "transformers", "peft", "lycoris", "pytorch_optimizer", "prodigyopt", "schedulefree",
    "bitsandbytes", "sympy", "torch._dynamo", "torch._inductor",
)  # fmt: skip
SCRIPT = """
import json, sys
from pathlib import Path

root, tests, late = Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
import gradio, torch, torch.utils.checkpoint  # a WebUI has them by then
from fastapi import FastAPI

before = set(sys.modules)
sys.path.append(tests)
from tests.support.jobs_fakes import FakeHost
from atelier.hosts.a1111 import host as a1111
from atelier.hosts.forge import host as forge
from atelier.hosts.reforge import host as reforge
from atelier.hosts.sdnext import host as sdnext
from atelier.jobs.current import current
from atelier.ui.extension import Extension

host = FakeHost(root)
door = Extension(host, current(host))
door.tab()
app = FastAPI()
door.add_routes(app, None)
new = {name for name in set(sys.modules) - before}
heavy = [name for name in late if any(name == one or one.startswith(name + ".") for one in new)]
print(json.dumps({"heavy": heavy, "routes": len(app.routes), "ours": sum(one.startswith("atelier.") for one in new)}))
"""


def test_tab_and_routes_load_no_training(root: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path), str(root / "tests"), json.dumps(LATE)],
        capture_output=True, text=True, check=False, timeout=300,
        env={**os.environ, "PYTHONPATH": str(root / "lib")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["heavy"] == []
    assert found["routes"] > 10 and found["ours"] > 50
