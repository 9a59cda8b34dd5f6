"""Recorded calls: what they depend on, and on a GPU that a replay is the call."""

import gc

import pytest
import torch

from hash3d.fast.cuda_graph import RecordedCall, RecordedGradient, _recording, copied, each_tensor, form


def arguments(batch=2, device="cpu"):
    torch.manual_seed(batch)
    return {
        "sample": torch.randn(batch, 4, 6, 6, device=device),
        "added": {"text": torch.randn(batch, 3, device=device), "none": None},
        "scale": 2.0,
    }


def test_a_copy_has_the_same_values_in_memory_of_its_own():
    inputs = arguments()
    copy = copied(inputs)
    for mine, theirs in zip(each_tensor(copy), each_tensor(inputs), strict=True):
        assert torch.equal(mine, theirs)
        assert mine.data_ptr() != theirs.data_ptr()
    assert copy["scale"] == 2.0
    assert copy["added"]["none"] is None


def test_the_form_changes_with_shapes_types_names_and_plain_values_but_not_with_numbers():
    inputs = arguments()
    assert form(inputs) == form({**inputs, "sample": inputs["sample"] + 1.0})
    others = [
        arguments(batch=3),
        {**inputs, "scale": 3.0},
        {**inputs, "sample": inputs["sample"].half()},
        {**inputs, "added": {"text": inputs["added"]["text"]}},
        {**inputs, "images": [inputs["sample"]]},
        {**inputs, "images": [inputs["sample"].half()]},
    ]
    assert len({form(inputs), *map(form, others)}) == 7


def test_nothing_is_collected_during_a_recording():
    """Garbage may hold a CUDA graph, whose end would be the recording's."""
    with _recording():
        with _recording():
            pass
        assert not gc.isenabled()
    assert gc.isenabled()


def function(sample, added, scale):
    return (scale * sample * added["text"].sum(dim=1)[:, None, None, None]).tanh(), added["text"] + 1.0


@pytest.mark.gpu
def test_a_replay_is_the_call_on_other_numbers():
    recorded = RecordedCall(function, arguments(device="cuda"))
    for seed in range(3):
        torch.manual_seed(seed)
        inputs = arguments(device="cuda")
        inputs["sample"] = torch.randn_like(inputs["sample"])
        for got, wanted in zip(recorded(inputs), function(**inputs), strict=True):
            assert torch.equal(got, wanted)


@pytest.mark.gpu
def test_a_recorded_gradient_is_the_functions_in_any_order():
    def cubed(x):
        return (x**3).sum(dim=1)

    recorded = RecordedGradient(cubed, torch.randn(2, 3, 4, device="cuda"))
    leaves = [torch.randn(2, 3, 4, device="cuda", requires_grad=True) for _ in range(3)]
    results = [recorded(leaf) for leaf in leaves]
    slopes = [torch.randn_like(result) for result in results]
    for result, slope, leaf in list(zip(results, slopes, leaves, strict=True))[::-1]:  # Each but the first is stale.
        assert torch.equal(result, cubed(leaf))
        (gradient,) = torch.autograd.grad(result, leaf, slope)
        assert torch.allclose(gradient, 3.0 * leaf**2 * slope[:, None])
