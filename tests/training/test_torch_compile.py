import copy

import numpy as np
import pytest
import torch
from training_steps import ONE_STEP, loss_and_gradient, weights_of
from transformers import AutoModelForSequenceClassification

from toxicity.core.arguments import parse_arguments

pytestmark = pytest.mark.usefixtures("graphs")
ASKED = {
    "by flags": ({"torch_compile": True, "torch_compile_backend": "aot_eager"}, None),
    "by the Accelerate config": ({}, "AOT_EAGER"),
}


# A compilation takes seconds, so each way to ask for it has one kind of model.
@pytest.mark.parametrize(
    ("model_of_either_kind", "how"),
    [(True, "by flags"), (False, "by the Accelerate config")],
    ids=["packed", "padded"],
    indirect=["model_of_either_kind"],
)
def test_a_compiled_model_trains_as_it_does_otherwise(
    make_trainer, model_of_either_kind, graphs, monkeypatch, caplog, how
):
    options, of_accelerate = ASKED[how]
    steps = ONE_STEP | {"max_steps": 3}
    plain = make_trainer(copy.deepcopy(model_of_either_kind), **steps)
    loss, gradient = loss_and_gradient(plain)
    assert graphs() == 0
    if of_accelerate:
        monkeypatch.setenv("ACCELERATE_DYNAMO_BACKEND", of_accelerate)
    with caplog.at_level("INFO", logger="toxicity"):
        trainer = make_trainer(model_of_either_kind, **options, **steps)
    assert "The 2 layers of the model are compiled by aot_eager: the first batch of training waits" in caplog.text
    assert "torch.compile is on" in caplog.text
    assert trainer.layout == plain.layout
    other_loss, other_gradient = loss_and_gradient(trainer)
    made = graphs()
    assert made > 0
    assert loss == pytest.approx(other_loss, abs=1e-5)
    torch.testing.assert_close(gradient, other_gradient, rtol=0, atol=1e-5)
    np.testing.assert_allclose(plain.score(plain.eval_dataset), trainer.score(trainer.eval_dataset), atol=1e-5)
    assert graphs() <= 2 * made, "one set for training and one for scoring"


def test_a_compiled_run_saves_and_goes_on_as_any(make_trainer, tiny_model, tmp_path):
    options = {"torch_compile": True, "torch_compile_backend": "eager", "save_strategy": "steps", "save_steps": 3}
    whole = make_trainer(copy.deepcopy(tiny_model), **options, eval_strategy="steps", eval_steps=3)
    whole.train()
    whole.save_model()
    saved = AutoModelForSequenceClassification.from_pretrained(tmp_path / "run")
    assert torch.equal(weights_of(whole), torch.cat([weight.detach().flatten() for weight in saved.parameters()]))
    again = make_trainer(tiny_model, **options | {"save_steps": 100})
    again.train(str(tmp_path / "run" / "checkpoint-3"))
    assert torch.equal(weights_of(whole), weights_of(again))


@pytest.mark.parametrize("options", [{"gradient_checkpointing": True}, {"max_tokens_per_batch": "100"}, {}])
def test_what_goes_with_compilation(make_trainer, model_of_either_kind, options):
    precision = "no" if options else "bf16"
    trainer = make_trainer(model_of_either_kind, precision, torch_compile_backend="eager", max_steps=2, **options)
    trainer.train()
    assert np.isfinite(trainer.score(trainer.eval_dataset)).all()


def test_the_options_of_the_compiler_are_respected(make_trainer, tiny_model, monkeypatch):
    asked = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, **options: asked.append(options))
    make_trainer(tiny_model, torch_compile=True, torch_compile_mode="max-autotune-no-cudagraphs")
    inductor = {"backend": "inductor", "mode": "max-autotune-no-cudagraphs", "options": None, "dynamic": True}
    assert asked == [inductor] * 2


def test_the_help_says_what_it_costs(capsys):
    with pytest.raises(SystemExit):
        parse_arguments(["--help"])
    assert "takes a minute or more" in " ".join(capsys.readouterr().out.split())
