from types import SimpleNamespace

import pytest
import torch
from torch import nn

from toxicity.training.weight_average import WeightAverage


def after_steps(model, average, values, start=1):
    for step, value in enumerate(values, start):
        with torch.no_grad():
            model.weight.fill_(value)
        average.on_step_end(None, SimpleNamespace(global_step=step), None)


@pytest.fixture
def model():
    model = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        model.weight.fill_(1.0)
    return model


def test_against_numbers_worked_by_hand(model):
    average = WeightAverage(model, decay=0.25)
    after_steps(model, average, [2.0, 4.0])
    # The decay of step 1 is 2/11 and of step 2 3/12, which is the most: 2/11 + 9/11 * 2 = 20/11; 5/11 + 3 = 38/11.
    assert average.weights["weight"].item() == pytest.approx(38 / 11)
    assert model.weight.item() == 4.0
    assert average.model_with_it().weight.item() == pytest.approx(38 / 11)
    assert model.weight.item() == 4.0


def test_it_goes_on_from_what_it_saved(model, tmp_path):
    whole = WeightAverage(model, decay=0.9)
    after_steps(model, whole, [2.0, 3.0, 5.0])
    with torch.no_grad():
        model.weight.fill_(1.0)
    first = WeightAverage(model, decay=0.9)
    after_steps(model, first, [2.0, 3.0])
    first.save(tmp_path)
    second = WeightAverage(model, decay=0.9)
    second.load(tmp_path)
    after_steps(model, second, [5.0], start=3)
    assert torch.equal(second.weights["weight"], whole.weights["weight"])
