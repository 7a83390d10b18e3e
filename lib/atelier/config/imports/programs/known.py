"""Settings of programs that are not kohya's: read where their keys are plain, else refused by their name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atelier.config.errors import AtelierError
from atelier.config.imports.programs import diffusion_pipe, easy_json, lora_scripts, onetrainer, traintrain
from atelier.config.imports.programs.plain_keys import Plain

Translate = Callable[[Path, Mapping[str, Any], bool], Plain]
"""From the file's path, its content, and whether files that it names may be read."""


@dataclass(frozen=True)
class Program:
    """A program by the keys that only its files have. `kind`: what its file is called in a report."""

    name: str
    kind: str
    marks: tuple[tuple[str, ...], ...]
    """A file is of this program when it has all keys of one of these; "a.b" is the key b in the table a."""
    translate: Translate

    def wrote(self, data: Mapping[str, Any]) -> bool:
        return any(all(_has(data, key) for key in keys) for keys in self.marks)


def _has(data: Mapping[str, Any], key: str) -> bool:
    first, _, rest = key.partition(".")
    if first not in data:
        return False
    return not rest or (isinstance(data[first], Mapping) and _has(data[first], rest))


def _refused(name: str, advice: str = "") -> Translate:
    def refuse(path: Path, data: Mapping[str, Any], files: bool) -> Plain:
        raise AtelierError(f"{path.name} is of {name}, which is not read. {advice or _ADVICE}")

    return refuse


_ADVICE = (
    "Set the model, the folder of pictures, rank, learning rate and steps yourself, or export a file for sd-scripts."
)

PROGRAMS = (
    Program("traintrain", "traintrain preset", (
        ("train_iterations",), ("lora_data_directory",), ("network_rank", "train_learning_rate"),
    ), traintrain.translate),
    Program("OneTrainer", "OneTrainer config", (
        ("training_method", "model_type"), ("base_model_name", "lora_rank"), ("__version", "base_model_name"),
    ), onetrainer.translate),
    Program("lora-scripts", "lora-scripts settings", lora_scripts.MARKS, lora_scripts.translate),
    Program("LoRA_Easy_Training_Scripts", "LoRA_Easy_Training_Scripts JSON", easy_json.MARKS, easy_json.translate),
    Program("diffusion-pipe", "diffusion-pipe config", (
        ("micro_batch_size_per_gpu",), ("pipeline_stages",), ("model.type", "adapter"),
    ), diffusion_pipe.translate),
    Program("diffusion-pipe", "diffusion-pipe dataset", (
        ("directory", "resolutions"), ("directory", "size_buckets"), ("directory", "enable_ar_bucket"),
    ), diffusion_pipe.refuse_dataset),
    Program("ai-toolkit", "ai-toolkit config", (("config.process",),), _refused("ai-toolkit")),
    Program("SimpleTuner", "SimpleTuner config", (
        ("--model_family",), ("--model_type",), ("--pretrained_model_name_or_path",),
        ("model_family", "data_backend_config"),
    ), _refused("SimpleTuner")),
    Program("EveryDream2", "EveryDream2 config", (
        ("resume_ckpt", "data_root"), ("optimizer_config", "project_name", "max_epochs"),
    ), _refused("EveryDream2")),
    Program("sd_dreambooth_extension", "Dreambooth extension's model", (("concepts_list", "model_name"),),
            _refused("the Dreambooth extension")),
    Program("ComfyUI", "ComfyUI workflow", (("nodes", "links"), ("last_node_id",)),
            _refused("ComfyUI", "It is a workflow for pictures and has no settings of a training.")),
    Program("diffusers", "diffusers or PEFT configuration", (("_class_name",), ("peft_type",), ("_diffusers_version",)),
            _refused("diffusers", "It describes a model and has no settings of a training.")),
    Program("transformers", "transformers configuration", (
        ("architectures",), ("transformers_version",), ("model_type", "vocab_size"), ("model_type", "hidden_size"),
        ("tokenizer_class",),
    ), _refused("transformers", "It describes a model and has no settings of a training.")),
    Program("LyCORIS", "LyCORIS preset", (
        ("unet_target_module",), ("unet_target_name",), ("text_encoder_target_module",),
        ("enable_conv", "module_algo_map"),
    ), _refused("LyCORIS", "It is a preset of layers: name it in network_args as preset=FILE.")),
    Program("musubi-tuner", "musubi-tuner config", (("dit",), ("text_encoder1", "text_encoder2")),
            _refused("musubi-tuner", "Only Stable Diffusion 1, 2 and XL can be trained.")),
    Program("Naifu", "Naifu config", (("trainer.model_path",), ("lightning",)), _refused("Naifu")),
)  # fmt: skip


def program_of(data: Mapping[str, Any]) -> Program | None:
    """The program that wrote these settings; None for kohya's and for unknown ones."""
    return next((program for program in PROGRAMS if program.wrote(data)), None)


def yaml_refusal(name: str, text: str) -> str:
    """Why a YAML file is not read, with the program that it is of where that can be seen."""
    marks = {
        "ai-toolkit": ("job:", "process:"), "OneTrainer": ("training_method:",), "latent-diffusion": ("target: ldm.",),
        "generative-models": ("target: sgm.",), "Naifu": ("trainer:", "\nlightning:"),
        "HCP-Diffusion": ("_base_:",), "x-flux": ("pretrained_transformer",),
    }  # fmt: skip
    program = next((program for program, words in marks.items() if all(word in text for word in words)), None)
    whose = f"a file of {program} in YAML" if program else "YAML"
    return f"{name} is {whose}, which is not read. Settings are read from TOML, JSON presets and LoRA files."
