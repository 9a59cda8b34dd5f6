"""Priors with damaged or malicious configurations and weights: refused in one sentence, or loaded and usable."""

# ruff: noqa: PT017  (a refusal is one of two good outcomes)

import json
import math
import os
import random
import resource
import shutil
import time

import pytest
import torch
from safetensors.torch import load_file, save_file

from hash3d.diffusion.stable_diffusion import StableDiffusionPrior
from hash3d.diffusion.zero123 import Zero123Prior
from hash3d.files import WriteError
from hash3d.representations.shap_e import load_shap_e

NASTY = (
    None, True, -1, 0, 1, 3, 10**4, 10**7, 10**30, 1e-300, 1e308, math.nan, math.inf, -math.inf, "", "x",
    "evil/kernel", [], [1], [10**6] * 5, [["x"]], {}, {"x": {"x": math.nan}}, [0.5, 0, -1], "a" * 10_000,
)  # fmt: skip
ADDED = ("auto_map", "attn_implementation", "quantization_config", "layers_per_block", "num_hidden_layers", "x")
SECONDS = 10.0


def mutate(folder, draw):
    """One to three changes of a prior's files. Returns what was done."""
    return [
        draw.choice((change_configuration,) * 3 + (change_weights, change_bytes))(folder, draw)
        for _ in range(draw.randint(1, 3))
    ]


def change_configuration(folder, draw):
    file = draw.choice(sorted(folder.glob("*/*config.json")))
    try:
        config = json.loads(file.read_text())
    except ValueError:
        return "already damaged"
    name, value = draw.choice([*sorted(config), *ADDED]), draw.choice(NASTY)
    if draw.random() < 0.1:
        config.pop(name, None)
    else:
        config[name] = value
    file.write_text(json.dumps(config))
    return f"{file.parent.name}: {name} = {str(value)[:40]}"


def change_weights(folder, draw):
    file = draw.choice(sorted(folder.glob("*/*.safetensors")))
    try:
        weights = load_file(file)
    except Exception:
        return "already damaged"
    name = draw.choice(sorted(weights))
    kind = draw.choice(("nan", "inf", "lost", "shape", "dtype", "huge"))
    value = weights.pop(name)
    if kind in ("nan", "inf", "huge") and value.is_floating_point():
        value.view(-1)[:1] = {"nan": math.nan, "inf": math.inf, "huge": 3e38}[kind]
        weights[name] = value
    elif kind == "shape":
        weights[name] = value[None].contiguous()
    elif kind == "dtype":
        weights[name] = value.to(torch.int8)
    save_file(weights, file, metadata={"format": "pt"})
    return f"{file.parent.name}: {kind} {name}"


def change_bytes(folder, draw):
    file = draw.choice(sorted(path for path in folder.rglob("*") if path.is_file()))
    content = bytearray(file.read_bytes())
    if draw.random() < 0.3:
        content = content[: draw.randrange(len(content) + 1)]
    else:
        for _ in range(draw.randint(1, 8)):
            content[draw.randrange(min(len(content), 4000))] = draw.randrange(256)
    file.write_bytes(content)
    return f"bytes of {file.parent.name}/{file.name}"


def use(prior):
    """What a guidance does with a prior."""
    image = torch.zeros(1, 3, prior.image_size, prior.image_size)
    latents, now = prior.encode(image), torch.tensor([prior.schedule.num_timesteps // 2])
    if isinstance(prior, Zero123Prior):
        inputs = prior.make_guided_inputs(
            prior.schedule.add_noise(latents, latents, now), now, prior.condition(image), torch.zeros(1, 4)
        )
    else:
        inputs = prior.make_guided_inputs(latents, now, prior.embed(["a mug"]), prior.embed([""]))
    prior.decode(prior.unet(**inputs, return_dict=False)[0][:1])


def try_one(kind, whole, folder, seed):
    shutil.copytree(whole, folder)
    done, start = mutate(folder, random.Random(seed)), time.process_time()
    try:
        use(kind.load(folder))
    except (ValueError, FileNotFoundError) as error:
        assert str(error), done
        assert "\n" not in str(error), done
    assert time.process_time() - start < SECONDS, done


KINDS = {Zero123Prior: "prior_folder", StableDiffusionPrior: "text_prior_folder"}


def try_many(seeds, request, tmp_path):
    for seed in seeds:
        for kind, fixture in KINDS.items():
            folder = tmp_path / str(seed)
            try:
                try_one(kind, request.getfixturevalue(fixture), folder, seed)
            except Exception as error:
                error.add_note(f"{kind.__name__}, seed {seed}")
                raise
            shutil.rmtree(folder)


def test_mutated_priors(request, tmp_path):
    try_many(range(4), request, tmp_path)


@pytest.mark.nightly
def test_many_mutated_priors(request, tmp_path, record_property):
    """Priors with damaged or malicious configurations and weights."""
    for seed in range(500):
        record_property("tried", 2 * seed + 2)
        try_many([seed], request, tmp_path)


@pytest.mark.parametrize(
    ("part", "name", "value", "message"),
    [
        ("image_encoder", "num_hidden_layers", 10**6, "1,000,000 layers, but its weights have"),
        ("image_encoder", "num_hidden_layers", 10**7, "numbers up to 1,048,576"),
        ("unet", "layers_per_block", [[10**5]], "layers, but its weights have"),
        ("unet", "block_out_channels", [8] * 5000, "layers, but its weights have"),
        ("unet", "sample_size", 10**6, "1 to 4096 pixels"),
        ("unet", "norm_num_groups", True, "num_groups"),
        ("unet", "norm_eps", "x", "eps"),
        ("vae", "scaling_factor", 0, "scaling_factor above 0"),
        ("vae", "scaling_factor", math.nan, "scaling_factor is nan"),
        ("scheduler", "num_train_timesteps", 10**6, "1 to 100,000 timesteps"),
        ("scheduler", "beta_end", 1.0, "betas that rise"),
        ("feature_extractor", "image_std", [0, 1, 1], "image_std above 0"),
        ("image_encoder", "auto_map", {"AutoModel": "evil.Evil"}, "name no code"),
        ("image_encoder", "attn_implementation", "evil/kernel", "name no code"),
        ("unet", "cross_attention_dim", 10**5, "does not fit|do not make"),
    ],
)
def test_absurd_configurations_are_refused_by_their_numbers(part, name, value, message, prior_folder, tmp_path):
    folder = shutil.copytree(prior_folder, tmp_path / "prior")
    (file,) = (folder / part).glob("*config.json")
    file.write_text(json.dumps({**json.loads(file.read_text()), name: value}))
    start = time.process_time()
    with pytest.raises(ValueError, match=message):
        Zero123Prior.load(folder)
    assert time.process_time() - start < SECONDS


@pytest.mark.parametrize("name", ["evil", ["evil", "Evil"], None])
def test_a_shap_e_folder_runs_none_of_its_code(name, tmp_path):
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": name}))
    (tmp_path / "evil.py").write_text(f"import os\nos.mkdir({os.fspath(tmp_path / 'ran')!r})\n")
    with pytest.raises(ValueError, match="Expected a folder of Shap-E"):
        load_shap_e(tmp_path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(("kind", "fixture"), KINDS.items(), ids=["zero123", "stable_diffusion"])
def test_a_prior_that_cannot_be_saved_is_told_and_the_old_one_stays(kind, fixture, request, tmp_path):
    folder = shutil.copytree(request.getfixturevalue(fixture), tmp_path / "prior")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    prior = kind.load(folder)
    whole = max(map(len, before.values()))
    for bytes_of_a_file in (100, whole - 1):
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_of_a_file, limits[1]))
        try:
            with pytest.raises(WriteError, match=r"^Could not write .*: File too large\. Raise the limit"):
                prior.save(folder)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    prior.save(folder)
    use(kind.load(folder))
    assert {path for path in folder.rglob("*") if path.is_file()} == set(before)
