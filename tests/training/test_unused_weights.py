"""Of several processes, each step searches for weights without a gradient only where there are some."""

import pytest
from torch import nn

from toxicity.core.training_arguments import TrainingArguments


@pytest.mark.parametrize(
    ("processes", "unused", "asked", "searches"),
    [
        (2, False, None, False),
        (2, True, None, True),
        (2, False, True, True),
        (2, True, False, False),
        (1, True, None, None),
    ],
)
def test_unused_weights_are_searched_for_where_there_are_some(
    make_trainer, tiny_model, monkeypatch, processes, unused, asked, searches
):
    if unused:
        tiny_model.bert.unused = nn.Linear(2, 2)
    monkeypatch.setattr(TrainingArguments, "world_size", processes)
    options = {} if asked is None else {"ddp_find_unused_parameters": asked}
    args = make_trainer(tiny_model, **options).args
    assert args.ddp_find_unused_parameters is searches
    assert args.ddp_broadcast_buffers is False
