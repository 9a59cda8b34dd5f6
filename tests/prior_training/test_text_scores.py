import pytest
import torch

from prior_training.matcher_network import Labels, LogProbabilities, Matcher
from prior_training.text_scores import chance, retrieve, sample_candidates, score_captions, score_views, shares
from prior_training.world.words import COLORS, NOUNS

COUNT = 1500
NONE_KNOWN = {"noun": 0.0, "color": 0.0, "view": 0.0}


def captions(seed=0):
    generator = torch.Generator().manual_seed(seed)
    noun, color, view = (torch.randint(high, (COUNT,), generator=generator) for high in (10, 6, 4))
    return Labels(noun=noun, color=color, view=view), torch.rand(COUNT, generator=generator) < 0.5


def beliefs(truth, **certainty):
    """The truth with the given log odds against each other value; 0 is uniform."""
    odds = {
        name: certainty[name] * torch.nn.functional.one_hot(getattr(truth, name), size).float()
        for name, size in (("noun", 10), ("color", 6), ("view", 4))
    }
    return LogProbabilities(**{name: value.log_softmax(1) for name, value in odds.items()})


def candidates(count=32):
    return sample_candidates(COUNT, count, torch.Generator().manual_seed(1))


def test_candidates_hold_the_right_caption_once_at_any_place():
    drawn = candidates()
    assert drawn.shape == (COUNT, 32)
    assert all(len(set(row)) == 32 for row in drawn.tolist())
    places = (drawn == torch.arange(COUNT)[:, None]).nonzero()[:, 1]
    assert len(places) == COUNT
    assert abs(float(places.float().mean()) - 15.5) < 1.0  # The mean's standard deviation is 0.24.
    with pytest.raises(ValueError, match="Expected 1 to 3 candidates"):
        sample_candidates(3, 4, torch.Generator())


def test_one_who_knows_all_is_always_right():
    truth, asymmetric = captions()
    found = beliefs(truth, noun=9.0, color=9.0, view=9.0)
    for scores in score_captions(found, truth, asymmetric, candidates()).values():
        assert set(scores.values()) == {1.0}


def test_one_who_knows_nothing_is_at_chance():
    truth, asymmetric = captions()
    guess = retrieve(beliefs(truth, **NONE_KNOWN), truth, candidates())
    scores, expected = shares(guess, truth, asymmetric), chance(truth, asymmetric, candidates())["retrieval"]
    for name, share in scores.items():
        assert share == pytest.approx(expected[name], abs=0.05)  # Four standard deviations at a share of 1/4.
    # One of 32 captions is right; each of the others agrees in the noun with a probability of 1/10.
    assert expected["noun"] == pytest.approx((1 + 31 / 10) / 32, abs=0.01)


def test_one_who_knows_colours_alone_is_right_in_colours_alone():
    truth, asymmetric = captions()
    scores = score_captions(beliefs(truth, **{**NONE_KNOWN, "color": 9.0}), truth, asymmetric, candidates())
    assert scores["retrieval"]["color"] == scores["classification"]["color"] == 1.0
    # Of 32 captions about 1 + 31 / 6 have the colour; each is as likely, and the right one has the noun.
    assert scores["retrieval"]["noun"] < 0.4


def test_classification_is_of_the_likeliest_and_its_chance_of_the_most_frequent():
    truth = Labels(noun=torch.tensor([0, 0, 1]), color=torch.tensor([2, 3, 3]), view=torch.tensor([0, 1, 1]))
    asymmetric = torch.tensor([True, True, False])
    found = beliefs(Labels(noun=truth.noun, color=torch.tensor([2, 2, 3]), view=truth.view), noun=1.0, color=1, view=1)
    scores = score_captions(found, truth, asymmetric, torch.zeros(3, 1, dtype=torch.long))["classification"]
    assert scores == pytest.approx({"exact": 2 / 3, "noun": 1, "color": 2 / 3, "view": 1, "view_asymmetric": 1})
    common = chance(truth, asymmetric, torch.zeros(3, 1, dtype=torch.long))["classification"]
    assert common == pytest.approx(
        {"exact": 1 / 3, "noun": 2 / 3, "color": 2 / 3, "view": 2 / 3, "view_asymmetric": 0.5}
    )


def test_views_of_one_object_are_judged_by_their_mean():
    matcher = Matcher((4, 4), 16).eval()
    torch.nn.init.zeros_(matcher.head.weight)
    torch.nn.init.zeros_(matcher.head.bias)
    with torch.no_grad():
        matcher.head.bias[NOUNS.index("mug")] = 20.0
        matcher.head.bias[len(NOUNS) + COLORS.index("red")] = 20.0
    scores = score_views(matcher, torch.rand(5, 3, 24, 24), "mug", "blue")
    assert (scores.noun, scores.color) == ("mug", "red")
    assert scores.noun_found
    assert not scores.color_found
    assert scores.noun_log_probability == pytest.approx(0.0, abs=1e-5)
    assert scores.color_log_probability == pytest.approx(-20.0, abs=1e-4)
    with pytest.raises(ValueError, match="Expected a noun that the matcher knows"):
        score_views(matcher, torch.rand(1, 3, 24, 24), "mugs", "blue")


def test_shares_of_nothing_are_left_out():
    truth, _ = captions()
    assert "view_asymmetric" not in shares(truth, truth, torch.zeros(COUNT, dtype=torch.bool))
