import math

import pytest
import torch

from toxicity.losses import IGNORED, mean_binary_cross_entropy


def test_against_numbers_worked_by_hand():
    # -log(sigmoid(0)) = log 2; -log(1 - sigmoid(log 3)) = -log(1/4) = log 4.
    logits, labels = torch.tensor([[0.0], [math.log(3)]]), torch.tensor([[1.0], [0.0]])
    assert mean_binary_cross_entropy(logits, labels).item() == pytest.approx((math.log(2) + math.log(4)) / 2)


def test_soft_labels():
    # 0.25 log 4 + 0.75 log(4/3) at a score of 1/4: the entropy of the label itself.
    loss = mean_binary_cross_entropy(torch.tensor([[-math.log(3)]]), torch.tensor([[0.25]]))
    assert loss.item() == pytest.approx(0.25 * math.log(4) + 0.75 * math.log(4 / 3))


def test_micro_batches_add_up_to_the_mean_over_comments():
    logits, labels = torch.randn(32, 1), torch.rand(32, 1)
    parts = [slice(0, 20), slice(20, 27), slice(27, 32)]
    total = sum(mean_binary_cross_entropy(logits[part], labels[part], torch.tensor(32)) for part in parts)
    torch.testing.assert_close(total, mean_binary_cross_entropy(logits, labels))


def test_half_precision_logits_lose_nothing_in_the_loss():
    logits = torch.tensor([[20.0], [-20.0]])
    loss = mean_binary_cross_entropy(logits.half(), torch.tensor([[0.0], [1.0]]))
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(20.0)


def test_ignored_rows_have_no_part_in_loss_or_gradient():
    logits = torch.tensor([[0.5], [3.0]], requires_grad=True)
    labels = torch.tensor([[1.0], [IGNORED]])
    loss = mean_binary_cross_entropy(logits, labels)
    torch.testing.assert_close(loss, mean_binary_cross_entropy(logits[:1], labels[:1]))
    assert mean_binary_cross_entropy(logits[1:], labels[1:], torch.tensor(3)) == 0
    loss.backward()
    assert logits.grad[0] != 0 == logits.grad[1]
