"""Stable Diffusion (Rombach et al. 2022): a diffusion model of images, given a text.

The folder is that of diffusers' `StableDiffusionPipeline`: Stable Diffusion 1.x and 2.x, and our embedded prior; or
that of its `StableDiffusionXLPipeline` (Podell et al. 2023, https://arxiv.org/abs/2307.01952).
"""

from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, UNet2DConditionModel
from jaxtyping import Float, Int
from torch import Tensor

from hash3d.files import write_json
from hash3d.model_files import read_configuration
from hash3d.tensors import to_device

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
    optional = ("text_encoder_2", "tokenizer_2")
    encoders = ("text_encoder", "text_encoder_2")

    def __init__(
        self,
        *,
        unet: UNet2DConditionModel,
        vae: AutoencoderKL,
        text_encoder: Any,
        tokenizer: Any,
        schedule: NoiseSchedule,
        text_encoder_2: Any = None,
        tokenizer_2: Any = None,
    ) -> None:
        super().__init__(unet=unet, vae=vae, schedule=schedule)
        self.text_encoder, self.text_encoder_2 = text_encoder, text_encoder_2
        self.tokenizer, self.tokenizer_2 = tokenizer, tokenizer_2
        width = sum(encoder.config.hidden_size for encoder, _ in self._encoders)
        expected = {
            "unet in_channels": (self.unet.config.in_channels, 4),
            "unet cross_attention_dim": (self.unet.config.cross_attention_dim, width),
        }
        for encoder, words in self._encoders:
            text = encoder.config
            expected |= {
                "tokenizer model_max_length": (words.model_max_length, text.max_position_embeddings),
                "text encoder vocab_size": (text.vocab_size, max(text.vocab_size, len(words))),
            }
            self._expect("Stable Diffusion", expected)

    @property
    def _encoders(self) -> list[tuple[Any, Any]]:
        """The text encoders, each with its tokenizer."""
        pairs = [(self.text_encoder, self.tokenizer), (self.text_encoder_2, self.tokenizer_2)]
        return [pair for pair in pairs if None not in pair]

    def tokenize(self, prompts: list[str], tokenizer: Any = None) -> Int[Tensor, "B T"]:
        """Tokenize to ids on the CPU, padded to model_max_length. A longer prompt is refused, not truncated."""
        tokenizer = tokenizer or self.tokenizer
        longest = tokenizer.model_max_length
        rows = tokenizer(prompts, padding="max_length", max_length=longest, verbose=False)["input_ids"]
        for prompt, row in zip(prompts, rows, strict=True):
            if len(row) > longest:
                got = f"{prompt[:40]!r}... has {len(row)}. Make it shorter."
                raise ValueError(f"Expected a prompt of at most {longest} tokens with start and end, but {got}")
        return torch.tensor(rows)

    def embed_tokens(self, tokens: Int[Tensor, "B T"]) -> Tokens:
        """Return the text encoder's last hidden state after its final layer norm, without a padding mask."""
        with self.awake():
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
        """Read a diffusers folder; one with a second text encoder is a `StableDiffusionXLPrior`."""
        from transformers import CLIPTextModel, CLIPTextModelWithProjection

        parts = cls._load_common(folder, dtype)
        parts |= {
            "text_encoder": load_part(CLIPTextModel, folder, "text_encoder", dtype),
            "tokenizer": load_tokenizer(folder),
        }
        if (folder / "text_encoder_2").is_dir():
            cls = StableDiffusionXLPrior
            parts |= {
                "text_encoder_2": load_part(CLIPTextModelWithProjection, folder, "text_encoder_2", dtype),
                "tokenizer_2": load_tokenizer(folder, "tokenizer_2"),
            }
            if parts["vae"].config.force_upcast:  # Its activations overflow in half precision.
                parts["vae"].float()
        prior = cls(**parts).to(device).eval()
        index = folder / "model_index.json"
        if cls is StableDiffusionXLPrior and index.is_file():
            said = read_configuration(index).get("force_zeros_for_empty_prompt", True)
            prior.pipeline = {**cls.pipeline, "force_zeros_for_empty_prompt": said}  # type: ignore[misc]
        return prior

    def _save_parts(self, folder: Path) -> None:
        """Write the subfolders."""
        for (encoder, tokenizer), number in zip(self._encoders, ("", "_2"), strict=False):
            # The published folders' names of the weights, which every version of transformers reads.
            weights = {
                name if name.startswith("text_") else f"text_model.{name}": value
                for name, value in encoder.state_dict().items()
            }
            encoder.save_pretrained(folder / f"text_encoder{number}", state_dict=weights)
            save_tokenizer(tokenizer, folder / f"tokenizer{number}")
        super()._save_parts(folder)


class StableDiffusionXLPrior(StableDiffusionPrior):
    """The parts of a Stable Diffusion XL folder, with two text encoders."""

    parts = StableDiffusionPrior.parts | {
        "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
        "tokenizer_2": ["transformers", "CLIPTokenizer"],
    }
    pipeline: ClassVar[dict[str, Any]] = {
        "_class_name": "StableDiffusionXLPipeline",
        "force_zeros_for_empty_prompt": True,
        **{name: [None, None] for name in ("feature_extractor", "image_encoder")},
    }

    def embed(self, prompts: list[str]) -> Tokens:
        """Embed prompts [B, T + 1, D]; "" is the unconditional one, of zeros unless the folder's index says otherwise.

        T tokens by the layers before the last of both encoders, side by side; in the last row the second's embedding
        of the whole text, padded with zeros.
        """
        with self.awake():
            found = [
                encoder(input_ids=self.tokenize(prompts, tokenizer).to(self.device), output_hidden_states=True)
                for encoder, tokenizer in self._encoders
            ]
        tokens = torch.cat([each.hidden_states[-2] for each in found], dim=-1)
        pooled = found[1].text_embeds
        rows = torch.cat([tokens, F.pad(pooled, (0, tokens.shape[-1] - pooled.shape[-1]))[:, None]], dim=1)
        zeros = self.pipeline["force_zeros_for_empty_prompt"]
        empty = torch.tensor([zeros and not prompt for prompt in prompts], device=rows.device)
        return rows.masked_fill(empty[:, None, None], 0.0)

    def make_inputs(self, noisy: Latents, timesteps: Timesteps, embeddings: Tokens) -> dict[str, Any]:
        """Return the keyword arguments of one conditional U-Net call; the image is said to be whole, at its own size.

        `time_ids`: sides before scaling, top and left of the crop, sides (Podell et al. 2023, section 2.2).
        """
        size = self.image_size
        sizes = noisy.new_full((len(noisy), 6), size)
        sizes[:, 2:4] = 0.0
        pooled = embeddings[:, -1, : self.text_encoder_2.config.projection_dim].to(noisy)
        inputs = super().make_inputs(noisy, timesteps, embeddings[:, :-1])
        return {**inputs, "added_cond_kwargs": {"text_embeds": pooled, "time_ids": sizes}}


def load_tokenizer(folder: Path, part: str = "tokenizer") -> Any:
    """Load a tokenizer of a diffusers folder. Raises `ValueError` if it is missing or damaged."""
    from transformers import CLIPTokenizer

    for name in ("vocab.json", "merges.txt"):
        if not (folder / part / name).is_file():
            raise ValueError(f"Expected the prior {folder} to hold {part}/{name}, but it is missing.")
    with name_part(folder / part):
        return CLIPTokenizer.from_pretrained(folder / part, local_files_only=True)


def save_tokenizer(tokenizer: Any, folder: Path) -> None:
    """Write the four files of a published `tokenizer/` folder."""
    folder.mkdir(parents=True, exist_ok=True)
    backend = getattr(tokenizer, "backend_tokenizer", None)
    (tokenizer.save_vocabulary if backend is None else backend.model.save)(str(folder))
    special = {name: str(getattr(tokenizer, name)) for name in ("bos_token", "eos_token", "pad_token", "unk_token")}
    write_json(folder / "special_tokens_map.json", special)
    settings = {"model_max_length": tokenizer.model_max_length, "do_lower_case": True}
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": "CLIPTokenizer", **settings, **special})
