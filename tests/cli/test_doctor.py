"""`hash3d doctor`: what it names, and how it times."""

import importlib.metadata

from hash3d.cli.doctor import milliseconds


def test_doctor_names_the_extras_and_the_prior(hash3d):
    code, out, _ = hash3d("doctor")
    assert code == 0
    assert "mini-zero123" in out
    assert "mini-sd" in out
    assert "hash3d[rembg]" in out or "rembg" in importlib.metadata.packages_distributions()


def test_the_median_leaves_the_first_call_out(monkeypatch):
    """Calls of 9, 1, 2 and 6 seconds, of which the first builds kernels."""
    clock = iter((0.0, 9.0, 10.0, 11.0, 20.0, 22.0, 30.0, 36.0))
    monkeypatch.setattr("hash3d.cli.doctor.time.perf_counter", lambda: next(clock))
    assert milliseconds(lambda: None, 3) == 2000.0
