"""Stable Diffusion (Rombach et al. 2022): a diffusion model of pictures, given a text.

The folder is that of diffusers' `StableDiffusionPipeline`: Stable Diffusion 1.x and 2.x, and our embedded prior.
"""

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from jaxtyping import Float, Int
from torch import Tensor

from hash3d.transfer import to_device

from .latent_prior import LatentPrior
from .loading import load_part, write_json
from .noise import NoiseSchedule


class StableDiffusionPrior(LatentPrior):
    """The parts of a Stable Diffusion folder. Images are [B, 3, S, S] in [-1, 1], latents [B, 4, h, w]."""

    parts = ("unet", "vae", "scheduler", "text_encoder", "tokenizer")

    def __init__(
        self,
        *,
        unet: UNet2DConditionModel,
        vae: AutoencoderKL,
        text_encoder: Any,
        tokenizer: Any,
        schedule: NoiseSchedule,
    ) -> None:
        super().__init__(unet=unet, vae=vae, schedule=schedule)
        self.text_encoder: Any = text_encoder
        self.tokenizer = tokenizer
        text = self.text_encoder.config
        self._expect(
            "Stable Diffusion",
            {
                "unet in_channels": (self.unet.config.in_channels, 4),
                "unet cross_attention_dim": (self.unet.config.cross_attention_dim, text.hidden_size),
                "tokenizer model_max_length": (tokenizer.model_max_length, text.max_position_embeddings),
                "text encoder vocab_size": (text.vocab_size, max(text.vocab_size, len(tokenizer))),
            },
        )

    def tokenize(self, prompts: list[str]) -> Int[Tensor, "B T"]:
        """Token ids on the CPU, padded to the tokenizer's longest. A prompt that is longer is refused, not cut."""
        longest = self.tokenizer.model_max_length
        rows = self.tokenizer(prompts, padding="max_length", max_length=longest, verbose=False)["input_ids"]
        for prompt, row in zip(prompts, rows, strict=True):
            if len(row) > longest:
                raise ValueError(
                    f"Expected a prompt of at most {longest} tokens with start and end, but {prompt[:40]!r}... has "
                    f"{len(row)}. Make it shorter."
                )
        return torch.tensor(rows)

    def embed_tokens(self, tokens: Int[Tensor, "B T"]) -> Float[Tensor, "B T D"]:
        """The text encoder's last hidden state, with its last normalisation, without a mask over the padding."""
        embeddings: Tensor = self.text_encoder(input_ids=tokens).last_hidden_state
        return embeddings

    def embed(self, prompts: list[str]) -> Float[Tensor, "B T D"]:
        """What the U-Net's cross-attention reads of prompts; "" is the unconditional one."""
        return self.embed_tokens(self.tokenize(prompts).to(self.device))

    def unet_inputs(
        self, noisy: Float[Tensor, "B 4 h w"], timesteps: Int[Tensor, " B"], embeddings: Float[Tensor, "B T D"]
    ) -> dict[str, Any]:
        """The keyword arguments of one conditional U-Net call."""
        return {
            "sample": noisy,
            "timestep": to_device(timesteps, noisy.device),
            "encoder_hidden_states": embeddings.to(noisy),
        }

    def guided_inputs(
        self,
        noisy: Float[Tensor, "B 4 h w"],
        timesteps: Int[Tensor, " B"],
        conditional: Float[Tensor, "B T D"],
        unconditional: Float[Tensor, "B T D"],
    ) -> dict[str, Any]:
        """The keyword arguments of the guidance pair: rows [conditional views, unconditional views]."""
        embeddings = torch.cat([conditional, unconditional])
        return self.unet_inputs(torch.cat([noisy] * 2), torch.cat([timesteps] * 2), embeddings)

    @classmethod
    def load(
        cls, folder: Path, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
    ) -> "StableDiffusionPrior":
        """Read a diffusers folder."""
        from transformers import CLIPTextModel

        prior = cls(
            unet=load_part(UNet2DConditionModel, folder, "unet", dtype),
            vae=load_part(AutoencoderKL, folder, "vae", dtype),
            text_encoder=load_part(CLIPTextModel, folder, "text_encoder", dtype),
            tokenizer=load_tokenizer(folder),
            schedule=NoiseSchedule.load(folder / "scheduler"),
        )
        return prior.to(device).eval()

    def save(self, folder: Path) -> None:
        """Write the diffusers folder."""
        self.unet.save_pretrained(folder / "unet")
        self.vae.save_pretrained(folder / "vae")
        # The published folders' names of the weights, which every version of transformers reads.
        weights = {
            name if name.startswith("text_model.") else f"text_model.{name}": value
            for name, value in self.text_encoder.state_dict().items()
        }
        self.text_encoder.save_pretrained(folder / "text_encoder", state_dict=weights)
        save_tokenizer(self.tokenizer, folder / "tokenizer")
        self.schedule.save(folder / "scheduler")
        write_json(folder / "model_index.json", _MODEL_INDEX)


_MODEL_INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "feature_extractor": [None, None],
    "image_encoder": [None, None],
    "requires_safety_checker": False,
    "safety_checker": [None, None],
    "scheduler": ["diffusers", "DDIMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer of a diffusers folder. Raises `ValueError` with one sentence if it is missing or damaged."""
    from transformers import CLIPTokenizer

    for name in ("vocab.json", "merges.txt"):
        if not (folder / "tokenizer" / name).is_file():
            raise ValueError(f"Expected the prior {folder} to hold tokenizer/{name}, but it is missing.")
    try:
        return CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(f"The prior's part {folder / 'tokenizer'} does not load: {reason}") from error


def save_tokenizer(tokenizer: Any, folder: Path) -> None:
    """Write the four files of a published `tokenizer/` folder."""
    folder.mkdir(parents=True, exist_ok=True)
    backend = getattr(tokenizer, "backend_tokenizer", None)
    (tokenizer.save_vocabulary if backend is None else backend.model.save)(str(folder))
    special = {name: str(getattr(tokenizer, name)) for name in ("bos_token", "eos_token", "pad_token", "unk_token")}
    write_json(folder / "special_tokens_map.json", special)
    settings = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": tokenizer.model_max_length,
        "do_lower_case": True,
    }
    write_json(folder / "tokenizer_config.json", {**settings, **special})
