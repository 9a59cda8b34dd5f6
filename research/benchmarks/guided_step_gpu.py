"""A whole step of Zero-123 (GS) as two CUDA graphs with the U-Net's own between them: what a recorded step would take.

Usage: python -m research.benchmarks.guided_step_gpu [--tiny] [--views 1] [--write guided.md]

Random full-size weights. `before` renders, encodes and adds noise; `after` makes the loss and the gradients, counts
those on the screen and takes Adam's step. All numbers of a step go to the device in one copy. `--tiny`: narrow models,
and without a GPU the same functions without graphs.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from torch import Tensor

from hash3d.cameras import Cameras, CameraSamplerConfig
from hash3d.diffusion.pose import pose_numbers
from hash3d.diffusion.random_weights import ZERO123, write_random_prior
from hash3d.fast.cuda_graph import beside, recorded_into
from hash3d.fast.engine import UNetEngine
from hash3d.fast.fused_layers import fused_layers
from hash3d.guidance.latent_guidance import resize
from hash3d.guidance.sds import classifier_free_guidance, sds_gradient, sds_loss
from hash3d.rendering._triton_splat import render_triton
from hash3d.rendering.splat import SplatJob, SplatRendererConfig
from hash3d.representations.gaussians import GaussiansConfig
from hash3d.training.guide import load_zero123
from hash3d.training.watch import step_if_finite

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
CAMERAS = CameraSamplerConfig(elevation=(-10.0, 80.0), radius=3.8, fov_y=20.0)


class Packet:
    """The numbers of a step: written by name on the host, and copied to the device at once.

    Three buffers take turns, each waited for before it is written again: that copy is long over.
    """

    def __init__(self, shapes: dict[str, tuple[int, ...]], device: torch.device) -> None:
        sizes = [torch.Size(shape).numel() for shape in shapes.values()]
        on_gpu = device.type == "cuda"
        self._flat = torch.zeros(sum(sizes), device=device)
        self._buffers = [torch.zeros(sum(sizes), pin_memory=on_gpu) for _ in range(3)]
        self._copied: list[Any] = [torch.cuda.Event() if on_gpu else None for _ in range(3)]
        self._slices = [
            {name: part.view(shape) for (name, shape), part in zip(shapes.items(), flat.split(sizes), strict=True)}
            for flat in self._buffers
        ]
        self.numbers = {
            name: part.view(shape) for (name, shape), part in zip(shapes.items(), self._flat.split(sizes), strict=True)
        }
        """On the device, in place."""
        self._turn = 0

    def send(self, numbers: dict[str, Tensor | float]) -> None:
        """Copy numbers on their way; the host waits for nothing."""
        turn = self._turn = (self._turn + 1) % len(self._buffers)
        if self._copied[turn] is not None:
            self._copied[turn].synchronize()
        for name, value in numbers.items():
            target = self._slices[turn][name]
            _ = target.copy_(value) if isinstance(value, Tensor) else target.fill_(value)
        self._flat.copy_(self._buffers[turn], non_blocking=True)
        if self._copied[turn] is not None:
            self._copied[turn].record()


class GuidedStep:
    """A step of `count` Gaussians, from its numbers to Adam; with `records` its two parts are CUDA graphs."""

    def __init__(self, prior: Any, *, count: int, size: int, reference_size: int, views: int, records: bool) -> None:
        self.prior, self.size, self.views, self.unet = prior, size, views, UNetEngine(prior.unet, -1)
        self.generator = torch.Generator().manual_seed(0)
        self.model: Any = GaussiansConfig(num_points=count, adam_eps=1e-8).build(self.generator).to(DEVICE)
        rates = [{**group, "lr": torch.tensor(float(group["lr"]), device=DEVICE)} for group in self._groups()]
        on_gpu = DEVICE.type == "cuda"
        self.optimizer = torch.optim.Adam(rates, eps=1e-8, fused=on_gpu, capturable=on_gpu)
        self.parameters = [group["params"][0] for group in self.optimizer.param_groups]
        self.probe = torch.zeros(views, count, 2, device=DEVICE, requires_grad=True)
        self.total, self.seen = torch.zeros(count, device=DEVICE), torch.zeros(count, device=DEVICE)
        side = prior.unet.config.sample_size
        latent = (views, 4, side, side)
        self.latent_shape = latent
        each = {"timestep": (views,), "signal": (views, 1, 1, 1), "sigma": (views, 1, 1, 1), "weight": (views,)}
        rest = {"pose": (views, 4), "posterior": latent, "noise": latent, "weights": (3,), "rates": (len(rates),)}
        matrices = {"viewmats": (views, 4, 4), "K": (views, 3, 3), "background": (views, 3)}
        self.packet = Packet({**each, **matrices, **rest}, DEVICE)
        self.keep = torch.cat([torch.ones(views), torch.zeros(views)]).to(DEVICE)
        self.prediction = torch.zeros(2 * views, *latent[1:], device=DEVICE, dtype=prior.dtype)
        reference = torch.rand(1, 3, reference_size, reference_size, generator=self.generator).to(DEVICE)
        with torch.no_grad():
            condition = prior.condition(F.interpolate(reference, (prior.image_size,) * 2) * 2.0 - 1.0)
        self.condition = condition.expand(2 * views)
        self.color, self.mask = reference.permute(0, 2, 3, 1), reference[:, :1].permute(0, 2, 3, 1).round()
        camera = Cameras.orbit(elevation=5.0, azimuth=0.0, radius=3.8, fov_y=20.0, size=reference_size)
        self.reference = camera.viewmats.to(DEVICE), camera.K.to(DEVICE), torch.ones(1, 3, device=DEVICE)
        self.reference_probe = torch.zeros(1, count, 2, device=DEVICE)
        self.inputs: dict[str, Any] = {}
        self.row = torch.zeros(7, device=DEVICE)
        self.send()
        self.parts = self._record() if records else (self.before, self.after)

    def _groups(self) -> list[dict[str, Any]]:
        return [dict(group) for group in self.model.parameter_groups()]

    def send(self) -> None:
        """Sample a step on the host, in the order of the trainer, and send its numbers."""
        cameras = CAMERAS.sample(self.size, self.generator)
        cameras = cameras if self.views == 1 else Cameras.orbit(
            elevation=cameras.elevation, azimuth=[90.0 * view for view in range(self.views)], radius=3.8, fov_y=20.0,
            size=self.size,
        )  # fmt: skip
        timesteps = torch.randint(200, 800, (1,), generator=self.generator).expand(self.views)
        alphas = self.prior.schedule.alphas_cumprod[timesteps].view(-1, 1, 1, 1)
        pose = pose_numbers(
            elevation=cameras.elevation, relative_azimuth=cameras.azimuth, relative_radius=cameras.radius - 3.8,
            reference_elevation=5.0, variant=self.prior.pose_variant,
        )  # fmt: skip
        changing = self.model.learning_rates(0)
        rates = torch.tensor([changing.get(group["name"], 0.01) for group in self.optimizer.param_groups])
        self.packet.send(
            {
                "timestep": timesteps, "signal": alphas.sqrt(), "sigma": (1.0 - alphas).sqrt(),
                "weight": self.prior.schedule.weights(timesteps, "sqrt"), "viewmats": cameras.viewmats, "K": cameras.K,
                "background": 1.0, "pose": pose, "posterior": torch.randn(self.latent_shape, generator=self.generator),
                "noise": torch.randn(self.latent_shape, generator=self.generator),
                "weights": torch.tensor([0.1, 1000.0, 50.0]), "rates": rates,
            }
        )  # fmt: skip

    def before(self) -> None:
        """Render both views, encode the random one, add noise: the U-Net's inputs."""
        n, splats, config = self.packet.numbers, self.model.gaussians(), SplatRendererConfig()
        job = SplatJob(splats, n["viewmats"], n["K"], n["background"], self.probe, (self.size,) * 2, config)
        view, self.need = render_triton(job)
        side = self.color.shape[1]
        self.seen_reference, self.need_reference = render_triton(
            SplatJob(splats, *self.reference, self.reference_probe, (side, side), config)
        )
        pixels = resize(view.color, (self.prior.image_size,) * 2).permute(0, 3, 1, 2) * 2.0 - 1.0
        vae = self.prior.vae
        moments = vae.quant_conv(vae.encoder(pixels.to(self.prior.dtype, memory_format=torch.channels_last)))
        posterior = DiagonalGaussianDistribution(moments)
        latents = posterior.mode() + posterior.std * n["posterior"].to(moments)
        self.latents = (latents * vae.config.scaling_factor).to(self.prior.dtype)
        noisy = (n["signal"] * self.latents.detach() + n["sigma"] * n["noise"]).to(self.prior.dtype)
        with torch.no_grad():
            twice = [torch.cat([each] * 2) for each in (noisy, n["timestep"].long(), n["pose"])]
            self.inputs = self.prior.make_inputs(twice[0], twice[1], self.condition, twice[2], self.keep)

    def after(self) -> None:
        """Loss, gradients, the sums of densification, and Adam; the step's numbers into `row`."""
        n = self.packet.numbers
        conditional, unconditional = self.prediction.chunk(2)
        guided = classifier_free_guidance(conditional, unconditional, 3.0)
        gradient = sds_gradient(guided, n["noise"].to(guided), n["weight"])
        losses = torch.stack(
            [
                sds_loss(self.latents, gradient),
                (self.seen_reference.color - self.color).square().mean(),
                (self.seen_reference.alpha - self.mask).square().mean(),
            ]
        )
        weighted = losses * n["weights"]
        total = weighted.sum()
        *gradients, on_screen = torch.autograd.grad(total, [*self.parameters, self.probe])
        with torch.no_grad():
            lengths = (on_screen * (0.5 * self.size)).norm(dim=-1).nan_to_num(0.0, 0.0, 0.0)
            self.total += lengths.sum(dim=0)
            self.seen += (lengths > 0).sum(dim=0)
            for parameter, each, group, rate in zip(
                self.parameters, gradients, self.optimizer.param_groups, n["rates"].unbind(), strict=True
            ):
                parameter.grad = each
                _ = group["lr"].copy_(rate)
            flags = step_if_finite(self.optimizer, total)
            needs = torch.cat([self.need, self.need_reference]).float()
            self.row.copy_(torch.cat([weighted.detach(), flags["loss"][None], flags["gradients"][None], needs]))

    def _record(self) -> tuple[Callable[[], None], Callable[[], None]]:
        """Both parts as graphs that share their memory."""
        first, second = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph()
        self.prior.vae.to(memory_format=torch.channels_last)
        with fused_layers(self.prior.vae):
            with beside(DEVICE):
                for _ in range(3):
                    self.before()
                    self.after()
                del self.latents, self.seen_reference  # Their graph's nodes are of this stream.
            with recorded_into(first):
                self.before()
            with recorded_into(second, first.pool()):
                self.after()
        return first.replay, second.replay

    def __call__(self, feature: Tensor | None) -> Tensor | None:
        """One step; a shallow pass of the U-Net from `feature`, or a full one, which returns its feature."""
        self.send()
        before, after = self.parts
        before()
        with torch.no_grad():
            if feature is None:
                (prediction, *_), feature = self.unet.full_pass(**self.inputs, return_dict=False)
            else:
                prediction = self.unet.shallow_pass(feature, **self.inputs, return_dict=False)[0]
            self.prediction.copy_(prediction)
        after()
        return feature


def loop(step: GuidedStep, count: int, period: int) -> float:
    """Milliseconds a step of a loop without waits, of which one in `period` has a full pass."""
    feature, kept = None, None
    synchronize()
    begin = time.perf_counter()
    for number in range(count):
        kept = step(None if number % period == 0 else feature)
        feature = kept.clone() if number % period == 0 and kept is not None else feature
    synchronize()
    return 1000.0 * (time.perf_counter() - begin) / count


def synchronize() -> None:
    """Wait for the device."""
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def device_times(parts: tuple[Callable[[], None], ...], repeats: int = 20) -> list[float]:
    """Median milliseconds of each on the device, called in turn: the second uses up what the first left."""
    found: list[list[float]] = [[] for _ in parts]
    for _ in range(repeats):
        for part, times in zip(parts, found, strict=True):
            begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            synchronize()
            begin.record()
            part()
            end.record()
            synchronize()
            times.append(begin.elapsed_time(end))
    return list(map(statistics.median, found))


def main() -> None:
    """Print a line a case, and write them if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--views", type=int, default=1)
    parser.add_argument("--count", type=int, default=4096)
    parser.add_argument("--sizes", type=int, nargs=2, default=(256, 256), help="of random views and of the reference")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    folder = Path(tempfile.gettempdir()) / f"hash3d-random-{'tiny' if options.tiny else 'priors'}" / ZERO123
    write_random_prior(ZERO123, folder, device=DEVICE.type, tiny=options.tiny)
    prior = load_zero123(str(folder), DEVICE)
    shape = {
        "count": options.count,
        "size": options.sizes[0],
        "reference_size": options.sizes[1],
        "views": options.views,
    }
    lines, rows = [], []
    for records in (False, True) if DEVICE.type == "cuda" else (False,):
        with nullcontext() if records else fused_layers(prior.vae):
            step = GuidedStep(prior, **shape, records=records)
            feature = step(None)
            kept = feature.clone() if feature is not None else None
            if not records:  # A recording has taken three steps before.
                step(None), step(None)
            step(kept)
            rows.append(step.row.tolist())
            full, reused = (loop(step, options.steps, period) for period in (1, 4))
            line = f"{shape}, graphs {records}: full {full:.2f}, of 4 one full {reused:.2f} ms a step"
            if records:
                before, after = device_times(step.parts)
                line += f"; on the device before {before:.2f}, after {after:.2f} ms"
            lines.append(line)
            print(line, rows[-1], flush=True)
    if options.write:
        options.write.write_text("\n".join([*lines, str(rows)]) + "\n")


if __name__ == "__main__":
    main()
