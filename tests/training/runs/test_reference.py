"""A step of ours against one written out in plain torch: its own LoRA, its own diffusion, its own losses and update."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDPMScheduler
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from atelier.adapters.config import NetworkConfig
from atelier.adapters.network import build
from atelier.models.family import Parts, PromptEmbeds
from atelier.models.unet import latent_diffusion
from atelier.training import batch_losses as losses_module
from atelier.training import session_parts as parts_module
from atelier.training.objective.discrete import DiscreteDiffusion
from atelier.training.objective.losses import LossOptions
from atelier.training.objective.objective import NoiseSample, diffusion_losses
from tests.support.training_fakes import SIDE, run, tiny_job, tiny_parts, write_pictures

NEAR = 1e-6
SCHEDULER = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", num_train_timesteps=1000)


# -- the reference -----------------------------------------------------------------------------------------------------


class Reference:
    """A copy of a model with LoRA computed by hand. `weights` are leaves: their gradients are to be compared."""

    def __init__(self, parts: Parts, tensors: Mapping[str, Tensor]) -> None:
        self.unet, self.text = copy.deepcopy(parts.denoiser), copy.deepcopy(parts.text_encoders[0])
        self.weights = {
            name: tensor.clone().requires_grad_(True) for name, tensor in tensors.items() if not name.endswith("alpha")
        }
        self.alphas = {name: float(tensor) for name, tensor in tensors.items() if name.endswith("alpha")}
        for path, module in self.unet.named_modules():
            self._wear("lora_unet_" + path.replace(".", "_"), module)
        for path, module in self.text.named_modules():
            inner = path.removeprefix("text_model.")
            self._wear("lora_te_text_model_" + inner.replace(".", "_"), module)

    def _wear(self, name: str, module: nn.Module) -> None:
        if f"{name}.lora_down.weight" not in self.weights:
            return
        down, up = self.weights[f"{name}.lora_down.weight"], self.weights[f"{name}.lora_up.weight"]
        scale = self.alphas[f"{name}.alpha"] / down.shape[0]
        base = type(module).forward
        if isinstance(module, nn.Conv2d):
            more = {"stride": module.stride, "padding": module.padding}

            def forward(x: Tensor, *_: Any) -> Tensor:
                inner = nn.functional.conv2d(x, down, **more)
                return base(module, x) + scale * nn.functional.conv2d(inner, up)
        else:

            def forward(x: Tensor, *_: Any) -> Tensor:
                return base(module, x) + scale * ((x @ down.T) @ up.T)

        module.forward = forward

    def states(self, ids: Tensor, clip_skip: int = 1) -> Tensor:
        hidden = self.text(ids, output_hidden_states=True).hidden_states[-clip_skip]
        inner = getattr(self.text, "text_model", self.text)
        return inner.final_layer_norm(hidden)

    def losses(self, given: Given, options: Options) -> Tensor:
        noisy = SCHEDULER.add_noise(given.latents, given.input_noise, given.timesteps)
        prediction = self.unet(noisy, given.timesteps, given.states).sample
        target = given.noise
        if options.prediction_type == "v_prediction":
            target = SCHEDULER.get_velocity(given.latents, given.noise, given.timesteps)
        rows = []
        for row, t in enumerate(given.timesteps.tolist()):
            loss = element_loss(prediction[row] - target[row], t, options)
            if given.masks is not None:
                loss = loss * given.masks[row]
            rows.append(loss.mean() * given.picture_weights[row] * weight(t, options))
        return torch.stack(rows)


@dataclass(frozen=True)
class Options(LossOptions):
    """With what the model predicts."""

    prediction_type: str = "epsilon"


@dataclass
class Given:
    """What both sides are fed."""

    latents: Tensor
    noise: Tensor
    input_noise: Tensor
    timesteps: Tensor
    states: Tensor
    masks: Tensor | None
    picture_weights: Tensor


def snr(t: int) -> float:
    kept = float(SCHEDULER.alphas_cumprod[t])
    return kept / (1 - kept)


def element_loss(error: Tensor, t: int, options: Options) -> Tensor:
    if options.loss_type == "l2":
        return error**2
    if options.loss_type == "l1":
        return error.abs()
    c = options.huber_c
    d = {
        "constant": c * options.huber_scale,
        "exponential": math.exp(math.log(c) * t / 1000) * options.huber_scale,
        "snr": (1 - c) / (1 + math.sqrt(1 / snr(t))) ** 2 + c,
    }[options.huber_schedule]
    curve = 2 * (torch.sqrt(error**2 + d**2) - d)
    return d * curve if options.loss_type == "huber" else curve


def weight(t: int, options: Options) -> float:
    is_v, s = options.prediction_type == "v_prediction", snr(t)
    bounded = min(s, 1000.0)
    value = 1.0
    if options.min_snr_gamma:
        value *= min(s, options.min_snr_gamma) / (s + 1 if is_v else s)
    if options.scale_v_pred_loss_like_noise_pred:
        value *= bounded / (bounded + 1)
    if options.v_pred_like_loss:
        value += value * options.v_pred_like_loss * (bounded + 1) / bounded
    if options.debiased_estimation_loss:
        value *= 1 / (bounded + 1) if is_v else 1 / math.sqrt(bounded)
    return value


def assert_near(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor | None]) -> None:
    """To a millionth of the largest value."""
    assert ours.keys() == theirs.keys()
    largest = max(tensor.abs().max().item() for tensor in theirs.values() if tensor is not None)
    for name, tensor in theirs.items():
        assert tensor is not None, name
        difference = (ours[name] - tensor).abs().max().item()
        assert difference <= NEAR * largest, f"{name} differs by {difference:.2e}, the largest is {largest:.2e}"


# -- the objective -----------------------------------------------------------------------------------------------------


def network_of(parts: Parts, config: NetworkConfig) -> Any:
    """A network none of whose weights is zero, so that every one of them has a gradient."""
    network = build(parts, config, 3)
    random = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=random))
    return network


def given(count: int = 3) -> Given:
    random = torch.Generator().manual_seed(5)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=random)

    noise = normal(count, 4, 4, 4)
    return Given(
        latents=normal(count, 4, 4, 4),
        noise=noise,
        input_noise=noise + 0.1 * normal(count, 4, 4, 4),
        timesteps=torch.tensor([3, 400, 990])[:count],
        states=torch.zeros(0),
        masks=torch.rand(count, 1, 4, 4, generator=random),
        picture_weights=torch.tensor([1.0, 0.4, 1.0])[:count],
    )


def captions_ids(parts: Parts) -> Tensor:
    texts = ["zwx, a cat", "a dog on a red mat", ""]
    return parts.tokenizers[0](texts, padding="max_length", max_length=77, return_tensors="pt").input_ids


OPTIONS = {
    "l2": Options(),
    "l1": Options(loss_type="l1"),
    **{
        f"{kind} {schedule}": Options(loss_type=kind, huber_schedule=schedule, huber_c=0.2, huber_scale=1.5)
        for kind in ("huber", "smooth_l1")
        for schedule in ("constant", "exponential", "snr")
    },
    "min-SNR": Options(min_snr_gamma=5.0),
    "debiased": Options(debiased_estimation_loss=True),
    "v-like": Options(v_pred_like_loss=0.5),
    "v": Options(prediction_type="v_prediction"),
    "v, min-SNR": Options(prediction_type="v_prediction", min_snr_gamma=5.0),
    "v, scaled like noise": Options(prediction_type="v_prediction", scale_v_pred_loss_like_noise_pred=True),
    "v, debiased": Options(prediction_type="v_prediction", debiased_estimation_loss=True),
    "v, everything": Options(
        prediction_type="v_prediction", loss_type="huber", min_snr_gamma=3.0, scale_v_pred_loss_like_noise_pred=True,
        v_pred_like_loss=0.3, debiased_estimation_loss=True,
    ),
}  # fmt: skip

NETWORKS = {
    "LoRA": NetworkConfig(dim=3, alpha=1.5),
    "LoCon": NetworkConfig(dim=3, alpha=3.0, conv_dim=2, conv_alpha=1.0),
    "UNet": NetworkConfig(dim=2, alpha=1.0, text_encoders=False),
    "text encoder": NetworkConfig(dim=2, alpha=1.0, unet=False),
}

CASES = [(option, "LoRA", False) for option in OPTIONS] + [
    *(("l2", network, False) for network in NETWORKS if network != "LoRA"),
    ("huber snr", "LoCon", True),
    ("v, everything", "LoCon", True),
    ("l2", "LoRA", True),
]


@pytest.mark.parametrize(("option", "network", "masked"), CASES)
def test_losses_and_gradients(option: str, network: str, masked: bool) -> None:
    options, parts, inputs = OPTIONS[option], tiny_parts(), given()
    if not masked:
        inputs = replace(inputs, masks=None)
    ours = network_of(parts, NETWORKS[network])
    reference = Reference(parts, ours.state_tensors(None))
    ids = captions_ids(parts)
    inputs.states = reference.states(ids)
    expected = reference.losses(inputs, options)
    expected.mean().backward()

    with ours.attached():
        hidden = latent_diffusion.hidden_states(parts.text_encoders[0], ids[:, None], None)
        found = diffusion_losses(
            parts,
            DiscreteDiffusion.create(torch.device("cpu"), prediction_type=options.prediction_type),
            options,
            inputs.latents,
            NoiseSample(inputs.noise, inputs.input_noise, inputs.timesteps),
            PromptEmbeds(hidden),
            None,
            inputs.masks,
            inputs.picture_weights,
        )
        found.mean().backward()
    torch.testing.assert_close(found, expected, rtol=NEAR, atol=NEAR)
    gradients = dict(zip(reference.weights, [tensor.grad for tensor in reference.weights.values()]))
    kohya_names = {
        f"{name}.{key}.weight": parameter.grad
        for name, layer in ours.layers.items()
        for key, parameter in layer.named_parameters()
    }
    assert_near({name: kohya_names[name] for name in gradients}, gradients)


# -- the whole step ----------------------------------------------------------------------------------------------------


class Spy:
    """Notes what one step of a run was fed."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.batches: list[tuple[Any, ...]] = []
        self.ids: list[Tensor] = []
        self.start: dict[str, Tensor] = {}
        losses, ids, network = diffusion_losses, latent_diffusion.caption_ids, parts_module.build_trainable

        def noted_losses(*arguments: Any) -> Tensor:
            self.batches.append(arguments)
            return losses(*arguments)

        def noted_ids(*arguments: Any) -> Any:
            found = ids(*arguments)
            self.ids.append(found[0][:, 0])
            return found

        def noted_network(*arguments: Any) -> Any:
            made = network(*arguments)
            self.start = made.state_tensors(None)
            return made

        patch.setattr(losses_module, "diffusion_losses", noted_losses)
        patch.setattr(latent_diffusion, "caption_ids", noted_ids)
        patch.setattr(parts_module, "build_trainable", noted_network)


def start_file(path: Path, config: NetworkConfig) -> Path:
    """A LoRA to start from none of whose weights is zero."""
    save_file(network_of(tiny_parts(), config).state_tensors(torch.float32), str(path))
    return path


STEPS: dict[str, tuple[dict[str, Any], LossOptions]] = {
    "LoRA": ({}, LossOptions()),
    "LoCon": ({"conv_dim": 2, "conv_alpha": 1.0}, LossOptions()),
    "UNet only": ({"network_train_unet_only": True}, LossOptions()),
    "text encoder only": ({"network_train_text_encoder_only": True}, LossOptions()),
    "rates of their own": ({"unet_lr": 0.5, "text_encoder_lr": [0.25]}, LossOptions()),
    "clip skip": ({"clip_skip": 2}, LossOptions()),
    "clipped": ({"max_grad_norm": 0.01}, LossOptions()),
    "two batches a step": ({"gradient_accumulation_steps": 2}, LossOptions()),
    "min-SNR, input noise": ({"min_snr_gamma": 5.0, "ip_noise_gamma": 0.1}, LossOptions(min_snr_gamma=5.0)),
    "huber": ({"loss_type": "huber", "huber_c": 0.3}, LossOptions(loss_type="huber", huber_c=0.3)),
    "class pictures and masks": ({"prior_loss_weight": 0.3, "alpha_mask": True}, LossOptions()),
    "checkpointed": ({"gradient_checkpointing": True}, LossOptions()),
}


@pytest.mark.parametrize("case", STEPS)
def test_one_step_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    changes, options = STEPS[case]
    config = NetworkConfig(
        dim=2, alpha=2.0, conv_dim=changes.get("conv_dim"), conv_alpha=1.0,
        unet=not changes.get("network_train_text_encoder_only"),
        text_encoders=not changes.get("network_train_unet_only"),
    )  # fmt: skip
    pictures = write_pictures(tmp_path / "pictures")
    if "alpha_mask" in changes:
        classes = write_pictures(tmp_path / "class", 4, first=10)
        changes = {**changes, "reg_data_dir": str(classes), "train_batch_size": 8}
        for path in sorted(pictures.glob("*.png")):
            picture = Image.open(path).convert("RGBA")
            picture.putalpha(Image.linear_gradient("L").resize((SIDE, SIDE)))
            picture.save(path)
    asked = {"optimizer_type": "SGD", "learning_rate": 1.0, "max_grad_norm": 0.0, "max_train_steps": 1, **changes}
    spy = Spy(monkeypatch)
    job = tiny_job(pictures, network_weights=str(start_file(tmp_path / "start.safetensors", config)), **asked)
    done = run(job, tmp_path)

    reference = Reference(done.host.parts, spy.start)
    total = 0.0
    skip = asked.get("clip_skip", 1)
    for number, (_, _, found_options, latents, draws, _, _, masks, weights) in enumerate(spy.batches):
        assert found_options == options
        # A text encoder that learns sees a batch at once; for one that does not, captions are encoded one by one.
        ids = torch.cat(spy.ids) if "network_train_unet_only" in changes else spy.ids[number]
        states = reference.states(ids, skip)
        inputs = Given(latents, draws.noise, draws.input_noise, draws.timesteps, states, masks, weights)
        loss = reference.losses(inputs, Options(**asdict(options))).mean() / len(spy.batches)
        loss.backward()
        total += loss.item()
        assert (masks is not None) == ("alpha_mask" in changes)
        assert sorted(set(weights.tolist())) == pytest.approx([0.3, 1.0] if "alpha_mask" in changes else [1.0])
    assert done.record.values == [pytest.approx(total, rel=NEAR)]
    if asked["max_grad_norm"]:
        norm = torch.nn.utils.clip_grad_norm_(list(reference.weights.values()), asked["max_grad_norm"])
        assert norm > asked["max_grad_norm"]
    rates = {"lora_unet": asked.get("unet_lr", 1.0), "lora_te": asked.get("text_encoder_lr", [1.0])[0]}
    expected = {}
    for name, tensor in reference.weights.items():
        rate = rates["lora_unet" if name.startswith("lora_unet") else "lora_te"]
        skipped = "clip_skip" in asked and "encoder_layers_1" in name
        assert (tensor.grad is None) == skipped
        expected[name] = tensor.detach() - (0.0 if tensor.grad is None else rate * tensor.grad)
    found = {name: tensor for name, tensor in done.tensors.items() if not name.endswith("alpha")}
    assert_near(found, expected)
    moved = max((expected[name] - spy.start[name]).abs().max().item() for name in expected)
    assert moved > 1e-4


def test_many_steps_of_adamw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Errors grow from step to step: Adam divides by the size of gradients, and small ones are mostly rounding."""
    spy = Spy(monkeypatch)
    job = tiny_job(
        write_pictures(tmp_path / "pictures"), max_train_steps=3, optimizer_args=["weight_decay=0.1", "eps=1e-3"],
        lr_scheduler="linear", network_weights=str(start_file(tmp_path / "start.safetensors", NetworkConfig(2, 2.0))),
    )  # fmt: skip
    done = run(job, tmp_path)
    reference = Reference(done.host.parts, spy.start)
    optimizer = torch.optim.AdamW(list(reference.weights.values()), lr=1e-2, weight_decay=0.1, eps=1e-3)
    for step, (_, _, options, latents, draws, _, _, masks, weights) in enumerate(spy.batches):
        states = reference.states(spy.ids[step])
        inputs = Given(latents, draws.noise, draws.input_noise, draws.timesteps, states, masks, weights)
        loss = reference.losses(inputs, Options(**asdict(options))).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(list(reference.weights.values()), 1.0)
        optimizer.param_groups[0]["lr"] = 1e-2 * (1 - step / 3)
        optimizer.step()
        assert done.record.values[step] == pytest.approx(loss.item(), rel=5 * NEAR)
    found = {name: tensor for name, tensor in done.tensors.items() if not name.endswith("alpha")}
    assert_near(found, {name: tensor.detach() for name, tensor in reference.weights.items()})
