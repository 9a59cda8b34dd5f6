"""Trains `mini-sd`, the embedded text-to-image prior, in the layout of Stable Diffusion.

    python -m prior_training.mini_sd --out FOLDER --autoencoder src/hash3d/assets/mini-zero123/vae
    torchrun --nproc-per-node 4 -m prior_training.mini_sd --out FOLDER --autoencoder FOLDER

Everything it learns from is sampled, rendered and described while it runs. Several processes average their gradients.
"""

import dataclasses
import json
import logging
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from hash3d.diffusion.stable_diffusion import StableDiffusionPrior
from hash3d.files import write_text

from .architecture import build_mini_sd
from .text_buffer import TextBuffer, TextViews, view_word_swap
from .tokenizer import build_tokenizer
from .train_config import TrainConfig
from .training import Training
from .world.captions import vocabulary


class TextTraining(Training[StableDiffusionPrior, TextViews]):
    """Views with prompts; the text encoder is trained too.

    Half of the autoencoder's views have coloured backgrounds.
    """

    tunes_autoencoder = True
    colored_backgrounds = 0.5

    def __init__(self, config: TrainConfig) -> None:
        self.tokenizer = build_tokenizer()
        super().__init__(config)
        self.no_text = self.prior.tokenize([""]).to(self.device, torch.int32)

    def load(self, folder: Path) -> StableDiffusionPrior:
        """A folder of `mini-sd`, whose text encoder learns the words that are new since: their rows start at random."""
        old, prior = StableDiffusionPrior.load(folder), self.build()
        known, rows = old.tokenizer.get_vocab(), old.text_encoder.get_input_embeddings().weight
        new = prior.text_encoder.get_input_embeddings().weight.detach().clone()
        for token, row in self.tokenizer.get_vocab().items():
            new[row] = rows[known[token]] if token in known else new[row]
        name = next(name for name, value in prior.text_encoder.named_parameters() if value.shape == new.shape)
        prior.text_encoder.load_state_dict({**old.text_encoder.state_dict(), name: new})
        prior.unet.load_state_dict(old.unet.state_dict())
        prior.vae = old.vae
        return prior

    def _save(self) -> None:
        """The prior, and the words that it has seen."""
        super()._save()
        text = json.dumps(vocabulary()).replace('], "', '],\n "').replace("{", "{\n ").replace("}", "\n}\n")
        write_text(self.config.out / "prior" / "words.json", text)

    def build(self) -> StableDiffusionPrior:
        """The untrained model."""
        return build_mini_sd(self.config.architecture, self.tokenizer)

    def encoders(self) -> list[nn.Module]:
        """Of the text."""
        return [self.prior.text_encoder]

    def buffer(self, **settings: Any) -> TextBuffer:
        """Views of upright objects, with prompts."""
        return TextBuffer(tokenizer=self.tokenizer, **settings)

    def inputs(
        self, batch: TextViews, noisy: Float[Tensor, "B 4 h w"], timesteps: Int[Tensor, " B"], keep: Bool[Tensor, " B"]
    ) -> dict[str, Any]:
        """The empty prompt stands where the prompt is dropped."""
        tokens = torch.where(keep[:, None], batch.tokens, self.no_text)
        return self.prior.make_inputs(noisy, timesteps, self.prior.embed_tokens(tokens))

    def variants(self, batch: TextViews) -> dict[str, TextViews]:
        """The right prompt, another view's, and the right one but for the view's word."""
        other = dataclasses.replace(batch, tokens=batch.tokens.roll(1, dims=0))
        wrong_view = dataclasses.replace(batch, tokens=view_word_swap(self.tokenizer)(batch.tokens))
        return {"held_out_loss": batch, "held_out_loss_other_text": other, "held_out_loss_wrong_view": wrong_view}


def train(config: TrainConfig) -> Path:
    """Trains a prior and returns its folder."""
    return TextTraining(config).run()


def main(arguments: list[str] | None = None) -> Any:
    """The command line."""
    import tyro

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    return train(tyro.cli(TrainConfig, args=arguments, description=__doc__))


if __name__ == "__main__":
    main()
