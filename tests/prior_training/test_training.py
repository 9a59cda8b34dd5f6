"""The clock and the rate of training."""

import pytest

from prior_training import architecture, mini_sd


@pytest.fixture
def training(tmp_path):
    return mini_sd.TextTraining(
        mini_sd.TrainConfig(out=tmp_path, seconds=100, cooldown_seconds=20, architecture=architecture.TOY)
    )


def at(training, seconds):
    training.elapsed = lambda: seconds
    training.progress = training._share(10.0)
    return training.progress


def test_the_rate_warms_up_and_falls_to_a_hundredth(training):
    peak = training.config.learning_rate
    assert training._rate(0) == pytest.approx(peak / 300)
    at(training, 55.0)
    assert training._rate(1000) == pytest.approx(peak), "half of the ninety seconds"
    at(training, 100.0)
    assert training._rate(1000) == pytest.approx(peak / 100)


def test_a_stop_file_starts_the_fall_at_once(training):
    assert at(training, 19.0) == pytest.approx(0.1)
    (training.config.out / "stop").touch()
    assert at(training, 20.0) == pytest.approx(0.5)
    assert training._rate(1000) == pytest.approx(training.config.learning_rate)
    assert at(training, 30.0) == pytest.approx(0.75)
    assert at(training, 40.0) == pytest.approx(1.0)
