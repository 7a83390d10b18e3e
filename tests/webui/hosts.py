"""A running WebUI that tests drive: its API, and what differs from one WebUI to the other in one table."""

from __future__ import annotations

import base64
import io
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image

Found = TypeVar("Found")

LONG = 900.0
"""Seconds: the longest that any one thing may take on a busy machine without a GPU."""
PICTURE = {
    "prompt": "a red circle",
    "seed": 7,
    "width": 64,
    "height": 64,
    "steps": 4,
    "cfg_scale": 3,
    "sampler_name": "Euler",
    "batch_size": 1,
}
"""What every picture of these tests has unless told otherwise."""


@dataclass(frozen=True)
class Kind:
    """What differs between the WebUIs."""

    name: str
    files: tuple[str, ...]
    """Files of its folder that tell it from the others, the most particular WebUI first in `KINDS`."""
    interrupts: str = "/sdapi/v1/interrupt"
    unload: str = "/sdapi/v1/unload-checkpoint"
    reload: str = "/sdapi/v1/reload-checkpoint"
    """The route that loads an unloaded checkpoint again; "" where only a picture does."""
    loras_refreshed: str = "/sdapi/v1/refresh-loras"
    loads_when_drawing: bool = False
    """A chosen checkpoint is loaded by the next picture, or by Train."""
    txt2img: str = "txt2img"
    """The title of the tab that draws from a prompt."""
    lora_cards: str = "#{tab}_lora_cards .card"
    """The cards of the LoRAs in a tab's panel."""
    card_writes_trigger: bool = True
    """A click on a card writes the trigger word too; else it is a tag on the card, to be clicked."""
    reload_page: str = "#settings_restart_gradio"
    """The button that builds the page anew."""
    reload_ends_process: bool = False
    """That button starts the WebUI again, model and all; else the WebUI and its runs go on."""
    login: tuple[str, ...] = ("--gradio-auth", "anna:geheim", "--api-auth", "prog:secret")
    """Flags that put a login before the page, where anna may go, and before the API."""
    api_login: str = "prog:secret"
    """Name and password for the API after those flags."""
    data: tuple[str, ...] = ("models/Stable-diffusion",)
    """What a new data folder needs of the usual one to load a checkpoint."""
    takes_folders: bool = False
    """It takes a model of any size, as a folder of diffusers."""
    takes_sizes: bool = True
    """It knows the families by the shapes of their tensors, so that those of random weights keep some released ones."""
    bases: tuple[str, ...] = ("sd1", "sd2", "sd2-v", "sdxl", "sdxl-v")
    """The families that it loads, with -v for those that predict v."""
    xl_depths: tuple[int, ...] = (1, 1, 2)
    """The depths of the transformers of an SDXL that it knows; these are a small descendant's."""
    presets: tuple[str, ...] = ()
    """Of its presets of families, that of SD1 and another, where it has them at the top of the page."""
    states_prediction: bool = False
    """A .yaml beside a checkpoint need only say what it predicts; else it is a whole configuration."""
    model_code: str = "from modules import sd_models\nmodel = sd_models.model_data.sd_model"
    """Python that finds the loaded model, for the probe."""
    roots_code: str = "roots = [model]"
    """Python that lists the torch modules of `model`."""


FORGE_ROOTS = """objects = model.forge_objects
roots = [objects.unet.model, objects.clip.cond_stage_model, objects.vae.first_stage_model]"""

KINDS = (
    Kind(
        "sdnext",
        ("modules/sd_offload.py",),
        txt2img="Text",
        lora_cards="#{tab}lora_extra_page .card",
        card_writes_trigger=False,
        reload_page="#restart_submit",
        reload_ends_process=True,
        login=("--auth", "anna:geheim"),
        api_login="anna:geheim",
        data=("models/Stable-diffusion", "models/Diffusers", "config.json"),
        model_code="from modules import shared\nmodel = shared.sd_model if shared.sd_loaded else None",
        roots_code=(
            "parts = (getattr(model, name, None) for name in ('unet', 'vae', 'text_encoder', 'text_encoder_2'))\n"
            "roots = [part for part in parts if part is not None]"
        ),
        takes_folders=True,
    ),
    Kind(
        "neo",
        ("modules_forge/presets.py", "backend/loader.py"),
        reload="",
        loads_when_drawing=True,
        bases=("sd1", "sdxl", "sdxl-v"),
        xl_depths=(1, 2, 10),
        presets=("sd", "xl"),
        states_prediction=True,
        roots_code=FORGE_ROOTS,
    ),
    Kind(
        "forge",
        ("modules_forge/main_entry.py", "backend/loader.py"),
        loads_when_drawing=True,
        states_prediction=True,
        roots_code=FORGE_ROOTS,
    ),
    Kind("reforge", ("modules_forge", "ldm_patched")),
    Kind("a1111", ("modules/lowvram.py", "modules/sd_hijack.py"), takes_sizes=False),
)


def kind_of(folder: Path) -> Kind:
    """Which WebUI lies in `folder`. Raises `LookupError` when it is none of these."""
    for kind in KINDS:
        if all((folder / file).exists() for file in kind.files):
            return kind
    raise LookupError(f"{folder} holds none of {', '.join(kind.name for kind in KINDS)}")


class Answer(dict[str, Any]):
    """A JSON answer. `status` is its HTTP status."""

    status = 200


class WebUI:
    """A running WebUI: `address` without a slash at the end, `folder` where it lies."""

    def __init__(self, address: str, folder: Path) -> None:
        self.address = address.rstrip("/")
        self.folder = folder
        self.kind = kind_of(folder)
        self.loras = folder / "models" / "Lora"

    # -- asking ---------------------------------------------------------------------------------------------------

    def ask(self, path: str, body: Any = None, method: str | None = None, **headers: str) -> Answer:
        """Asks a route; what is refused is an answer too."""
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        given = {"Content-Type": "application/json", **{key.replace("_", "-"): value for key, value in headers.items()}}
        request = urllib.request.Request(self.address + path, data, given, method=method)
        try:
            with urllib.request.urlopen(request, timeout=LONG) as response:
                status, text = response.status, response.read()
        except urllib.error.HTTPError as error:
            status, text = error.code, error.read()
        try:
            content = json.loads(text)
        except ValueError:
            content = text.decode(errors="replace")
        answer = Answer(content if isinstance(content, dict) else {"answer": content})
        answer.status = status
        return answer

    def draw(self, prompt: str | None = None, **more: Any) -> np.ndarray:
        """One picture through the WebUI's API, [height, width, 3]."""
        answer = self.ask("/sdapi/v1/txt2img", {**PICTURE, **({"prompt": prompt} if prompt else {}), **more})
        assert answer.status == 200, answer
        with Image.open(io.BytesIO(base64.b64decode(answer["images"][0].split(",")[-1]))) as picture:
            return np.asarray(picture.convert("RGB"))

    def is_up(self) -> bool:
        """True when it answers."""
        try:
            return self.ask("/atelier/v1/jobs").status in (200, 401)
        except OSError:
            return False

    # -- training -------------------------------------------------------------------------------------------------

    def train(self, name: str, pictures: Path, **settings: Any) -> str:
        """Starts a small run and gives its id."""
        asked = {
            "output_name": name,
            "trigger": "zwx",
            "train_data_dir": str(pictures),
            "resolution": "64,64",
            "max_train_steps": 6,
            "network_train_unet_only": True,
            "network_dim": 4,
            "learning_rate": 4e-3,
            "seed": 1,
            **settings,
        }
        answer = self.ask("/atelier/v1/jobs", {"settings": asked})
        assert answer.status == 200, answer
        return str(answer["id"])

    def job(self, run: str) -> Answer:
        """How a run stands."""
        return self.ask(f"/atelier/v1/jobs/{run}")

    def press(self, run: str, action: str) -> Answer:
        """Stop, pause, resume, save or sample."""
        return self.ask(f"/atelier/v1/jobs/{run}/{action}", {}, X_Atelier="1")

    def saved(self, run: str) -> list[str]:
        """The names of the files that a run has saved, oldest first."""
        events = self.ask(f"/atelier/v1/jobs/{run}/events")["events"]
        return [event["name"] for event in events if event["kind"] == "saved"]

    def until(self, run: str, state: str | tuple[str, ...] = "done", step: int = 0, seconds: float = LONG) -> Answer:
        """Waits until a run is in `state` and has made `step` steps; fails when it ends otherwise, or later."""
        states = (state,) if isinstance(state, str) else state

        def look() -> Answer | None:
            job = self.job(run)
            if job["state"] in states and job["step"] >= step:
                return job
            assert job["state"] not in ("failed", "done", "stopped", "interrupted"), job
            return None

        return wait(look, f"run {run} in {states} at step {step}", seconds)

    # -- checkpoints ----------------------------------------------------------------------------------------------

    def checkpoint(self) -> dict[str, Any]:
        """What the WebUI knows of the loaded checkpoint: title, model_name, filename."""
        loaded = self.ask("/atelier/v1/model")["title"]
        models = self.ask("/sdapi/v1/sd-models")["answer"]
        return next(model for model in models if loaded in (model["title"], model["model_name"]))

    def load_again(self) -> None:
        """Loads the checkpoint that was unloaded."""
        if self.kind.reload:
            assert self.ask(self.kind.reload, {}).status in (200, 204)
        else:
            self.draw(steps=1)

    def choose(self, title: str) -> None:
        """Loads a checkpoint as the dropdown does."""
        assert self.ask("/sdapi/v1/options", {"sd_model_checkpoint": title}).status == 200
        if self.kind.loads_when_drawing:
            self.draw(steps=1)


def wait(look: Callable[[], Found | None], what: str, seconds: float = LONG) -> Found:
    """Asks until there is something. Fails after `seconds`."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        found = look()
        if found:
            return found
        time.sleep(0.2)
    raise AssertionError(f"waited {seconds:.0f} s in vain for {what}")
