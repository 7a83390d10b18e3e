"""Translates names of weights between LDM's layout (single files, AUTOMATIC1111, Forge) and diffusers', both ways.

Names are paths of modules. A table of path pairs, looked up by the longest matching path, handles nearly all of them.
Only a few tensors also change their form: OpenCLIP has query, key and value in one matrix and its projection
transposed, and LDM's VAE has its attention as 1x1 convolutions. The results are views; nothing is copied.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from torch import Tensor

from atelier.models.text.clip_names import PREFIX, canonical

UNET_PREFIX = "model.diffusion_model."
VAE_PREFIX = "first_stage_model."

_RESNET = (
    ("in_layers.0", "norm1"),
    ("in_layers.2", "conv1"),
    ("emb_layers.1", "time_emb_proj"),
    ("out_layers.0", "norm2"),
    ("out_layers.3", "conv2"),
    ("skip_connection", "conv_shortcut"),
)
_UNET_ENDS = (
    ("time_embed.0", "time_embedding.linear_1"),
    ("time_embed.2", "time_embedding.linear_2"),
    ("label_emb.0.0", "add_embedding.linear_1"),
    ("label_emb.0.2", "add_embedding.linear_2"),
    ("input_blocks.0.0", "conv_in"),
    ("out.0", "conv_norm_out"),
    ("out.2", "conv_out"),
)
_VAE_ATTENTION = (
    ("norm", "group_norm"),
    ("q", "to_q"),
    ("k", "to_k"),
    ("v", "to_v"),
    ("proj_out", "to_out.0"),
)
_OPEN_CLIP_ENDS = (
    ("token_embedding", "embeddings.token_embedding"),
    ("positional_embedding", "embeddings.position_embedding.weight"),
    ("ln_final", "final_layer_norm"),
)
_OPEN_CLIP_LAYER = (
    ("attn.out_proj", "self_attn.out_proj"),
    ("ln_1", "layer_norm1"),
    ("ln_2", "layer_norm2"),
    ("mlp.c_fc", "mlp.fc1"),
    ("mlp.c_proj", "mlp.fc2"),
)


@dataclass(frozen=True)
class TextLayout:
    """The place of a text encoder in an LDM file: under `prefix`, with transformers' or OpenCLIP's names.

    `bare`: a transformers encoder saved without its leading "text_model.".
    """

    prefix: str
    open_clip: bool = False
    bare: bool = False
    projection: bool = False
    """True when the text projection is part of the encoder's module (SDXL's second encoder)."""


@dataclass(frozen=True)
class Structure:
    """The facts of an architecture that decide its names."""

    unet_attention: tuple[bool, ...]
    """For each level of the UNet, finest first: True when it has transformers."""
    unet_layers: int
    vae_levels: int
    vae_layers: int
    texts: tuple[TextLayout, ...]


@dataclass(frozen=True)
class Target:
    """A tensor of a diffusers module. `part` is "unet", "vae", "text_encoder" or "text_encoder_2".

    `form`: its form in the LDM tensor: "same", "q", "k", "v" (thirds of the rows), "transposed", or "conv" (with two
    trailing dimensions of 1).
    """

    part: str
    name: str
    form: str = "same"


class PathTable:
    """Pairs of module paths, looked up by the longest prefix, in either direction."""

    def __init__(self, pairs: Iterable[tuple[str, str]]) -> None:
        self._to_diffusers = dict(pairs)
        self._to_ldm = {diffusers: ldm for ldm, diffusers in self._to_diffusers.items()}

    def to_diffusers(self, name: str) -> str | None:
        return _swap(name, self._to_diffusers)

    def to_ldm(self, name: str) -> str | None:
        return _swap(name, self._to_ldm)


def _swap(name: str, table: dict[str, str]) -> str | None:
    end = len(name)
    while end > 0:
        if name[:end] in table:
            return table[name[:end]] + name[end:]
        end = name.rfind(".", 0, end)
    return None


def unet_table(attention: Sequence[bool], layers: int) -> PathTable:
    """Module paths of a UNet with transformers on the levels `attention` and `layers` blocks per level."""
    pairs = list(_UNET_ENDS)

    def resnet(ldm: str, diffusers: str) -> None:
        pairs.extend((f"{ldm}.{a}", f"{diffusers}.{b}") for a, b in _RESNET)

    levels = len(attention)
    index = 1
    for level in range(levels):
        for layer in range(layers):
            resnet(f"input_blocks.{index}.0", f"down_blocks.{level}.resnets.{layer}")
            pairs.append((f"input_blocks.{index}.1", f"down_blocks.{level}.attentions.{layer}"))
            index += 1
        pairs.append((f"input_blocks.{index}.0.op", f"down_blocks.{level}.downsamplers.0.conv"))
        index += 1
    resnet("middle_block.0", "mid_block.resnets.0")
    pairs.append(("middle_block.1", "mid_block.attentions.0"))
    resnet("middle_block.2", "mid_block.resnets.1")
    for index in range(levels * (layers + 1)):
        block, layer = divmod(index, layers + 1)
        has_attention = attention[levels - 1 - block]
        resnet(f"output_blocks.{index}.0", f"up_blocks.{block}.resnets.{layer}")
        if has_attention:
            pairs.append((f"output_blocks.{index}.1", f"up_blocks.{block}.attentions.{layer}"))
        if layer == layers:
            place = 2 if has_attention else 1
            pairs.append((f"output_blocks.{index}.{place}.conv", f"up_blocks.{block}.upsamplers.0.conv"))
    return PathTable(pairs)


def vae_table(levels: int, layers: int) -> PathTable:
    """Module paths of an autoencoder; LDM counts the decoder's levels from the finest one."""
    pairs = [("quant_conv", "quant_conv"), ("post_quant_conv", "post_quant_conv")]

    def resnet(ldm: str, diffusers: str) -> None:
        for leaf in ("norm1", "conv1", "norm2", "conv2"):
            pairs.append((f"{ldm}.{leaf}", f"{diffusers}.{leaf}"))
        pairs.append((f"{ldm}.nin_shortcut", f"{diffusers}.conv_shortcut"))

    for side in ("encoder", "decoder"):
        pairs += [(f"{side}.conv_in", f"{side}.conv_in"), (f"{side}.conv_out", f"{side}.conv_out")]
        pairs.append((f"{side}.norm_out", f"{side}.conv_norm_out"))
        resnet(f"{side}.mid.block_1", f"{side}.mid_block.resnets.0")
        resnet(f"{side}.mid.block_2", f"{side}.mid_block.resnets.1")
        for ldm, diffusers in _VAE_ATTENTION:
            pairs.append((f"{side}.mid.attn_1.{ldm}", f"{side}.mid_block.attentions.0.{diffusers}"))
    for level in range(levels):
        down, up = f"encoder.down_blocks.{level}", f"decoder.up_blocks.{levels - 1 - level}"
        for layer in range(layers):
            resnet(f"encoder.down.{level}.block.{layer}", f"{down}.resnets.{layer}")
        for layer in range(layers + 1):
            resnet(f"decoder.up.{level}.block.{layer}", f"{up}.resnets.{layer}")
        pairs.append((f"encoder.down.{level}.downsample.conv", f"{down}.downsamplers.0.conv"))
        pairs.append((f"decoder.up.{level}.upsample.conv", f"{up}.upsamplers.0.conv"))
    return PathTable(pairs)


class LdmNames:
    """Translates between the keys of an LDM file of one structure and the tensors of diffusers modules."""

    def __init__(self, structure: Structure) -> None:
        self.structure = structure
        self._unet = unet_table(structure.unet_attention, structure.unet_layers)
        self._vae = vae_table(structure.vae_levels, structure.vae_layers)
        self._open_clip_ends = PathTable(_OPEN_CLIP_ENDS)
        self._open_clip_layer = PathTable(_OPEN_CLIP_LAYER)

    def targets(self, key: str) -> tuple[Target, ...]:
        """The diffusers tensors of an LDM tensor: one, three for a joint projection, none if it is not used."""
        if key.startswith(UNET_PREFIX):
            name = self._unet.to_diffusers(key.removeprefix(UNET_PREFIX))
            return () if name is None else (Target("unet", name),)
        if key.startswith(VAE_PREFIX):
            name = self._vae.to_diffusers(key.removeprefix(VAE_PREFIX))
            return () if name is None else (Target("vae", name, _vae_form(name)),)
        for index, layout in enumerate(self.structure.texts):
            if key.startswith(layout.prefix):
                part = TEXT_PARTS[index]
                rest = key.removeprefix(layout.prefix)
                if layout.open_clip:
                    return self._open_clip_targets(part, rest, layout.projection)
                name = canonical(rest)
                known = name.startswith(PREFIX) and not name.endswith("position_ids")
                return (Target(part, name),) if known else ()
        return ()

    def source(self, part: str, name: str) -> tuple[str, str]:
        """The LDM key with a diffusers tensor, and the tensor's form there. Raises `KeyError` for an unknown tensor."""
        if part in ("unet", "vae"):
            table, prefix = (self._unet, UNET_PREFIX) if part == "unet" else (self._vae, VAE_PREFIX)
            ldm = table.to_ldm(name)
            if ldm is None:
                raise KeyError(name)
            return prefix + ldm, _vae_form(name) if part == "vae" else "same"
        layout = self.structure.texts[TEXT_PARTS.index(part)]
        name = canonical(name)
        if layout.open_clip:
            ldm, form = self._open_clip_source(name)
            return layout.prefix + ldm, form
        return layout.prefix + (name.removeprefix(PREFIX) if layout.bare else name), "same"

    def _open_clip_targets(self, part: str, rest: str, projection: bool) -> tuple[Target, ...]:
        if rest == "text_projection":
            return (Target(part, "text_projection.weight", "transposed"),) if projection else ()
        if not rest.startswith("transformer.resblocks."):
            name = self._open_clip_ends.to_diffusers(rest)
            return () if name is None else (Target(part, PREFIX + name),)
        number, _, leaf = rest.removeprefix("transformer.resblocks.").partition(".")
        layer = f"{PREFIX}encoder.layers.{number}."
        if leaf in ("attn.in_proj_weight", "attn.in_proj_bias"):
            kind = leaf.rpartition("_")[2]
            return tuple(Target(part, f"{layer}self_attn.{form}_proj.{kind}", form) for form in "qkv")
        name = self._open_clip_layer.to_diffusers(leaf)
        return () if name is None else (Target(part, layer + name),)

    def _open_clip_source(self, name: str) -> tuple[str, str]:
        if name == "text_projection.weight":
            return "text_projection", "transposed"
        rest = name.removeprefix(PREFIX)
        if not rest.startswith("encoder.layers."):
            ldm = self._open_clip_ends.to_ldm(rest)
            if ldm is None:
                raise KeyError(name)
            return ldm, "same"
        number, _, leaf = rest.removeprefix("encoder.layers.").partition(".")
        block = f"transformer.resblocks.{number}."
        for form in "qkv":
            if leaf.startswith(f"self_attn.{form}_proj."):
                return f"{block}attn.in_proj_{leaf.rpartition('.')[2]}", form
        ldm = self._open_clip_layer.to_ldm(leaf)
        if ldm is None:
            raise KeyError(name)
        return block + ldm, "same"


TEXT_PARTS = ("text_encoder", "text_encoder_2")


def _vae_form(name: str) -> str:
    """Attention projections are convolutions in LDM and matrices in diffusers."""
    is_projection = ".attentions." in name and "group_norm" not in name and name.endswith(".weight")
    return "conv" if is_projection else "same"


def take(tensor: Tensor, form: str) -> Tensor:
    """The diffusers tensor inside an LDM tensor, as a view."""
    if form in ("q", "k", "v"):
        rows = tensor.shape[0] // 3
        start = "qkv".index(form) * rows
        return tensor[start : start + rows]
    if form == "transposed":
        return tensor.t()
    if form == "conv" and tensor.ndim == 4:
        return tensor[:, :, 0, 0]
    return tensor
