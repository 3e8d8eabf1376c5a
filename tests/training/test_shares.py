"""Shares of a batch that threads compute side by side: the same step, drawn and summed in the same order each time."""

import copy
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
import torch
from packed_models import ALL_KINDS, make_tokens, packed_bert, packed_layout, pair_of
from training_steps import ONE_STEP, dataset_of, loss_and_gradient, objective_with_labels, weights_of

from toxicity.models.cpu_layers import use_faster_layers
from toxicity.models.packing import Layout
from toxicity.training import shares
from toxicity.training.batching import Collator, deal
from toxicity.training.shares import loss_of_shares, shares_of

ROWS = ONE_STEP | {"per_device_train_batch_size": 32}


@pytest.fixture(autouse=True)
def two_threads(monkeypatch):
    """Two cores, and comments few enough for the tests' batches to be shared by them."""
    before = torch.get_num_threads()
    monkeypatch.setattr(shares, "TOKENS_OF_SHARE", 50)
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {0, 1}, raising=False)
    torch.set_num_threads(2)
    yield
    assert torch.get_num_threads() == 2
    torch.set_num_threads(before)


@pytest.fixture
def packed_model(tiny_config, tiny_model):
    """The tiny model for packed batches; `packed_model(dropout)`."""

    def make(dropout=0.0):
        options = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
        model = packed_bert(type(tiny_config)(**tiny_config.to_dict() | options))
        model.load_state_dict(tiny_model.state_dict())
        return model

    return make


@pytest.mark.parametrize(
    ("tokens", "threads", "shares"),
    [
        (49, 2, 1),
        (99, 2, 1),
        (100, 2, 2),
        (9_999, 2, 2),
        (200, 16, 4),
        (200, 6, 3),
        (200, 5, 2),
        (9_999, 1, 1),
        (9_999, 64, 4),
    ],
)
def test_each_share_has_tokens_enough_and_as_many_threads_as_the_others(tokens, threads, shares):
    assert shares_of(tokens, threads) == shares


def test_a_batch_is_dealt_into_shares_of_about_equally_many_tokens(make_trainer):
    rows = make_trainer().train_dataset
    batch = Collator(Layout(packed=True), threads=2)(rows.__getitems__(list(range(32))))
    (part,) = batch["parts"]
    tokens = [share["input_ids"].numel() for share in part["shares"]]
    assert sum(tokens) == batch["tokens"]
    assert max(tokens) < 1.1 * min(tokens)
    labels = torch.cat([share["labels"]["labels"] for share in part["shares"]])
    assert sorted(labels.flatten().tolist()) == sorted(batch["labels"].flatten().tolist())
    few = Collator(Layout(packed=True), threads=2)(rows.__getitems__([0]))
    assert ["shares" in part for part in few["parts"]] == [False]
    cut = Collator(Layout(packed=True), max_tokens=200, threads=2)(rows.__getitems__(list(range(32))))
    assert all(sum(share["input_ids"].numel() for share in part["shares"]) <= 200 for part in cut["parts"][:-1])
    assert len(cut["parts"]) > 1


def test_several_labels_take_the_same_step_in_shares(make_trainer, model_of_labels, tokenizer, monkeypatch):
    options = ROWS | {"objective": objective_with_labels(dataset_of(tokenizer))}
    loss, gradient = loss_and_gradient(make_trainer(copy.deepcopy(model_of_labels), **options))
    monkeypatch.setattr(shares, "TOKENS_OF_SHARE", 10**6)
    whole_loss, whole_gradient = loss_and_gradient(make_trainer(model_of_labels, **options))
    assert loss == pytest.approx(whole_loss, abs=1e-5)
    torch.testing.assert_close(gradient, whole_gradient, rtol=0, atol=1e-5)


def losses_of(model, dtype=None):
    """The loss of comments as one share and as three, with autocast to a `dtype`."""
    layout = packed_layout(model, "equal", dtype=dtype or torch.float32)
    tokens = make_tokens()

    def loss(mine):
        with torch.autocast("cpu", dtype, enabled=dtype is not None):
            logits = model(**layout([tokens[row] for row in mine])).logits
        return (logits.float() * torch.linspace(-1, 1, len(tokens))[mine][:, None]).sum()

    return [[partial(loss, mine) for mine in deal(torch.arange(len(tokens)).numpy(), count)] for count in (1, 3)]


def gradients_of(model, losses):
    """Loss and gradients, as `loss_of_shares` computes them, by name; None for weights without one."""
    model.zero_grad()
    with ThreadPoolExecutor(2) as pool:
        loss = loss_of_shares(losses, model, pool)
        loss.backward()
    return loss.detach(), {name: weight.grad for name, weight in model.named_parameters()}


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
@pytest.mark.parametrize("kind", ALL_KINDS)
def test_loss_and_gradients_are_those_of_the_whole(kind, dtype):
    _, model = pair_of(kind)
    use_faster_layers(model)
    (whole,), in_shares = losses_of(model, dtype)
    loss, gradients = gradients_of(model, in_shares)
    model.zero_grad()
    expected = whole()
    expected.backward()
    rounding = {"rtol": 0, "atol": 1e-5} if dtype is None else {"rtol": 0.05, "atol": 0.05}
    torch.testing.assert_close(loss, expected.detach(), **rounding)
    for name, weight in model.named_parameters():
        assert (weight.grad is None) == (gradients[name] is None), name
        if weight.grad is not None:
            scale = weight.grad.abs().max().clamp(min=1)
            torch.testing.assert_close(gradients[name] / scale, weight.grad / scale, **rounding)


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
@pytest.mark.parametrize("kind", ALL_KINDS)
def test_all_random_numbers_of_a_share_are_its_own(kind, dtype):
    """Threads that drew from torch's generator would draw in another order each time."""
    _, model = pair_of(kind, dropout=0.3)
    use_faster_layers(model)
    _, in_shares = losses_of(model, dtype)
    results = []
    for _ in range(3):
        torch.manual_seed(3)
        results.append(gradients_of(model, in_shares))
        after = torch.get_rng_state()
    for loss, gradients in results[1:]:
        assert torch.equal(loss, results[0][0])
        assert all(gradients[name] is None or torch.equal(gradients[name], one) for name, one in results[0][1].items())
    torch.manual_seed(3)
    torch.randint(2**63 - 1, (3,))
    assert torch.equal(after, torch.get_rng_state()), "the seeds of three shares, and nothing else"
    assert not torch.equal(gradients_of(model, in_shares)[0], results[0][0])


def test_the_gradient_of_the_sum_goes_through():
    _, model = pair_of("bert")
    _, in_shares = losses_of(model)
    _, gradients = gradients_of(model, in_shares)
    model.zero_grad()
    with ThreadPoolExecutor(2) as pool:
        (loss_of_shares(in_shares, model, pool) / 4).backward()
    for name, weight in model.named_parameters():
        if weight.grad is not None:
            torch.testing.assert_close(4 * weight.grad, gradients[name], rtol=1e-5, atol=1e-6)


def test_weights_that_changed_are_converted_again():
    _, model = pair_of("bert")
    (whole,), in_shares = losses_of(model, torch.bfloat16)
    before, _ = gradients_of(model, in_shares)
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(1.5)
    after, _ = gradients_of(model, in_shares)
    torch.testing.assert_close(after, whole().detach(), rtol=0.05, atol=0.05)
    assert not torch.allclose(before, after, rtol=0.1, atol=0.1)


@pytest.mark.parametrize("failing", [0, 1])
def test_an_error_in_a_share_leaves_no_thread_at_work(failing):
    _, model = pair_of("bert")
    _, losses = losses_of(model)

    def fail():
        raise torch.OutOfMemoryError("no memory")

    losses[failing] = fail
    with ThreadPoolExecutor(2) as pool:
        with pytest.raises(torch.OutOfMemoryError):
            loss_of_shares(losses, model, pool)
        assert pool._work_queue.empty()
    assert not any(module.sparse for module in model.modules() if isinstance(module, torch.nn.Embedding))


SHAPES = {
    "one batch": {},
    "4 x 8": {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 4},
    "cut by tokens": {"max_tokens_per_batch": "150"},
    "clipped": {"max_grad_norm": 0.01},
}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_step_in_shares_is_the_step_of_the_whole(make_trainer, packed_model, shape):
    results = []
    for threads in (1, 2):
        trainer = make_trainer(packed_model(), **ROWS | SHAPES[shape])
        assert trainer.data_collator.threads == 2
        trainer.data_collator.threads = threads
        results.append((*loss_and_gradient(trainer), trainer.trained_rows_and_tokens()))
    (loss, gradient, counts), (other_loss, other_gradient, other_counts) = results
    assert loss == pytest.approx(other_loss, abs=1e-5)
    assert gradient.abs().max() > 1e-4
    torch.testing.assert_close(gradient, other_gradient, rtol=0, atol=1e-5)
    assert counts == other_counts


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_a_run_in_shares_is_repeated_and_resumed_to_the_last_bit(make_trainer, packed_model, precision):
    options = {"per_device_train_batch_size": 16, "num_train_epochs": 2, "save_strategy": "steps", "save_steps": 3}

    def trainer():
        torch.manual_seed(1)
        return make_trainer(packed_model(0.1), precision, **options)

    whole = trainer()
    whole.train()
    resumed = trainer()
    resumed.train(resume_from_checkpoint=f"{whole.args.output_dir}/checkpoint-3")
    assert whole.state.global_step == resumed.state.global_step == 8
    assert torch.equal(weights_of(whole), weights_of(resumed))
    again = trainer()
    again.train()
    assert torch.equal(weights_of(whole), weights_of(again))


def test_when_memory_runs_out_the_shares_are_smaller(make_trainer, packed_model):
    whole = make_trainer(packed_model(), **ROWS)
    loss, gradient = loss_and_gradient(whole)
    model, passes = packed_model(), []

    def count(module, arguments, inputs):
        passes.append(inputs["input_ids"].numel())
        if passes[-1] > 150:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    model.register_forward_pre_hook(count, with_kwargs=True)
    trainer = make_trainer(copy.deepcopy(model), **ROWS)
    other_loss, other_gradient = loss_and_gradient(trainer)
    assert max(passes) > 150 >= max(passes[-2:])
    assert loss == pytest.approx(other_loss, abs=1e-5)
    torch.testing.assert_close(gradient, other_gradient, rtol=0, atol=1e-5)
    assert trainer.trained_rows_and_tokens() == whole.trained_rows_and_tokens()


@pytest.mark.parametrize(
    ("precision", "options"),
    [
        ("fp16", {}),
        ("no", {"gradient_checkpointing": True}),
        ("no", {"neftune_noise_alpha": 5.0}),
        ("no", {"torch_compile": True}),
    ],
    ids=["scaled", "computed again", "noise", "compiled"],
)
def test_where_shares_would_not_do_a_batch_is_computed_as_a_whole(make_trainer, packed_model, precision, options):
    assert make_trainer(packed_model(), precision, **options).data_collator.threads == 1


def test_threads_that_are_pinned_to_one_core_are_not_started(make_trainer, packed_model, monkeypatch):
    # As OMP_PROC_BIND pins the main thread, and threads inherit it.
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {0}, raising=False)
    assert make_trainer(packed_model()).data_collator.threads == 1


def test_a_model_that_is_padded_has_no_shares(make_trainer, tiny_model, packed_model, caplog):
    said = "computed in shares of 50 tokens or more, side by side"
    with caplog.at_level("INFO", logger="toxicity"):
        assert make_trainer(tiny_model).data_collator.threads == 1
        assert said not in caplog.text
        assert make_trainer(packed_model()).data_collator.threads == 2
    assert said in caplog.text
