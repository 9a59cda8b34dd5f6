"""The options of `hash3d generate SYSTEM`. Nothing here imports torch: a mistake is answered at once."""

from dataclasses import dataclass, field, make_dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, cast

import tyro

from hash3d.cache import PRESETS, CacheConfig, Hash3DConfig
from hash3d.systems import SYSTEMS, SystemInfo

from .full_scale import choose_cache, runs_mini
from .parsing import Advanced, Maybe, parse_options

SHOWN = {"image": "picture", "prompt": "text"}
"""What a system may start from, in words."""


@dataclass(frozen=True, kw_only=True)
class _Image:
    image: Maybe[Path] = None
    """An image of one object, with an alpha channel or on a plain background."""


@dataclass(frozen=True, kw_only=True)
class _Prompt:
    prompt: Maybe[str] = None
    """What to make."""
    negative_prompt: Maybe[str] = None
    """What it should not look like."""


@dataclass(frozen=True, kw_only=True)
class _ImageSettings:
    elevation: Maybe[float] = None
    """Degrees above the horizon from which the image was taken; by default 5."""
    framing: Maybe[Literal["auto", "keep", "recentre"]] = None
    """Whether the image is brought to the prior's framing; by default auto."""
    pose: Maybe[Literal["auto", "stable", "xl"]] = None
    """The pose convention of the Zero123 (stable: Stable-Zero123's); by default auto: what is known of the prior."""


@dataclass(frozen=True, kw_only=True)
class _TextPrior:
    text_prior: Maybe[str] = None
    """The Stable Diffusion that is asked too, named like --prior; by default mini-sd, at full scale none."""


@dataclass(frozen=True, kw_only=True)
class _Start:
    start: Maybe[Path] = None
    """A PLY of points, a mesh, or a Shap-E folder from which Gaussians start, or "random" for points in a ball; by
    default as the recipe has it, and full-scale GaussianDreamer has no default."""


@dataclass(frozen=True, kw_only=True)
class _Replay:
    replay_every: Maybe[int] = None
    """Steps between two views that the model denoises, to be kept and fitted many times in place of score distillation
    (replay). 0 is score distillation, with feature reuse unless --no-cache is given. By default 3 in zero123_gs and
    dreamgaussian at mini scale where no option is about the cache, else 0."""


@dataclass(frozen=True, kw_only=True)
class Generate:
    """Turn an image or a text into a 3D asset. --help-all shows the options of the cache too."""

    system: ClassVar[str] = ""

    out: Maybe[Path] = None
    """The run folder; by default a new folder in outputs/."""
    quality: Literal["fast", "good", "best"] = "good"
    """fast: half of the recipe's steps, unless --steps says how many. good: the recipe. best: the whole U-Net at
    every step."""
    seed: int = 0
    """Makes cameras, noise, initialisation and the cache's random choices."""
    device: Maybe[Literal["cpu", "cuda"]] = None
    """Where to run; by default the GPU if there is one."""
    no_cache: bool = False
    """Run the whole U-Net at every step."""
    resume: bool = False
    """Go on with the run in --out from its last checkpoint."""
    prior: Maybe[str] = None
    """A diffusers folder, a single file (.safetensors, .ckpt), an embedded prior, or a hub name; by default the
    system's embedded one. A local path wins."""
    scale: Maybe[Literal["mini", "supplement", "released"]] = None
    """The recipe's settings: by default mini for an embedded prior, else the supplement's. Full scale (supplement,
    released) needs --prior. released is the authors' code; --preset released, its reuse, belongs to it."""
    steps: Maybe[int] = None
    """Optimisation steps; by default the recipe's."""
    guidance_scale: Maybe[float] = None
    """Scale of classifier-free guidance of the main diffusion model; by default the recipe's."""
    size: Maybe[int] = None
    """Pixels a side of the random views throughout; by default as the recipe's schedule has them."""
    batch_size: Maybe[int] = None
    """Random views a step; by default the recipe's."""
    lr_scale: float = 1.0
    """Factor on all learning rates."""
    loss_scale: dict[str, float] = field(default_factory=dict)
    """Factors on the weights of losses by name, such as `color 0.5 mask 0`; an unknown name is answered with the
    system's."""
    preset: Annotated[str, tyro.conf.arg(metavar="{" + ",".join(PRESETS) + "}")] = "default"
    """The cache's settings to start from; --cache.FIELD changes single ones. At full scale, default keeps the feature
    of layer i = 10 (cut -2): the cheaper last layer is proven at mini scale only. released belongs to --scale released,
    and looks for a feature as often as the authors' code of the system does."""
    dwell: Advanced[Maybe[int]] = None
    """Visits of a cell of the cache's grid before another is sampled; more makes more reuse, 1 samples every view
    independently. By default the recipe's with the default preset (at full scale at most 2, since more are proven at
    mini scale only), and 1 with the others, which are for comparison."""
    engine: Advanced[Literal["auto", "graph", "eager"]] = "auto"
    """How the diffusion models run: as CUDA graphs (graph), or as PyTorch runs them (eager). By default: graph on
    a GPU, else eager."""
    checkpoint_every: Advanced[int] = 50
    """Steps between two checkpoints."""
    cache: Advanced[CacheConfig] = field(default_factory=Hash3DConfig)
    """Feature reuse."""


def find_system(name: str) -> SystemInfo:
    """The system of a name."""
    known = {system.name: system for system in SYSTEMS}
    if name not in known:
        raise ValueError(f"Expected a system ({', '.join(known)}), but got {name!r}.")
    return known[name]


def options_of(system: SystemInfo, cache: CacheConfig) -> type[Generate]:
    """The class of a system's options: those that its recipe takes, and the fields of a cache with its values."""
    inputs = {"image": _Image, "prompt": _Prompt}
    others = {"text_prior": _TextPrior, "start": _Start}
    bases = [others[name] for name in system.others] + [_ImageSettings] * ("image" in system.inputs)
    bases += [_Replay] * ("text_prior" not in system.others)
    bases += [Generate, *(inputs[name] for name in reversed(system.inputs))]
    kind = cast(Any, Advanced)[type(cache)]
    told = {"system": system.name, "__doc__": Generate.__doc__}
    fields = [("cache", kind, field(default=cache))]
    return make_dataclass(system.name, fields, bases=tuple(bases), namespace=told, frozen=True, kw_only=True)


def parse(arguments: list[str]) -> Any:
    """Parse the system and its options. The preset is read first, because it gives the cache's defaults.

    They depend on the system and the scale too; where those give others, the options are parsed with them again.
    """
    name, *given = arguments or [""]
    if name.startswith("-") and "--resume" in arguments:
        return parse_options(Generate, "generate", arguments)  # The run in --out says which system it is of.
    system = find_system(name)
    preset = "default"
    for position, argument in enumerate(given):
        if argument == "--preset" and position + 1 < len(given):
            preset = given[position + 1]
        elif argument.startswith("--preset="):
            preset = argument.removeprefix("--preset=")
    if preset not in PRESETS:
        raise ValueError(f"Expected --preset to be one of {', '.join(PRESETS)}, but got {preset!r}.")

    def read(cache: CacheConfig) -> Generate:
        return parse_options(options_of(system, cache), f"generate {name}", given)

    options = read(PRESETS[preset])
    cache = choose_cache(name, preset, mini=runs_mini(options.prior, options.scale))
    return options if cache == PRESETS[preset] else read(cache)
