"""The recipes: at full scale their sources' numbers, at mini scale a whole run, and short files."""

import json
import math
import re
from pathlib import Path

import pytest
import torch

from hash3d import systems
from hash3d.cli.systems import HEADS, row
from hash3d.guidance.denoise import DenoiseGuidanceConfig
from hash3d.recipes.serialize import from_plain, to_plain
from hash3d.schedules import Schedule
from hash3d.systems import SYSTEMS
from hash3d.table.report import markdown_table
from hash3d.training.run import Run
from hash3d.training.trainer import size_at
from tests.systems.facts import FULL
from tests.tiny_recipes import OFTEN, tiny

ROOT = Path(__file__).parents[2]
KNOWN = {system.name: system for system in SYSTEMS}
GIVEN = {"image": Path("picture.png"), "prompt": "a red mug"}
UNUSED_WITHOUT_A_PICTURE = {"color", "mask"}
STAGES = [
    pytest.param(name, scale, number, id=f"{name}-{scale}-{number}")
    for (name, scale), stages in FULL.items()
    for number in range(len(stages))
]
of_all_stages = pytest.mark.parametrize(("name", "scale", "number"), STAGES)


def recipe_of(name, **options):
    system = KNOWN[name]
    given = {each: GIVEN[each] for each in system.inputs}
    return system.recipe(**{"prior": system.embedded, "cache": None, **given, **options})


def stage_and_facts(name, scale, number):
    recipe = recipe_of(name, scale=scale)
    assert len(recipe.stages) == len(FULL[name, scale])
    return recipe.stages[number], FULL[name, scale][number]


def value(config, path):
    """What lies at a path; a constant schedule is its number."""
    found = config
    for part in path.split("."):
        found = found[part] if isinstance(found, dict) else getattr(found, part)
    if isinstance(found, Schedule):
        ((_, found),) = found.knots
    return found


@of_all_stages
def test_steps_and_views(name, scale, number):
    stage, facts = stage_and_facts(name, scale, number)
    assert stage.steps == facts.steps
    assert {step: size_at(stage.size, step) for step in facts.size} == facts.size
    assert size_at(stage.size, facts.steps - 1) == list(facts.size.values())[-1]
    assert {path: value(stage.cameras, path) for path in facts.cameras} == facts.cameras
    assert ("image" in KNOWN[name].inputs) == (facts.reference is not None)
    if facts.reference is not None:
        assert {step: size_at(stage.reference_size, step) for step in facts.reference} == facts.reference


@of_all_stages
def test_guidance(name, scale, number):
    stage, facts = stage_and_facts(name, scale, number)
    if facts.scale is None:
        assert isinstance(stage.guidance, DenoiseGuidanceConfig)
        return
    assert (stage.guidance.guidance_scale, stage.guidance.weighting) == (facts.scale, facts.weighting)
    assert {step: stage.guidance.timestep_range(step, 1000) for step in facts.timesteps} == facts.timesteps


@of_all_stages
def test_losses(name, scale, number):
    stage, facts = stage_and_facts(name, scale, number)
    unused = set() if facts.reference is not None else UNUSED_WITHOUT_A_PICTURE
    guidances = {f"{stage.prefix(each)}guidance": weight for each, weight in stage.losses.guidances.items()}
    assert guidances.keys() | (stage.losses.used() - unused) == set(facts.losses)
    for loss, expected in facts.losses.items():
        schedule = (guidances | stage.losses.schedules())[loss]
        knots = expected if isinstance(expected, dict) else dict.fromkeys((0, 50, 500, facts.steps), expected)
        assert {step: pytest.approx(schedule(step)) for step in knots} == knots, loss


@of_all_stages
def test_learning_rates_and_the_rest(name, scale, number):
    stage, facts = stage_and_facts(name, scale, number)
    found = {path: value(stage.representation, path) for path in facts.representation}
    assert found == facts.representation
    assert stage.adam_betas == facts.betas
    missing = [path for path in facts.extra if getattr(stage, path.split(".")[0]) is None]
    assert not missing
    assert {path: value(stage, path) for path in facts.extra} == facts.extra


@pytest.mark.parametrize(
    ("name", "scale", "size"),
    [("sds_gs", "mini", 0.5), ("sds_gs", "released", 1.0), ("gaussiandreamer", "mini", 0.5),
     ("gaussiandreamer", "released", 1.6)],
)  # fmt: skip
def test_a_start_has_the_size_of_its_scale(name, scale, size, tmp_path):
    """GaussianDreamer makes Shap-E's shapes 1.6 times as large, threestudio's Gaussian extension leaves them."""
    by_file, by_text = (recipe_of(name, scale=scale, start=start) for start in (tmp_path / "cloud.ply", tmp_path))
    assert (by_file.start.radius, by_text.start.scale) == (size, size)
    assert (by_file.start.growth is not None) == (by_text.start.growth is not None) == (name == "gaussiandreamer")
    cameras = by_file.stage.cameras
    if scale == "mini":  # A ball of this radius is wholly in the picture.
        assert size < cameras.radius * math.sin(math.radians(0.5 * cameras.fov_y))


def test_what_a_recipe_does_not_know_is_an_error():
    for unknown in ({"step": 3}, {"framming": "keep"}):
        with pytest.raises(TypeError, match=next(iter(unknown))):
            recipe_of("zero123_gs", **unknown)


def test_gaussiandreamer_bounds_its_gradient():
    guidance = recipe_of("gaussiandreamer", scale="supplement").stage.guidance
    assert [guidance.gradient_bound(step) for step in (0, 500, 1000, 1199)] == [1.5, 1.75, 2.0, 2.0]


def test_dreamgaussian_denoises_by_ten_steps_at_first_and_three_at_last():
    guidance = recipe_of("dreamgaussian", scale="supplement").refinement.guidance
    assert [guidance.timestep_range(step, 1000)[0] for step in (0, 49)] == [1 + 9 * 20, 1 + 2 * 20]


@pytest.mark.parametrize(
    ("name", "number", "rate"),
    [("dreamgaussian", 1, "texture_lr"), ("dreamfusion", 0, "encoding_lr"), ("zero123_nerf", 0, "encoding_lr")],
)
def test_at_mini_scale_what_no_view_sees_stays(name, number, rate):
    """With momentum it would go on: a texel 7 times as far as in the one step whose view saw it."""
    stage, value = recipe_of(name).stages[number], torch.zeros(1, requires_grad=True)
    lr = getattr(stage.representation, rate)
    optimizer = torch.optim.Adam([value], lr=lr, betas=stage.adam_betas)
    for gradient in (1e-6, 0.0, 0.0):
        value.grad = torch.tensor([gradient])
        optimizer.step()
    assert value.item() == pytest.approx(-lr, rel=0.02)  # Adam's epsilon: 1e-8 of 1e-6.


@pytest.mark.parametrize("name", [name for name in KNOWN if (name, "released") not in FULL])
def test_released_is_the_supplement_where_they_agree(name):
    assert recipe_of(name, scale="released") == recipe_of(name, scale="supplement")


@pytest.mark.parametrize("name", KNOWN)
def test_the_mini_scale_runs(name, prior_folder, text_prior_folder, picture_file, tmp_path):
    """Two steps a stage, or nearly so."""
    by_picture = "image" in KNOWN[name].inputs
    changes = {"image": picture_file} if by_picture else {}
    if by_picture and "prompt" in KNOWN[name].inputs:
        changes["text_prior"] = str(text_prior_folder)
    prior = str(prior_folder if by_picture else text_prior_folder)
    steps = 2 * len(KNOWN[name].steps("mini"))
    recipe = tiny(recipe_of(name, prior=prior, cache=OFTEN, scale="mini", steps=steps, seed=1, **changes))
    assert from_plain(json.loads(json.dumps(to_plain(recipe)))) == recipe
    summary = Run(recipe, tmp_path / "run").execute()
    assert (summary["system"], summary["steps"], summary["completed"]) == (name, recipe.steps, True)
    assert len(summary["stages"]) == len(recipe.stages)
    for output in summary["outputs"]:
        assert (tmp_path / "run" / output).stat().st_size > 0


@pytest.mark.parametrize("system", SYSTEMS, ids=lambda system: system.name)
def test_steps_are_of_all_stages_and_each_has_one(system):
    for scale in ("mini", "supplement"):
        stages = len(system.steps(scale))
        for steps in (stages, 2, 5, sum(system.steps(scale)) // 2):
            assert recipe_of(system.name, scale=scale, steps=steps).steps == steps
    with pytest.raises(ValueError, match="at least 1 step"):
        recipe_of(system.name, steps=0)


def test_every_recipe_is_a_short_file_in_the_table():
    folder = Path(systems.__file__).parent
    texts = {path.stem: path.read_text() for path in folder.glob("*.py")}
    files = {name for name, text in texts.items() if re.search(r"^(def recipe\(|recipe = )", text, re.M)}
    assert files == set(KNOWN)
    assert len(SYSTEMS) == len(KNOWN)
    assert {name for name, _ in FULL} <= set(KNOWN)
    lengths = {name: len(texts[name].splitlines()) for name in files}
    assert {name: length for name, length in lengths.items() if length > 110} == {}


def test_the_page_of_systems_lists_them_as_the_command_does():
    heads = (*HEADS, "steps, mini", "steps, full")
    steps = {
        system.name: [" + ".join(f"{count:,}" for count in system.steps(scale)) for scale in ("mini", "supplement")]
        for system in SYSTEMS
    }
    rows = [(f"`{name}`", *rest, *steps[name]) for name, *rest in map(row, SYSTEMS)]
    lines = markdown_table(heads, rows, words=len(heads))
    expected = "\n".join(lines)
    assert expected in (ROOT / "docs" / "systems.md").read_text(), f"Put this into docs/systems.md:\n{expected}"
