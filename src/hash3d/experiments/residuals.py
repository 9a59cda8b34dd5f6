"""SDS residuals of full and shallow passes over the same noisy views, and how alike two tensors are."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from hash3d.cache import Hash3DConfig
from hash3d.diffusion.partial_unet import PartialUNet
from hash3d.diffusion.zero123 import ImageCondition, Zero123Prior
from hash3d.guidance.sds import classifier_free_guidance


@dataclass(frozen=True, kw_only=True)
class NoisyViews:
    """B noisy views, ready for the U-Net."""

    noisy: Float[Tensor, "B 4 h w"]
    noise: Float[Tensor, "B 4 h w"]
    """What was added."""
    timesteps: Int[Tensor, " B"]
    """On the CPU."""
    inputs: dict[str, Any]
    """The U-Net's arguments for the guidance pair: rows [conditional views, unconditional views]."""

    def __len__(self) -> int:
        return len(self.noisy)


@dataclass(frozen=True, kw_only=True)
class Joint:
    """What enters the up layer behind a cut: a deep feature beside a shallow skip. P = 2 B rows, as in the inputs."""

    feature: Float[Tensor, "P C h w"]
    skip: Float[Tensor, "P S h w"]


@dataclass(frozen=True, kw_only=True)
class FullPass:
    """One pass through the whole U-Net."""

    views: NoisyViews
    prediction: Float[Tensor, "P 4 h w"]
    """The U-Net's output, P = 2 B."""
    joints: dict[int, Joint]
    """By cut."""


class Passes:
    """Full and shallow passes of a Zero123 prior.

    Args:
        prior: its U-Net has no cache.
        guidance_scale: of classifier-free guidance.
        cuts: where features are captured; by default at every cut.
    """

    def __init__(self, prior: Zero123Prior, guidance_scale: float, cuts: Sequence[int] | None = None) -> None:
        self.prior, self.guidance_scale = prior, guidance_scale
        default = PartialUNet(prior.unet, Hash3DConfig.cut)
        self.default_cut = default.cut
        self.partials = {
            cut: PartialUNet(prior.unet, cut) for cut in (range(default.num_cuts) if cuts is None else cuts)
        }

    def noisy_views(
        self,
        latents: Float[Tensor, "B 4 h w"],
        noise: Float[Tensor, "B 4 h w"],
        timesteps: Int[Tensor, " B"],
        condition: ImageCondition,
        pose: Float[Tensor, "B 4"],
    ) -> NoisyViews:
        """B views with noise of their timesteps; `condition` holds B reference images."""
        noise = noise.to(latents)
        noisy = self.prior.schedule.add_noise(latents, noise, timesteps)
        inputs = self.prior.guided_inputs(noisy, timesteps, condition, pose)
        return NoisyViews(noisy=noisy, noise=noise, timesteps=timesteps, inputs=inputs)

    @torch.no_grad()
    def full(self, views: NoisyViews) -> FullPass:
        """The whole U-Net; one pass captures what enters at all cuts."""
        with captured(self.prior.unet, self.partials) as joints:
            prediction = self.prior.unet(**views.inputs, return_dict=False)[0]
        return FullPass(views=views, prediction=prediction, joints=joints)

    @torch.no_grad()
    def shallow(self, views: NoisyViews, cut: int, feature: Float[Tensor, "P C i j"]) -> Float[Tensor, "P 4 h w"]:
        """The U-Net's output from given deep features."""
        return self.partials[cut].shallow_pass(feature, **views.inputs, return_dict=False)[0]

    def predicted_noise(
        self, views: NoisyViews, prediction: Float[Tensor, "P 4 h w"], guidance_scale: float | None = None
    ) -> Float[Tensor, "B 4 h w"]:
        """The guided noise prediction of an output of the U-Net."""
        conditional, unconditional = prediction.chunk(2)
        scale = self.guidance_scale if guidance_scale is None else guidance_scale
        guided = classifier_free_guidance(conditional, unconditional, scale)
        return self.prior.schedule.to_noise(guided, views.noisy, views.timesteps)

    def residual(
        self, views: NoisyViews, prediction: Float[Tensor, "P 4 h w"], guidance_scale: float | None = None
    ) -> Float[Tensor, "B 4 h w"]:
        """The SDS residual: guided noise prediction minus the noise that was added."""
        return self.predicted_noise(views, prediction, guidance_scale) - views.noise


@contextmanager
def captured(unet: Any, cuts: Iterable[int]) -> Iterator[dict[int, Joint]]:
    """Inside the block, a full pass of the U-Net leaves what enters at each cut."""
    layers = [layer for block in unet.up_blocks for layer in block.resnets]
    channels = [unet.config.block_out_channels[-1], *(layer.out_channels for layer in layers[:-1])]
    joints: dict[int, Joint] = {}

    def capture(cut: int) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def hook(_: nn.Module, inputs: tuple[Any, ...]) -> None:
            joined = inputs[0]
            joints[cut] = Joint(feature=joined[:, : channels[cut]], skip=joined[:, channels[cut] :])

        return hook

    with ExitStack() as stack:
        for cut in cuts:
            stack.callback(layers[cut].register_forward_pre_hook(capture(cut)).remove)
        yield joints


def by_view(paired: Float[Tensor, "P *shape"]) -> Float[Tensor, "B 2 *shape"]:
    """Rows [conditional views, unconditional views] as both branches of each view."""
    return paired.unflatten(0, (2, -1)).transpose(0, 1)


def cosine(values: Float[Tensor, "B *shape"], others: Float[Tensor, "B *shape"]) -> Float[Tensor, " B"]:
    """Cosine similarity of each row, in float32."""
    return F.cosine_similarity(values.float().flatten(1), others.float().flatten(1))


def relative_error(values: Float[Tensor, "B *shape"], reference: Float[Tensor, "B *shape"]) -> Float[Tensor, " B"]:
    """||value - reference|| / ||reference|| of each row, in float32."""
    values, reference = values.float().flatten(1), reference.float().flatten(1)
    return (values - reference).norm(dim=1) / reference.norm(dim=1)
