"""What a field must be: blobs at the start, exact gradients, groups that learn at their own rates."""

import dataclasses
import math
import re
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from hash3d.representations.encodings import FrequencyConfig, HashGridConfig
from hash3d.representations.nerf import (
    Field,
    HashGridNerfConfig,
    LatentNerfConfig,
    NerfConfig,
    VanillaNerfConfig,
    build_network,
    trunc_exp,
)

GRID = HashGridConfig(levels=4, log2_entries=10, base_resolution=3, finest_resolution=12)
CONFIGS: dict[str, NerfConfig] = {
    "hash grid": HashGridNerfConfig(encoding=GRID, radius=1.0),
    "vanilla": VanillaNerfConfig(encoding=FrequencyConfig(num_frequencies=2), hidden_width=16),
    "latent": LatentNerfConfig(encoding=GRID),
}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def places(count: int = 40, radius: float = 1.0) -> torch.Tensor:
    return radius * (2 * torch.rand(count, 3, generator=seeded(7)) - 1)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_field_is_a_module_with_density_and_colour(name):
    config = CONFIGS[name]
    field = config.build(seeded())
    assert isinstance(field, Field)
    samples = field.query(places())
    assert samples.density.min() >= 0
    assert samples.color.shape == (40, config.channels)
    assert samples.normal is None
    assert torch.equal(samples.density, field.density(places()))
    assert torch.equal(samples.color, field(places()))


@pytest.mark.parametrize("name", ["hash grid", "latent"])
def test_what_is_known_of_points_is_not_computed_again(name):
    fields = [CONFIGS[name].build(seeded()) for _ in range(2)]
    with torch.no_grad():
        density, known = fields[0].look(places())
    assert torch.equal(density, fields[0].density(places()))
    whole, short = fields[0].query(places()), fields[1].query(places(), known=known)
    assert torch.equal(whole.density, short.density)
    assert torch.equal(whole.color, short.color)
    for samples in (whole, short):
        (samples.density.sum() + samples.color.square().sum()).backward()
    for one, other in zip(*(field.parameters() for field in fields), strict=True):
        assert torch.equal(one.grad, other.grad)
    raised = fields[1].query(places(), known=[known[0], known[1] + 1.0])
    assert (raised.density > short.density).all()


@pytest.mark.parametrize("name", CONFIGS)
def test_the_same_seed_gives_the_same_start_and_the_global_generator_is_left_alone(name):
    before = torch.get_rng_state()
    first, second, other = (CONFIGS[name].build(seeded(seed)).state_dict() for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), before)
    tensors = [key for key, value in first.items() if isinstance(value, torch.Tensor)]
    assert all(torch.equal(first[key], second[key]) for key in tensors)
    assert not any(torch.equal(first[key], other[key]) for key in tensors)


def test_at_the_start_the_density_is_the_blob():
    for blob, expected in (
        ("magic3d", lambda r: F.softplus(10 * (1 - r / 0.5))),
        ("dreamfusion", lambda r: F.softplus(10 * torch.exp(-(r**2) / (2 * 0.5**2)))),
    ):
        field = HashGridNerfConfig(encoding=GRID, blob=blob).build(seeded())
        points = places(radius=2.0)
        # Entries start below 1e-4, so the network adds less than 1e-3 to the blob.
        torch.testing.assert_close(field.density(points), expected(points.norm(dim=-1)), atol=1e-3, rtol=0)


def test_the_latent_field_is_an_exponential_blob_of_unbounded_latents():
    field = LatentNerfConfig(encoding=GRID).build(seeded())
    centre, edge = field.density(torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]])).tolist()
    assert centre == pytest.approx(math.exp(5.0), rel=1e-3)
    assert edge == pytest.approx(1.0, rel=1e-3)
    field.color_network[-1].weight.data.fill_(1e6)
    assert field.query(places()).color.detach().abs().max() > 1


def test_colours_stay_between_0_and_1():
    field = CONFIGS["hash grid"].build(seeded())
    field.encoding.table.data.mul_(1e6)
    color = field.query(places()).color
    assert 0 <= color.min() < 0.2
    assert 0.8 < color.max() <= 1


@pytest.mark.parametrize("name", CONFIGS)
def test_parameters_and_points_have_the_gradients_of_finite_differences(name):
    encoding = FrequencyConfig(num_frequencies=1)
    if name != "vanilla":
        encoding = HashGridConfig(levels=2, features=1, log2_entries=5, base_resolution=2, finest_resolution=3)
    config = dataclasses.replace(CONFIGS[name], encoding=encoding, blob_scale=1.0, hidden_width=4, hidden_layers=1)
    field = config.build(seeded()).double()
    for table in field.encoding.parameters():
        table.data.mul_(1e4)
    points = places(2).double().requires_grad_()
    # gradcheck changes the tensors in place, and they are the field's own.
    assert torch.autograd.gradcheck(
        lambda at, *_: (field.density(at), field.query(at).color), (points, *field.parameters())
    )


@pytest.mark.parametrize("name", CONFIGS)
def test_normals_point_against_the_gradient(name):
    field = CONFIGS[name].build(seeded()).double()
    if name != "vanilla":
        field.encoding.table.data.mul_(1e3)
    points, step = places(20).double(), 1e-6
    gradients = [
        (field.density(points + step * axis) - field.density(points - step * axis)) / (2 * step)
        for axis in torch.eye(3, dtype=torch.float64)
    ]
    expected = -F.normalize(torch.stack(gradients, dim=-1), dim=-1)
    torch.testing.assert_close(field.normals(points), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", CONFIGS)
def test_losses_of_normals_have_the_derivatives_of_the_whole_graph(name):
    """In the parameters, and in points that want them, as by differentiating the density twice in PyTorch."""
    field = CONFIGS[name].build(seeded()).double()
    if name != "vanilla":
        field.encoding.config = replace(field.encoding.config, backend="torch")
        field.encoding.table.data.mul_(1e3)
    points = places(20).double().requires_grad_()
    (gradient,) = torch.autograd.grad(field.density(points).sum(), points, create_graph=True)
    expected = -F.normalize(gradient, dim=-1)
    weights = torch.randn(20, 3, generator=seeded(8), dtype=torch.float64)
    learners = [each for part in (field.encoding, field.density_network) for each in part.parameters()]
    wanted = torch.autograd.grad((expected * weights).sum(), [*learners, points])
    field.encoding.config = CONFIGS[name].encoding
    for found in (field.query(points, normals=True).normal, field.normals(points)):
        torch.testing.assert_close(found, expected)
        for one, other in zip(torch.autograd.grad((found * weights).sum(), [*learners, points]), wanted, strict=True):
            torch.testing.assert_close(one, other)


def test_normals_of_the_blob_point_away_from_its_centre():
    points = places() * 0.5
    # The initial network adds gradients of about 1e-4 * 12 cells against the blob's 20.
    found = CONFIGS["hash grid"].build(seeded()).normals(points)
    torch.testing.assert_close(found, F.normalize(points, dim=-1), atol=1e-2, rtol=0)


def test_losses_of_normals_train_the_density():
    field = CONFIGS["hash grid"].build(seeded())
    target = torch.tensor([0.0, 1.0, 0.0])
    optimizer = field.build_optimizer()
    points = places()
    losses = []
    for _ in range(30):
        loss = (field.normals(points) - target).square().sum(dim=-1).mean()
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < 0.7 * losses[0]


def test_without_gradients_the_results_are_the_same_and_keep_no_graph():
    field = CONFIGS["hash grid"].build(seeded())
    trained = field.query(places(), normals=True)
    with torch.no_grad():
        plain = field.query(places(), normals=True)
    for name in ("density", "color", "normal"):
        assert torch.equal(getattr(trained, name), getattr(plain, name))
        assert not getattr(plain, name).requires_grad


def test_the_truncated_exponential_is_exp_with_a_bounded_derivative():
    x = torch.tensor([-2.0, 0.5, 15.0, 20.0], requires_grad=True)
    y = trunc_exp(x)
    torch.testing.assert_close(y, x.exp())
    (gradient,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    torch.testing.assert_close(gradient, x.clamp(max=15.0).exp())
    (curvature,) = torch.autograd.grad(gradient[:2].sum(), x)
    torch.testing.assert_close(curvature[:2], x[:2].exp())


def test_networks_have_no_bias_and_pytorchs_start():
    layers = build_network([8, 64, 3], seeded())
    assert [name for name, _ in layers.named_parameters()] == ["0.weight", "2.weight"]
    for layer, inputs in ((layers[0], 8), (layers[2], 64)):
        bound = 1 / math.sqrt(inputs)
        assert 0.9 * bound < layer.weight.abs().max() <= bound
    assert layers(torch.zeros(1, 8)).abs().max() == 0


def test_each_part_learns_at_its_own_rate():
    config = HashGridNerfConfig(encoding=GRID, encoding_lr=0.03, density_lr=0.002, color_lr=0.004, adam_eps=1e-8)
    optimizer = config.build(seeded()).build_optimizer()
    assert {group["name"]: group["lr"] for group in optimizer.param_groups} == pytest.approx(
        {"encoding": 0.03, "density": 0.002, "color": 0.004}
    )
    assert {group["eps"] for group in optimizer.param_groups} == {1e-8}
    held = sum(parameter.numel() for group in optimizer.param_groups for parameter in group["params"])
    assert held == sum(parameter.numel() for parameter in config.build(seeded()).parameters())


def test_an_encoding_without_parameters_has_no_group():
    names = [group["name"] for group in CONFIGS["vanilla"].build(seeded()).parameter_groups()]
    assert names == ["density", "color"]


def test_rates_rise_from_a_tenth_then_fall_log_linearly():
    field = LatentNerfConfig(encoding=GRID).build(seeded())
    optimizer = field.build_optimizer()
    rates = []
    for step in (0, 50, 100, 5050, 10_000, 20_000):
        field.update_learning_rate(optimizer, step)
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates == pytest.approx([0.001, 0.0055, 0.01, 0.01 * 0.1**0.5, 0.001, 0.001])
    steady = CONFIGS["hash grid"].build(seeded())
    assert steady.learning_rates(0) == steady.learning_rates(9999)


def test_a_field_learns_a_ball_of_one_colour():
    field = CONFIGS["hash grid"].build(seeded())
    optimizer = field.build_optimizer()
    points = places(400)
    inside = (points.norm(dim=-1) < 0.7).float()
    for _ in range(150):
        samples = field.query(points)
        share = 1 - torch.exp(-0.1 * samples.density)
        loss = (share - inside).square().mean() + (samples.color - torch.tensor([0.9, 0.2, 0.1])).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.02


def test_a_checkpoint_of_a_growing_field_shows_the_same_scene():
    config = dataclasses.replace(
        CONFIGS["hash grid"], encoding=dataclasses.replace(GRID, start_level=1, start_step=0, update_steps=5)
    )
    stored, loaded = config.build(seeded()), config.build(seeded(9))
    stored.set_step(10)
    loaded.load_state_dict(stored.state_dict())
    assert torch.equal(loaded.density(places()), stored.density(places()))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"radius": 0.0}, "radius above 0, but got 0.0"),
        ({"blob_std": 0.0}, "blob_std above 0, but got 0.0"),
        ({"density_lr": 0.0}, "density_lr above 0, but got 0.0"),
        ({"lr_decay": 0.0}, "lr_decay above 0, but got 0.0"),
        ({"hidden_layers": 0}, "hidden_layers at least 1, but got 0"),
        ({"channels": 0}, "channels at least 1, but got 0"),
        ({"warmup_steps": 10_000}, "warmup_steps at least 0 and below 10000, but got 10000"),
    ],
)
def test_impossible_configurations_are_refused(wrong, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        HashGridNerfConfig(**wrong)


@pytest.mark.gpu
@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("limit", [-3, 0, 130, 300, 900])
def test_densities_of_points_up_to_a_limit_are_the_same(name, limit):
    """Those after it may be anything, and cost nothing."""
    field, points = CONFIGS[name].build(seeded()).cuda(), places(300).cuda()
    with torch.no_grad():
        found = field.density(points, torch.tensor(limit, device="cuda"))
        assert torch.equal(found[: max(limit, 0)], field.density(points)[: max(limit, 0)])
