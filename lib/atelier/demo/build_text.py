"""The demo base's text encoder: a CLIP text model of 64 channels that has learned what the words of the grammar say.

Its token embeddings stay random, as wide apart as CLIP's, so every word of the 49,408 has a place of its own and
a new trigger word is as usable as any. The layers above learn to carry colour, shape, background and size to the
end-of-text token and to every padding token behind it, which is where the cross-attention can find them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from atelier.demo.budget import Budget, Report, learning_rate
from atelier.demo.shapes import BACKGROUNDS, COLOURS, RADII, SHAPES, Scene, all_scenes, is_held_out

HIDDEN_SIZE = 64
BATCH = 128
PEAK_RATE = 3e-3
SHORT = 20
"""Seven steps of eight look only at this many tokens, in which every caption ends; the eighth at all 77."""

ATTRIBUTES: dict[str, tuple[str | None, ...]] = {
    "colour": tuple(COLOURS),
    "shape": SHAPES,
    "background": tuple(BACKGROUNDS),
    "size": tuple(RADII),
}


def text_config() -> CLIPTextConfig:
    """SD 1.x's text encoder with fewer channels and layers; vocabulary and length are CLIP's."""
    return CLIPTextConfig(
        vocab_size=49408,
        hidden_size=HIDDEN_SIZE,
        intermediate_size=4 * HIDDEN_SIZE,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=77,
        hidden_act="quick_gelu",
        projection_dim=HIDDEN_SIZE,
        bos_token_id=49406,
        eos_token_id=49407,
        pad_token_id=49407,
    )


def tokens_of(tokenizer: CLIPTokenizer, captions: Sequence[str]) -> torch.Tensor:
    """Token ids (count, 77), padded with the end-of-text token as SD 1.x does."""
    padded = tokenizer(list(captions), padding="max_length", max_length=77, truncation=True, return_tensors="pt")
    return padded.input_ids


def labels_of(scenes: Sequence[Scene]) -> dict[str, torch.Tensor]:
    """For each attribute the index (count,) of its value in ATTRIBUTES."""
    return {
        name: torch.tensor([values.index(getattr(scene, name)) for scene in scenes])
        for name, values in ATTRIBUTES.items()
    }


def with_a_strange_word(tokens: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """The same captions with a random token of the vocabulary put in at position 2, 3 or 4."""
    place = int(torch.randint(2, 5, (1,), generator=generator))
    strange = torch.randint(0, 49406, (len(tokens), 1), generator=generator)
    return torch.cat([tokens[:, :place], strange, tokens[:, place:-1]], dim=1)


def caption_of(scene: Scene, generator: torch.Generator) -> str:
    """One of the ways to say the scene."""
    photo, name_plain = torch.randint(0, 2, (2,), generator=generator).tolist()
    return scene.caption(bool(photo), bool(name_plain))


def build_text_encoder(tokenizer: CLIPTokenizer, seconds: float, seed: int, report: Report) -> CLIPTextModel:
    """Trains the encoder for `seconds` of CPU time on captions that are not held out; returns it frozen."""
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    model = CLIPTextModel(text_config())
    heads = nn.ModuleDict({name: nn.Linear(HIDDEN_SIZE, len(values)) for name, values in ATTRIBUTES.items()})
    embeddings = model.get_input_embeddings().weight
    embeddings.requires_grad_(False)
    nn.init.normal_(embeddings, std=0.02, generator=generator)
    for name, parameter in model.named_parameters():
        if name.endswith("position_embedding.weight"):  # fainter than the words, which matter more
            nn.init.normal_(parameter, std=0.004, generator=generator)
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW([*learning, *heads.parameters()], lr=PEAK_RATE, weight_decay=0.0)

    known = [scene for scene in all_scenes() if not is_held_out(scene)]
    unknown = [scene for scene in all_scenes() if is_held_out(scene)]
    budget, step = Budget(seconds), 0
    while budget.progress() < 1:
        picked = torch.randint(0, len(known), (BATCH,), generator=generator).tolist()
        scenes = [known[index] for index in picked]
        tokens = tokens_of(tokenizer, [caption_of(scene, generator) for scene in scenes])
        if step % 3 == 2:
            tokens = with_a_strange_word(tokens, generator)
        if step % 8 < 7:
            tokens = tokens[:, :SHORT]
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(budget.progress(), step, PEAK_RATE)
        loss = _loss(model, heads, tokens, labels_of(scenes))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        step += 1
    right = _accuracy(model, heads, tokens_of(tokenizer, [scene.caption() for scene in unknown]), labels_of(unknown))
    said = ", ".join(f"{name} {share:.1%}" for name, share in right.items())
    report(f"Text encoder: {step} steps; on {len(unknown)} held-out captions it tells {said}.")
    return model.eval().requires_grad_(False)


def _tail(tokens: torch.Tensor) -> torch.Tensor:
    """(count, length) weights of the end-of-text token and the padding behind it, summing to 1 for each caption."""
    tail = (tokens == 49407).float()
    return tail / tail.sum(dim=1, keepdim=True)


def _loss(
    model: CLIPTextModel, heads: nn.ModuleDict, tokens: torch.Tensor, labels: dict[str, torch.Tensor]
) -> torch.Tensor:
    """Cross entropy of every attribute at every tail position, averaged over the tail."""
    states = model(tokens).last_hidden_state
    tail = _tail(tokens)
    total = states.new_zeros(())
    for name, head in heads.items():
        scores = head(states).transpose(1, 2)
        wrong = nn.functional.cross_entropy(scores, labels[name][:, None].expand(-1, tokens.shape[1]), reduction="none")
        total = total + (wrong * tail).sum(dim=1).mean()
    return total


@torch.no_grad()
def _accuracy(
    model: CLIPTextModel, heads: nn.ModuleDict, tokens: torch.Tensor, labels: dict[str, torch.Tensor]
) -> dict[str, float]:
    """Share of captions whose attribute the last padding token tells, for each attribute."""
    last = model(tokens).last_hidden_state[:, -1]
    return {name: float((head(last).argmax(dim=1) == labels[name]).float().mean()) for name, head in heads.items()}
