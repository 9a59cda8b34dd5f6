"""What the released Hash3D (cc48922) and the paper's supplement run at full scale, stage by stage.

Read from the authors' configurations and code, not from the recipes here. Timesteps are of 1,000, angles in degrees.
Where the supplement and the code differ, each has an entry; else "supplement" stands for both.
"""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Facts:
    steps: int
    size: dict[int, int]
    """Pixels a side from a step on."""
    cameras: dict[str, Any]
    scale: float | None = None
    """The factor s of unconditional + s (conditional - unconditional); None where the stage denoises pictures."""
    weighting: str = "sds"
    timesteps: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Lowest and highest at a step."""
    reference: dict[int, int] | None = None
    """Pixels a side of the reference view from a step on."""
    losses: dict[str, float | dict[int, float]]
    """Weights, at all steps or at some; no other loss has one."""
    representation: dict[str, Any]
    betas: tuple[float, float] = (0.9, 0.99)
    extra: dict[str, Any] = field(default_factory=dict)
    """Other values by their path in the stage."""


FALLING = {0: (700, 980), 50: (700, 980), 125: (500, 890), 200: (300, 800), 500: (300, 800), 2000: (300, 800)}
WIDE = dict.fromkeys((0, 50, 200, 500, 2000, 9999), (20, 980))
SMOOTH = {0: 7.0, 100: 7.0, 125: 6.0, 150: 5.0, 200: 10.0, 900: 10.0}
COLOR = {0: 500.0, 100: 500.0, 250: 750.0, 400: 1000.0, 900: 1000.0}
POINTS = {"sh0_lr": (0.01, 0.01), "opacity_lr": 0.05, "scale_lr": 0.005}
SLOW = {"means_lr": (1e-3, 2e-5), "lr_steps": 1000, "adam_eps": 1e-8}
GRID = {"encoding_lr": 0.01, "density_lr": 0.01, "color_lr": 0.01, "lr_decay": 1.0, "hidden_width": 64}
PROGRESSIVE = {"encoding.start_level": 8, "encoding.start_step": 2000}
AROUND = {"elevation": (-10.0, 80.0), "radius": 3.8, "fov_y": 20.0, "radius_range": None, "fov_y_range": None}
CLOSE = {"elevation": (-10.0, 45.0), "radius_range": (1.5, 2.0), "fov_y_range": (40.0, 70.0), "batch_size": 1}
LIT = {"shading.albedo_until": 2001, "shading.shaded_share": 0.75, "shading.textureless_share": 0.5}


def zero123_gs(scale: float, batch_size: int) -> tuple[Facts, ...]:
    return (
        Facts(
            steps=1000, size={0: 256}, reference={0: 128, 199: 128, 200: 256, 300: 512},
            cameras={**AROUND, "batch_size": batch_size}, scale=scale, weighting="sqrt", timesteps=FALLING,
            representation={**POINTS, **SLOW, "quat_lr": 0.001, "num_points": 4096, "radius": 0.5, "opacity": 0.05},
            betas=(0.9, 0.999), losses={"guidance": 0.1, "color": COLOR, "mask": 50.0},
            extra={"densify.every": 100, "densify.grad_threshold": 0.01, "densify.split_scale": 0.02,
                   "densify.prune_opacity": 0.005, "densify.prune_scale": None, "guidance.shared_timestep": True},
        ),
    )  # fmt: skip


ZERO123_NERF = Facts(
    steps=1000, size={0: 64, 199: 64, 200: 128, 299: 128, 300: 256}, reference={0: 128, 199: 128, 200: 256},
    cameras={**AROUND, "batch_size": 1}, scale=3.0, weighting="sqrt", timesteps=FALLING,
    representation={**GRID, "radius": 2.0, "hidden_layers": 2, "adam_eps": 1e-8, "encoding.start_level": None},
    losses={"guidance": 0.1, "color": COLOR, "mask": 50.0, "normal_smoothness": SMOOTH, "normal_smoothness_3d": SMOOTH,
            "orientation": 1.0, "sparsity": 0.5, "opaque_entropy": 0.5},
    extra={"renderer.samples_per_ray": 256},
)  # fmt: skip

DREAMGAUSSIAN = Facts(
    steps=500, size={0: 128, 149: 128, 150: 256, 299: 256, 300: 512}, reference={0: 256},
    cameras={"elevation": (-30.0, 30.0), "radius": 2.0, "fov_y": 49.1, "batch_size": 1}, scale=5.0,
    timesteps={0: (980, 980), 50: (900, 900), 200: (600, 600), 250: (500, 500), 499: (20, 20)},
    representation={**POINTS, "means_lr": (0.01, 2e-4), "lr_steps": 500, "quat_lr": 0.005, "adam_eps": 1e-15,
                    "num_points": 5000, "radius": 0.5, "opacity": 0.1},
    betas=(0.9, 0.999), losses={"guidance": 1.0, "color": 10_000.0, "mask": 1000.0},
    extra={"densify.every": 100, "densify.start": 100, "densify.grad_threshold": 0.01, "densify.split_scale": 0.04,
           "densify.prune_opacity": 0.01, "densify.prune_scale": 0.4, "background.other_share": 0.5,
           "surface.level": 1.0},
)  # fmt: skip
DREAMGAUSSIAN_MESH = Facts(
    steps=50, size={0: 512}, reference={0: 256}, cameras=DREAMGAUSSIAN.cameras,
    representation={"texture_size": 1024, "texture_lr": 0.2, "offsets_lr": 1e-4},
    betas=(0.95, 0.999), losses={"guidance": 1.0, "color": 1.0},
    extra={"guidance.num_steps": 50, "guidance.guidance.guidance_scale": 5.0},
)  # fmt: skip


def magic123(weight: float) -> tuple[Facts, ...]:
    cameras = {"elevation": (-45.0, 45.0), "radius": 2.5, "fov_y": 40.0, "radius_range": None, "batch_size": 1}
    guided = {"cameras": cameras, "scale": 3.0, "weighting": "sqrt", "timesteps": FALLING, "steps": 10_000}
    by_text = {"guidances.text.guidance_scale": 101.0, "guidances.text.weighting": "uniform",
               "guidances.text.min_timestep": 0.02, "guidances.text.max_timestep": 0.6}  # fmt: skip
    common = {"guidance": weight, "text_guidance": 0.025, "color": 1000.0}
    return (
        Facts(
            **guided, size={0: 128}, reference={0: 128},
            losses={**common, "mask_entropy": 100.0, "normal_smoothness": 1000.0},
            representation={"radius": 1.0, "hidden_layers": 2, "encoding_lr": 0.01, "density_lr": 0.001,
                            "color_lr": 0.001, "adam_eps": 1e-8, **PROGRESSIVE, "encoding.update_steps": 300},
            extra={**by_text, "renderer.samples_per_ray": 256},
        ),
        Facts(
            **guided, size={0: 512}, reference={0: 512},
            losses={**common, "mask_entropy": 100.0, "normal_consistency": 1000.0},
            representation={"radius": 1.0, "values_lr": 0.001, "offsets_lr": 0.001, "colors_lr": 0.001},
            extra=by_text,
        ),
    )  # fmt: skip


DREAMFUSION = Facts(
    steps=10_000, size={0: 64}, cameras=CLOSE, scale=101.0, timesteps=WIDE,
    representation={**GRID, "radius": 2.0, "hidden_layers": 1, "adam_eps": 1e-15, **PROGRESSIVE,
                    "encoding.update_steps": 500},
    losses={"guidance": 1.0, "orientation": {0: 10.0, 2500: 505.0, 5000: 1000.0, 9999: 1000.0}, "sparsity": 1.0},
    extra={**LIT, "shading.soft": False, "shading.ambient": 0.1, "shading.diffuse": 0.9, "background.lr": 0.001,
           "background.hidden_width": 16, "renderer.samples_per_ray": 512, "guidance.shared_timestep": False},
)  # fmt: skip


def latent_nerf(frequencies: bool) -> tuple[Facts, ...]:
    rates, layers, width = (0.001, 3, 96) if frequencies else (0.01, 1, 64)
    networks = {"density_lr": rates, "color_lr": rates, "hidden_layers": layers, "hidden_width": width}
    encoding = {"encoding.num_frequencies": 6} if frequencies else {"encoding.start_level": None, "encoding_lr": 0.01}
    return (
        Facts(
            steps=10_000, size={0: 64, 4999: 64, 5000: 256}, scale=101.0, timesteps=WIDE,
            cameras={**CLOSE, "radius_range": (1.0, 1.5)}, losses={"guidance": 1.0, "sparsity": 5e-4},
            representation={**networks, "lr_decay": 0.1, "lr_steps": 10_000, "warmup_steps": 100, "adam_eps": 1e-15,
                            "radius": 1.0, "channels": 4, "color_activation": "none",
                            "density_activation": "trunc_exp", "blob_scale": 5.0, "blob_std": 0.2, **encoding},
            extra={"guidance.rendered": "latents", "background.color_activation": "none"},
        ),
    )  # fmt: skip


SDS_GS = Facts(
    steps=5000, size={0: 512}, scale=101.0,
    cameras={"elevation": (-20.0, 90.0), "radius": 2.5, "fov_y_range": (60.0, 70.0), "batch_size": 4},
    timesteps={**dict.fromkeys((0, 50, 200, 500, 2000), (20, 980)), 2001: (20, 500), 4999: (20, 500)},
    representation={**POINTS, **SLOW, "quat_lr": 0.005, "num_points": 4096, "radius": 0.8, "opacity": 0.2},
    betas=(0.9, 0.999),
    losses={"guidance": 0.1, "position": 1.0, "opacity": 1e-4, "scale_sum": 1e-4, "total_variation": 1.0,
            "shape_variation": 1.0},
    extra={"densify.every": 300, "densify.start": 500, "densify.grad_threshold": 0.01, "densify.split_scale": 0.02,
           "densify.prune_opacity": 0.005, "shading.albedo_until": 2000, "shading.shaded_share": 0.75,
           "shading.textureless_share": 0.0, "shading.soft": True, "background.solid_share": 0.8,
           "background.lr": 0.001},
)  # fmt: skip


def magic3d(mesh_steps: int) -> tuple[Facts, ...]:
    lit = {"shading.soft": True, "shading.light": "magic3d", "background.lr": 0.001}
    return (
        Facts(
            steps=10_000, size={0: 64}, cameras=CLOSE, scale=101.0, weighting="uniform", timesteps=WIDE,
            representation={**GRID, "radius": 2.0, "hidden_layers": 1, "adam_eps": 1e-15, "encoding.start_level": None},
            losses=DREAMFUSION.losses,
            extra={**LIT, **lit, "renderer.samples_per_ray": 512, "surface.level": "auto"},
        ),
        Facts(
            steps=mesh_steps, size={0: 512}, cameras={**CLOSE, "fov_y_range": (30.0, 45.0)}, scale=101.0,
            timesteps=dict.fromkeys((0, 50, 200, 500, 2000), (20, 500)),
            representation={"radius": 2.0, "values_lr": 0.01, "offsets_lr": 0.01, "colors_lr": 0.01},
            losses={"guidance": 1.0, "normal_consistency": 10_000.0},
            extra={**lit, "shading.albedo_until": 0, "background.lr": 0.01},
        ),
    )  # fmt: skip


GAUSSIANDREAMER = Facts(
    steps=1200, size={0: 1024}, scale=101.0, timesteps={0: (20, 980), 500: (20, 980), 501: (20, 550), 1199: (20, 550)},
    cameras={"elevation": (-10.0, 60.0), "radius": 4.0, "radius_range": (1.5, 4.0), "fov_y_range": (40.0, 70.0),
             "batch_size": 4},
    representation={"means_lr": (2e-4, 1e-4), "lr_steps": 30_000, "sh0_lr": (0.0125, 0.0125), "opacity_lr": 0.01,
                    "scale_lr": 0.005, "quat_lr": 0.001, "adam_eps": 1e-15, "opacity": 0.1},
    betas=(0.9, 0.999), losses={"guidance": 1.0},
    extra={"densify.every": 100, "densify.start": 400, "densify.stop": 800, "densify.grad_threshold": 2e-4,
           "densify.split_scale": 0.04, "densify.prune_opacity": 0.05, "background.color": "black"},
)  # fmt: skip

FULL: dict[tuple[str, str], tuple[Facts, ...]] = {
    ("zero123_gs", "supplement"): zero123_gs(scale=3.0, batch_size=1),
    ("zero123_gs", "released"): zero123_gs(scale=5.0, batch_size=4),
    ("zero123_nerf", "supplement"): (ZERO123_NERF,),
    ("dreamgaussian", "supplement"): (DREAMGAUSSIAN, DREAMGAUSSIAN_MESH),
    ("magic123", "supplement"): magic123(weight=0.1),
    ("magic123", "released"): magic123(weight=2.0),
    ("dreamfusion", "supplement"): (DREAMFUSION,),
    ("latent_nerf", "supplement"): latent_nerf(frequencies=True),
    ("latent_nerf", "released"): latent_nerf(frequencies=False),
    ("sds_gs", "supplement"): (SDS_GS,),
    ("magic3d", "supplement"): magic3d(mesh_steps=10_000),
    ("magic3d", "released"): magic3d(mesh_steps=5000),
    ("gaussiandreamer", "supplement"): (GAUSSIANDREAMER,),
}
