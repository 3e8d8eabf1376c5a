import random

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar

from toxicity.evaluation import calibration_maps
from toxicity.evaluation.calibration_maps import METHODS, apply_map, choose_map, fit_temperature, invert_map
from toxicity.evaluation.calibration_metrics import log_loss


def made_up(rows=4000, temperature=2.0, bias=0.0, seed=0):
    """Logits `temperature` times too large and moved, and labels drawn with the probabilities of the right ones."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(-1.0, 2.5, rows)
    return temperature * logits + bias, rng.random(rows) < 1 / (1 + np.exp(-logits))


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
def test_the_temperature_that_made_the_logits_is_found(temperature):
    assert fit_temperature(*made_up(40_000, temperature)) == pytest.approx(temperature, rel=0.05)


def test_no_other_temperature_has_a_smaller_loss():
    logits, toxic = made_up(500)
    found = fit_temperature(logits, toxic)
    searched = minimize_scalar(lambda t: log_loss(logits / t, toxic), bounds=(0.05, 20.0), method="bounded")
    assert found == pytest.approx(searched.x, rel=1e-4)


@pytest.mark.parametrize("sign", [1.0, -1.0], ids=["without a mistake", "worse than chance"])
def test_some_scores_have_no_best_map(sign):
    logits = np.linspace(-2.0, 2.0, 200)
    assert fit_temperature(sign * logits, logits > 0) is None
    found = choose_map(sign * logits, logits > 0, seed=0)
    assert all("0.05 to 20" in found.candidates[name]["reason"] for name in ("temperature", "platt", "beta"))


@pytest.mark.parametrize(
    ("temperature", "bias", "best"), [(1.0, 0.0, {"raw"}), (3.0, 0.0, {*METHODS}), (1.0, 4.0, {"platt", "beta"})]
)
def test_what_is_wrong_with_scores_is_mended_and_nothing_else(temperature, bias, best):
    logits, toxic = made_up(3000, temperature, bias)
    found = choose_map(logits, toxic, seed=0)
    assert found.method in best
    others, toxic_of_others = made_up(50_000, temperature, bias, seed=1)
    right = log_loss((others - bias) / temperature, toxic_of_others)
    assert log_loss(apply_map(found.method, found.parameters, others), toxic_of_others) < right + 0.003
    assert log_loss(found.cross_fitted, toxic) <= log_loss(logits, toxic)


def test_calibration_cannot_hurt():
    changes = []
    others, toxic_of_others = made_up(50_000, 1.0, seed=99)
    for seed in range(30):
        found = choose_map(*made_up(500, 1.0, seed=seed), seed)
        after = apply_map(found.method, found.parameters, others)
        changes.append(log_loss(after, toxic_of_others) - log_loss(others, toxic_of_others))
    assert np.mean(changes) < 0.0015
    assert np.mean(np.array(changes) == 0) > 0.7


@pytest.mark.parametrize(
    ("method", "parameters"),
    [
        ("raw", ()),
        ("temperature", (2.5,)),
        ("platt", (0.5, 1.0)),
        ("beta", (0.8, 1.4, -0.3)),
        ("isotonic", (-3.0, 0.0, 2.0, -5.0, -1.0, 4.0)),
    ],
)
def test_maps_rise_strictly_and_can_be_inverted(method, parameters):
    places = np.linspace(-30, 30, 301)
    mapped = apply_map(method, parameters, places)
    assert (np.diff(mapped) > 0).all()
    assert [invert_map(method, parameters, value) for value in mapped.tolist()] == pytest.approx(places, abs=1e-6)


def test_the_folds_hang_on_the_seed_alone():
    logits, toxic = made_up(600)
    first = choose_map(logits, toxic, seed=7)
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    before = np.random.get_state()[1].copy(), torch.get_rng_state().clone()
    assert choose_map(logits, toxic, seed=7).candidates == first.candidates
    assert np.array_equal(np.random.get_state()[1], before[0])
    assert torch.equal(torch.get_rng_state(), before[1])
    assert choose_map(logits, toxic, seed=8).candidates != first.candidates


def test_of_half_a_million_rows_only_so_many_groups_are_fitted(monkeypatch):
    logits, toxic = made_up(500_000)
    fitted = []
    fit_map = calibration_maps.fit_map
    monkeypatch.setattr(
        calibration_maps, "fit_map", lambda method, groups: fitted.append(groups) or fit_map(method, groups)
    )
    found = choose_map(logits, toxic, seed=0)
    # Each method on all rows and without each fold; `make bench-metrics` has the time.
    assert len(fitted) == len(METHODS) * (1 + calibration_maps.FOLDS)
    assert max(len(groups.logits) for groups in fitted) <= calibration_maps.MOST_GROUPS
    assert found.candidates["temperature"]["gain"] > found.candidates["temperature"]["standard_error"]
    assert found.candidates["platt"]["log_loss"] == pytest.approx(found.candidates["temperature"]["log_loss"], abs=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_a_map_goes_only_as_far_as_it_is_sure_to_help(method, monkeypatch):
    logits, toxic = made_up(600, 1.6, 0.3)
    monkeypatch.setattr(calibration_maps, "METHODS", (method,))
    found = choose_map(logits, toxic, seed=0)
    assert found.method == method
    measured = found.candidates[method]
    share = 1 - (measured["standard_error"] / measured["gain"]) ** 2
    assert 0 < share < 0.999
    monkeypatch.setattr(calibration_maps, "_part_of_the_way", lambda method, parameters, share: parameters)
    whole = choose_map(logits, toxic, seed=0)
    others = np.linspace(-12, 12, 301)
    expected = others + share * (apply_map(method, whole.parameters, others) - others)
    np.testing.assert_allclose(apply_map(method, found.parameters, others), expected, atol=1e-9)
    np.testing.assert_allclose(found.cross_fitted, logits + share * (whole.cross_fitted - logits), atol=1e-9)
