"""install.py adds what a WebUI lacks and changes nothing it has: real pip, pinned hosts, no network."""

from __future__ import annotations

import base64
import ensurepip
import hashlib
import os
import subprocess
import sys
import venv
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from atelier.config.packages import constraints, missing, normalised, pinned, release, to_add

pytestmark = pytest.mark.slow

OPTIONAL = ["pytorch-optimizer==4.1.0", "prodigyopt==1.1.2", "schedulefree==1.4.1"]
TOML = "toml==0.10.2"
ADDED = {
    "a1111": [
        "diffusers==0.31.0",
        "tomlkit==0.14.0",
        "lycoris-lora==4.0.0",
        *OPTIONAL,
        "importlib-metadata==9.0.1",
        "zipp==4.1.2",
        TOML,
    ],
    "forge": ["lycoris-lora==3.2.0", *OPTIONAL, TOML],
    "neo": ["lycoris-lora==4.1.3", *OPTIONAL, TOML],
    "reforge": ["tomlkit==0.14.0", "lycoris-lora==4.1.3", *OPTIONAL, TOML],
    "sdnext": ["tomlkit==0.14.0", "lycoris-lora==4.1.3", *OPTIONAL],
}
HOSTS = pytest.mark.parametrize("host", list(ADDED))


def freeze(root: Path, host: str) -> dict[str, str]:
    """What a fresh installation of a WebUI has."""
    lines = (root / "tests" / "fixtures" / "hosts" / f"{host}.txt").read_text(encoding="utf-8").splitlines()
    pairs = [line.partition("==") for line in lines if "==" in line]
    return {normalised(name): version for name, _, version in pairs}


# -- a WebUI's environment, with stubs of its packages and a folder of wheels in place of an index ------------------


def requirement_lines(name: str, version: str, requires: tuple[str, ...]) -> str:
    head = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    return head + "".join(f"Requires-Dist: {line}\n" for line in requires)


def write_wheel(folder: Path, name: str, version: str, requires: tuple[str, ...] = ()) -> None:
    """A wheel without code: its name, its version and what it asks for."""
    stem = f"{name.replace('-', '_')}-{version}"
    files = {
        f"{stem}.dist-info/METADATA": requirement_lines(name, version, requires),
        f"{stem}.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = ""
    for path, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        record += f"{path},sha256={digest},{len(text.encode())}\n"
    files[f"{stem}.dist-info/RECORD"] = record + f"{stem}.dist-info/RECORD,,\n"
    with zipfile.ZipFile(folder / f"{stem}-py3-none-any.whl", "w") as wheel:
        for path, text in files.items():
            wheel.writestr(path, text)


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pinned packages, and newer ones of everything that would replace a WebUI's own if pip were let."""
    folder = tmp_path_factory.mktemp("wheels")
    for version in ("0.31.0", "0.32.2", "0.40.0"):
        write_wheel(folder, "diffusers", version, ("transformers>=4.25", "safetensors>=0.3.1", "importlib-metadata"))
    write_wheel(folder, "diffusers", "0.42.0", ("transformers>=5",))
    for version in ("3.2.0", "4.0.0", "4.1.3"):
        write_wheel(folder, "lycoris-lora", version, ("torch", "einops", "toml"))
    write_wheel(folder, "tomlkit", "0.14.0")
    write_wheel(folder, "pytorch-optimizer", "4.1.0", ("torch>=1.10", "numpy"))
    write_wheel(folder, "prodigyopt", "1.1.2", ("torch>=2.0.0",))
    write_wheel(folder, "schedulefree", "1.4.1", ("typing-extensions",))
    write_wheel(folder, "toml", "0.10.2")
    write_wheel(folder, "setuptools", "80.0.0")
    for name, version in {"torch": "99.0", "transformers": "99.0", "safetensors": "99.0", "numpy": "99.0"}.items():
        write_wheel(folder, name, version)
    write_wheel(folder, "importlib-metadata", "9.0.1", ("zipp>=3.20",))
    write_wheel(folder, "zipp", "4.1.2")
    return folder


COUNTING_PIP = """
import os, runpy, sys
with open(os.environ["PIP_CALLS"], "a", encoding="utf-8") as log:
    log.write(" ".join(sys.argv[1:]) + "\\n")
if not os.environ["REAL_PIP"]:
    sys.exit("ERROR: no network")
here = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path[:] = [os.environ["REAL_PIP"]] + [entry for entry in sys.path if os.path.abspath(entry) != here]
for name in [name for name in sys.modules if name == "pip" or name.startswith("pip.")]:
    del sys.modules[name]
runpy.run_module("pip", run_name="__main__")
"""
"""Stands before pip, writes down each call, and hands it on, or fails as pip does without a network."""


@dataclass
class WebUI:
    """A Python environment as a WebUI has it, and install.py run in it."""

    root: Path
    folder: Path
    wheels: Path
    real_pip: str
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def python(self) -> Path:
        return self.folder / "venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")

    @property
    def calls(self) -> list[str]:
        log = self.folder / "calls.txt"
        return log.read_text(encoding="utf-8").splitlines() if log.exists() else []

    def start(self, *arguments: str, network: bool = True, **environment: str) -> str:
        """Runs install.py as a WebUI's start does and returns what it printed; it must end without an error."""
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("PIP_", "PYTHON", "COMMANDLINE_ARGS"))}
        done = subprocess.run(
            [str(self.python), str(self.root / "install.py"), *arguments],
            cwd=self.folder,
            env={
                **inherited,
                "PYTHONPATH": str(self.folder / "counting"),
                "PIP_CALLS": str(self.folder / "calls.txt"),
                "REAL_PIP": self.real_pip if network else "",
                "PIP_NO_INDEX": "1",
                "PIP_FIND_LINKS": str(self.wheels),
                "PIP_CONFIG_FILE": os.devnull,
                "PYTHONDONTWRITEBYTECODE": "1",
                **environment,
            },
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stderr == ""
        return done.stdout

    def packages(self) -> dict[str, str]:
        """What is installed, read from the folder itself."""
        found = {}
        for folder in (self.folder / "venv").rglob("*.dist-info"):
            name, _, version = folder.name.removesuffix(".dist-info").partition("-")
            assert normalised(name) not in found, f"{name} twice"
            found[normalised(name)] = version
        return found


@pytest.fixture
def webui(root: Path, tmp_path: Path, wheels: Path, request: pytest.FixtureRequest) -> WebUI:
    """The environment of the WebUI that the test names with `host` (A1111 without), in a path with spaces."""
    bundled = sorted((Path(ensurepip.__file__).parent / "_bundled").glob("pip-*.whl"))
    if not bundled:
        pytest.skip("this Python comes without the wheel of pip that the test runs")
    folder = tmp_path / "web ui"
    venv.EnvBuilder(with_pip=False, symlinks=os.name != "nt").create(folder / "venv")
    counting = folder / "counting" / "pip"
    counting.mkdir(parents=True)
    (counting / "__init__.py").write_text("", encoding="utf-8")
    (counting / "__main__.py").write_text(COUNTING_PIP, encoding="utf-8")
    made = WebUI(root, folder, wheels, str(bundled[-1]))
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    library = folder / "venv" / ("Lib" if os.name == "nt" else f"lib/{version}") / "site-packages"
    host = request.node.callspec.params.get("host", "a1111") if hasattr(request.node, "callspec") else "a1111"
    for name, number in freeze(root, host).items():
        stub = library / f"{name.replace('-', '_')}-{number}.dist-info"
        stub.mkdir()
        (stub / "METADATA").write_text(requirement_lines(name, number, ()), encoding="utf-8")
        (stub / "INSTALLER").write_text("pip\n", encoding="utf-8")
        (stub / "RECORD").write_text("", encoding="utf-8")
    return made


# -- what is chosen ---------------------------------------------------------------------------------------------------


@HOSTS
def test_what_each_webui_lacks(root: Path, host: str) -> None:
    assert to_add(freeze(root, host)) == ADDED[host]


@HOSTS
def test_nothing_is_lacking_afterwards(root: Path, host: str) -> None:
    present = freeze(root, host)
    present.update(dict(line.split("==") for line in ADDED[host]))
    assert to_add(present) == []
    assert missing(present) == []


def test_versions_compare_by_number() -> None:
    assert release("2.10.0+cu121") > release("2.9") > release("2.1.2")
    assert release("5.0.0.dev0") == release("5")
    assert pinned("lycoris-lora", {"torch": "2.1.2+cu121"}) == "4.0.0"
    assert pinned("lycoris-lora", {"torch": "2.10.0"}) == "4.1.3"
    assert pinned("Pytorch_Optimizer", {}) == "4.1.0"
    assert pinned("torch", {}) is None


def test_a_package_that_is_too_old_is_named_and_left(root: Path) -> None:
    present = {**freeze(root, "forge"), "diffusers": "0.27.2"}
    assert not any(line.startswith("diffusers") for line in to_add(present))
    first = missing(present)[0]
    assert first.name == "diffusers" and first.required
    assert "0.27.2" in first.why and "0.31" in first.why
    assert "diffusers==0.31.0" in first.command


def test_the_webuis_own_packages_are_never_added() -> None:
    names = [line.partition("==")[0] for line in to_add({})]
    assert not {"torch", "transformers", "accelerate", "safetensors", "numpy"} & set(names)
    assert {"torch", "transformers"} <= {package.name for package in missing({})}


def test_constraints_leave_out_what_pip_would_refuse() -> None:
    held = constraints({"torch": "2.1.2+cu121", "odd": "1.0-custom-build", "clip": "1.0"})
    assert held == "clip==1.0\ntorch==2.1.2+cu121\n"


# -- what install.py does ---------------------------------------------------------------------------------------------


@HOSTS
def test_only_additions_and_one_call_of_pip(webui: WebUI, root: Path, host: str) -> None:
    before = webui.packages()
    assert before == freeze(root, host)
    said = webui.start()
    added = {line for line in (f"{k}=={v}" for k, v in webui.packages().items()) if line.split("==")[0] not in before}
    assert added == set(ADDED[host]), said
    assert before.items() <= webui.packages().items()
    assert len(webui.calls) == 1
    assert webui.start() == ""
    assert len(webui.calls) == 1


@pytest.mark.parametrize("host", ["sdnext"])
def test_a_webui_whose_packages_contradict_each_other(webui: WebUI, root: Path, host: str) -> None:
    """SD.Next holds setuptools at a version that its torch does not want: neither is replaced, ours are added."""
    (torch,) = (webui.folder / "venv").rglob("torch-*.dist-info/METADATA")
    torch.write_text(requirement_lines("torch", freeze(root, host)["torch"], ("setuptools>=77",)), encoding="utf-8")
    held = torch.parent.parent / "setuptools-69.5.1.dist-info"
    held.mkdir()
    (held / "METADATA").write_text(requirement_lines("setuptools", "69.5.1", ()), encoding="utf-8")
    before = webui.packages()
    said = webui.start()
    assert before.items() <= webui.packages().items()
    assert {f"{k}=={v}" for k, v in webui.packages().items() if k not in before} == set(ADDED[host])
    assert len(webui.calls) == 2 and "--no-deps" in webui.calls[1], said
    assert webui.start() == ""


def test_without_a_network(webui: WebUI) -> None:
    before = webui.packages()
    said = webui.start(network=False)
    assert webui.packages() == before
    assert len(webui.calls) == 1
    assert "no network" in said
    line = next(line for line in said.splitlines() if "diffusers is missing" in line)
    assert str(webui.root / "install.py") in line and line.rstrip("'\"").endswith("diffusers")
    webui.start("diffusers")
    assert webui.packages()["diffusers"] == "0.31.0"
    assert "lycoris-lora" not in webui.packages()


@pytest.mark.parametrize("told", ["--api --skip-install", '--skip-install --ckpt "models/a b'])
def test_skip_install(webui: WebUI, told: str) -> None:
    said = webui.start(COMMANDLINE_ARGS=told)
    assert webui.calls == []
    assert "diffusers is missing" in said
    assert "diffusers is missing" in webui.start("--skip-install")
    assert webui.calls == []


def test_the_host_s_index_is_used(webui: WebUI) -> None:
    webui.start(network=False, INDEX_URL="https://mirror.example/simple")
    assert webui.calls[0].endswith("--index-url https://mirror.example/simple")
