"""Stable Diffusion (Rombach et al. 2022): a diffusion model of images, given a text.

The folder is that of diffusers' `StableDiffusionPipeline`: Stable Diffusion 1.x and 2.x, and our embedded prior.
"""

from pathlib import Path
from typing import Any, ClassVar

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from jaxtyping import Float, Int
from torch import Tensor

from hash3d.files import write_json
from hash3d.transfer import to_device

from .latent_prior import LatentPrior
from .loading import load_part, name_part
from .noise import Latents, NoiseSchedule, Timesteps

Tokens = Float[Tensor, "B T D"]


class StableDiffusionPrior(LatentPrior):
    """The parts of a Stable Diffusion folder."""

    parts = LatentPrior.parts | {
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
    }
    pipeline: ClassVar[dict[str, Any]] = {
        "_class_name": "StableDiffusionPipeline",
        "requires_safety_checker": False,
        **{name: [None, None] for name in ("feature_extractor", "image_encoder", "safety_checker")},
    }

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
        """Tokenize to ids on the CPU, padded to model_max_length. A longer prompt is refused, not truncated."""
        longest = self.tokenizer.model_max_length
        rows = self.tokenizer(prompts, padding="max_length", max_length=longest, verbose=False)["input_ids"]
        for prompt, row in zip(prompts, rows, strict=True):
            if len(row) > longest:
                got = f"{prompt[:40]!r}... has {len(row)}. Make it shorter."
                raise ValueError(f"Expected a prompt of at most {longest} tokens with start and end, but {got}")
        return torch.tensor(rows)

    def embed_tokens(self, tokens: Int[Tensor, "B T"]) -> Tokens:
        """Return the text encoder's last hidden state after its final layer norm, without a padding mask."""
        return self.text_encoder(input_ids=tokens).last_hidden_state

    def embed(self, prompts: list[str]) -> Tokens:
        """Embed prompts for the U-Net's cross-attention; "" is the unconditional one."""
        return self.embed_tokens(self.tokenize(prompts).to(self.device))

    def make_inputs(self, noisy: Latents, timesteps: Timesteps, embeddings: Tokens) -> dict[str, Any]:
        """Return the keyword arguments of one conditional U-Net call."""
        timestep = to_device(timesteps, noisy.device)
        return {"sample": noisy, "timestep": timestep, "encoder_hidden_states": embeddings.to(noisy)}

    def make_guided_inputs(
        self, noisy: Latents, timesteps: Timesteps, conditional: Tokens, unconditional: Tokens
    ) -> dict[str, Any]:
        """Return the U-Net's keyword arguments for the guidance pair: rows [conditional, unconditional views]."""
        embeddings = torch.cat([conditional, unconditional])
        return self.make_inputs(torch.cat([noisy] * 2), torch.cat([timesteps] * 2), embeddings)

    @classmethod
    def load(
        cls, folder: Path, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
    ) -> "StableDiffusionPrior":
        """Read a diffusers folder."""
        from transformers import CLIPTextModel

        common = cls._load_common(folder, dtype)
        encoder = load_part(CLIPTextModel, folder, "text_encoder", dtype)
        return cls(**common, text_encoder=encoder, tokenizer=load_tokenizer(folder)).to(device).eval()

    def _save_parts(self, folder: Path) -> None:
        """Write the subfolders."""
        # The published folders' names of the weights, which every version of transformers reads.
        weights = {
            name if name.startswith("text_model.") else f"text_model.{name}": value
            for name, value in self.text_encoder.state_dict().items()
        }
        self.text_encoder.save_pretrained(folder / "text_encoder", state_dict=weights)
        save_tokenizer(self.tokenizer, folder / "tokenizer")
        super()._save_parts(folder)


def load_tokenizer(folder: Path) -> Any:
    """Load the tokenizer of a diffusers folder. Raises `ValueError` if it is missing or damaged."""
    from transformers import CLIPTokenizer

    for name in ("vocab.json", "merges.txt"):
        if not (folder / "tokenizer" / name).is_file():
            raise ValueError(f"Expected the prior {folder} to hold tokenizer/{name}, but it is missing.")
    with name_part(folder / "tokenizer"):
        return CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)


def save_tokenizer(tokenizer: Any, folder: Path) -> None:
    """Write the four files of a published `tokenizer/` folder."""
    folder.mkdir(parents=True, exist_ok=True)
    backend = getattr(tokenizer, "backend_tokenizer", None)
    (tokenizer.save_vocabulary if backend is None else backend.model.save)(str(folder))
    special = {name: str(getattr(tokenizer, name)) for name in ("bos_token", "eos_token", "pad_token", "unk_token")}
    write_json(folder / "special_tokens_map.json", special)
    settings = {"model_max_length": tokenizer.model_max_length, "do_lower_case": True}
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": "CLIPTokenizer", **settings, **special})
