"""A script for a running WebUI (see `probe`): what its own modules compute, beside what the lent ones do."""

from __future__ import annotations

SCRIPT = """
import inspect
import logging
import sys
import torch
from modules import call_queue, script_callbacks

PROMPT = "a zwx badge on a white background"
UNETS = ("UNetModel", "IntegratedUNet2DConditionModel", "UNet2DConditionModel")
SIDE = 1024


def part_of(roots, *beginnings):
    return next(m for root in roots for m in root.modules() if type(m).__name__.startswith(beginnings))


def largest(one, other):
    difference = float((one.float() - other.float()).abs().max())
    return {{"difference": difference, "scale": float(one.abs().max()), "shape": list(one.shape)}}


def inputs():
    draws = torch.Generator().manual_seed(0)
    latents = torch.randn(2, 4, 8, 8, generator=draws)
    picture = torch.randn(1, 3, 64, 64, generator=draws).clamp(-1, 1)
    return latents, picture, torch.tensor([20, 700])


def own_conditions(model):
    if hasattr(model, "encode_prompt"):
        said = model.encode_prompt(PROMPT, device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=False)
        both = (said[0], said[2] if len(said) > 2 else None)
    else:
        said = model.get_learned_conditioning([PROMPT])
        both = (said["crossattn"], said["vector"]) if isinstance(said, dict) else (said, None)
    # Computed in inference mode by some: copies are plain tensors.
    return [None if one is None else one.detach().clone().float() for one in both]


def own_prediction(unet, hidden, vector):
    latents, _, timesteps = inputs()
    if type(unet).__name__ == "UNet2DConditionModel":
        ids = torch.tensor([[SIDE, SIDE, 0, 0, SIDE, SIDE]] * 2)
        more = None if vector is None else {{"text_embeds": vector.expand(2, -1), "time_ids": ids}}
        said = unet(latents, timesteps, hidden.expand(2, -1, -1), added_cond_kwargs=more, return_dict=False)
        return said[0].detach().clone()
    more = {{}} if vector is None else {{"y": vector.expand(2, -1)}}
    return unet(latents, timesteps, context=hidden.expand(2, -1, -1), **more).detach().clone()


def lent_prediction(parts, hidden, vector):
    from atelier.models.family import SizeConditions, PromptEmbeds

    latents, _, timesteps = inputs()
    pooled = None
    if vector is not None:
        config = parts.denoiser.config
        width = config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim
        pooled = vector[:, :width].expand(2, -1)
    side, zero = torch.full((2, 2), SIDE), torch.zeros(2, 2, dtype=torch.long)
    text = PromptEmbeds(hidden.expand(2, -1, -1), pooled)
    return parts.family.predict(parts, latents, timesteps, text, SizeConditions(side, zero, side))


def embedded(host, parts):
    # By the settings that the training tab recommends here.
    from atelier.training.inputs.as_drawn import followed

    return parts.family.encode(parts, [PROMPT], followed(host, parts.family.name).get("clip_skip"), 75)


def model_and_roots():
    {model_code}
    {roots_code}
    return model, roots


def text_dtypes(roots):
    own_text = [m for root in roots for m in root.modules() if type(m).__name__.endswith(("TextModel", "CLIP"))]
    return sorted({{str(value.dtype) for module in own_text for value in module.parameters()}})


def same():
    from atelier.hosts.detect import detect

    host = detect()
    model, roots = model_and_roots()
    unet = part_of(roots, *UNETS)
    vae = part_of(roots, "AutoencoderKL", "AutoencodingEngine", "IntegratedAutoencoderKL")
    own = {{value.untyped_storage().data_ptr() for root in roots for value in root.parameters()}}
    lease = host.lease(frozenset(("unet", "text_encoder", "vae")))
    with lease as parts, lease.turn(), torch.no_grad():
        _, picture, _ = inputs()
        hidden, vector = own_conditions(model)
        ours = embedded(host, parts)
        theirs = own_prediction(unet, hidden, vector)
        found = {{"unet": largest(theirs, lent_prediction(parts, hidden, vector))}}
        mean = vae.quant_conv(vae.encoder(picture)).chunk(2, 1)[0]
        found["vae"] = largest(mean, parts.vae.encode(picture).latent_dist.mean)
        decoded = vae.decoder(vae.post_quant_conv(mean))
        found["vae decoder"] = largest(decoded, parts.vae.decode(mean).sample)
        found["text"] = largest(hidden, ours.hidden)
        if vector is not None:
            found["pooled"] = largest(vector[:, : ours.pooled.shape[1]], ours.pooled)
        for name, modules in (("unet", [parts.denoiser]), ("vae", [parts.vae]), ("text", parts.text_encoders)):
            lent = [value for module in modules for value in module.parameters()]
            found[name]["tensors"] = len(lent)
            found[name]["shared"] = sum(value.untyped_storage().data_ptr() in own for value in lent)
        found["family"], found["prediction_type"] = parts.family.name, parts.prediction_type
        return {{**found, "text_dtypes": text_dtypes(roots)}}


def in_pipeline(name):
    # SD.Next's own way with a LoRA; it notes what is worn to take it out again.
    from modules.lora import lora_common, lora_load, networks

    lora_load.network_load([name], [1.0], [[1.0] * 3], [None], activate=False)
    networks.network_activate()
    lora_common.previously_loaded_networks = lora_common.loaded_networks.copy()
    return {{"loaded": len(lora_common.loaded_networks), "layers": len(networks.applied_layers), "left": None}}


def file_of(name):
    if "modules.lora.lora_load" in sys.modules:
        from modules.lora import lora_load as networks
    else:
        networks = sys.modules["networks"]
    networks.list_available_networks()
    return networks.available_networks[name].filename


def with_lora(model, name):
    # How many layers the WebUI takes from the file, or what it leaves.
    if hasattr(model, "encode_prompt"):
        return in_pipeline(name)
    networks = sys.modules["networks"]
    count = len(inspect.signature(networks.load_networks).parameters)
    networks.load_networks(*([name], [1.0], [1.0], [None])[:count])
    left = None
    if hasattr(model, "forge_objects") and hasattr(networks, "load_lora"):
        entry = networks.available_networks[name]
        kept = dict(networks.load_lora_state_dict(entry.filename))
        unet, clip = model.forge_objects.unet, model.forge_objects.clip
        _, left = networks.load_lora(kept, networks.model_lora_keys_unet(unet.model))
        _, left = networks.load_lora(left, networks.model_lora_keys_clip(clip.cond_stage_model))
        put_on(unet, clip.patcher)
    elif hasattr(networks, "load_lora_for_models"):
        left = put_on_and_left(model)
    loaded = networks.loaded_networks
    return {{
        "loaded": len(loaded),
        "layers": sum(len(getattr(one, "modules", ())) for one in loaded),
        "left": None if left is None else sorted(left)[:5],
    }}


def put_on(*patchers):
    # Forge's patchers take the LoRA at once, Forge Neo's when they are next loaded.
    if all(hasattr(patcher, "refresh_loras") for patcher in patchers):
        for patcher in patchers:
            patcher.refresh_loras()
        return
    from backend import memory_management

    memory_management.load_models_gpu(list(patchers), force_full_load=True)


def put_on_and_left(model):
    # reForge puts a LoRA into the weights when it next computes, and says in its log which keys it has no use for.
    from ldm_patched.modules import lora, lora_convert, model_management

    objects, said = model.forge_objects, []
    file = sys.modules["networks"].loaded_networks[0].network_on_disk.filename
    keys = lora.model_lora_keys_unet(objects.unet.model, {{}})
    keys = lora.model_lora_keys_clip(objects.clip.cond_stage_model, keys)
    listener = logging.Handler()
    listener.emit = lambda record: said.append(record.getMessage())
    logging.getLogger().addHandler(listener)
    try:
        lora.load_lora(lora_convert.convert_lora(sys.modules["networks"].load_lora_state_dict(file)), keys)
    finally:
        logging.getLogger().removeHandler(listener)
    model_management.load_models_gpu([objects.unet, objects.clip.patcher], force_full_load=True)
    return [line for line in said if "not loaded" in line]


def worn(name: str):
    from atelier.adapters.applied.apply import LoraUse, applied
    from atelier.adapters.files.kohya_file import read_lora
    from atelier.hosts.detect import detect

    host = detect()
    model, roots = model_and_roots()
    file = read_lora(file_of(name))
    lease = host.lease(frozenset(("unet", "text_encoder")))
    with lease as parts:
        with lease.turn(), torch.no_grad():
            hidden, vector = own_conditions(model)
            plain = lent_prediction(parts, hidden, vector)
            plain_hidden = embedded(host, parts).hidden
            with applied(parts, [LoraUse(file)]) as ready:
                ours = lent_prediction(parts, hidden, vector)
                our_hidden = embedded(host, parts).hidden
                report = ready[0].report()
                layers = len(ready[0].network.layers)
        with call_queue.queue_lock, torch.no_grad():
            found = with_lora(model, name)
            unet = part_of(roots, *UNETS)
            theirs = own_prediction(unet, hidden, vector)
            their_hidden, _ = own_conditions(model)
        with lease.turn(), torch.no_grad():
            again = own_prediction(unet, hidden, vector)
    return {{
        **found,
        "kind": file.kind,
        "text_dtypes": text_dtypes(roots),
        "our_report": report,
        "our_layers": layers,
        "unet": largest(theirs, ours),
        "unet_changed": largest(plain, ours)["difference"],
        "text": largest(their_hidden, our_hidden),
        "text_changed": largest(plain_hidden, our_hidden)["difference"],
        "taken_out": largest(again, plain)["difference"],
    }}


def routes(page, app):
    app.add_api_route("/atelier-test-same", same, methods=["GET"])
    app.add_api_route("/atelier-test-worn", worn, methods=["GET"])


script_callbacks.on_app_started(routes)
"""
