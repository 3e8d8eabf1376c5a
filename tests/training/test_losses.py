import math

import pytest
import torch

from toxicity.data.token_dataset import IGNORED
from toxicity.training.losses import LossOptions, label_loss, mean_binary_cross_entropy, training_loss


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
    total = sum(training_loss(logits[part], labels[part], torch.tensor(32)) for part in parts)
    torch.testing.assert_close(total, mean_binary_cross_entropy(logits, labels))
    torch.testing.assert_close(total, training_loss(logits, labels))


def test_half_precision_logits_lose_nothing_in_the_loss():
    logits = torch.tensor([[20.0], [-20.0]])
    loss = mean_binary_cross_entropy(logits.half(), torch.tensor([[0.0], [1.0]]))
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(20.0)


def test_ignored_rows_have_no_part_in_loss_or_gradient():
    logits = torch.tensor([[0.5], [3.0]], requires_grad=True)
    labels = torch.tensor([[1.0], [IGNORED]])
    loss = training_loss(logits, labels)
    torch.testing.assert_close(loss, mean_binary_cross_entropy(logits[:1], labels[:1]))
    assert training_loss(logits[1:], labels[1:], torch.tensor(3)) == 0
    loss.backward()
    assert logits.grad[0] != 0 == logits.grad[1]


def test_weights_multiply_each_comments_loss():
    # log 2 three times, log 4 once, over two comments.
    logits, labels = torch.tensor([[0.0], [math.log(3)]]), torch.tensor([[1.0], [0.0]])
    loss = training_loss(logits, labels, weights=torch.tensor([[3.0], [1.0]]))
    assert loss.item() == pytest.approx((3 * math.log(2) + math.log(4)) / 2)


def test_auxiliary_targets_worked_by_hand():
    log3 = math.log(3)
    # Scores of 1/2 and 3/4 for toxicity, of 1/4 and 1/2, and of 3/4 and 3/4 for two auxiliary targets.
    logits = torch.tensor([[0.0, -log3, log3], [log3, 0.0, log3]])
    labels = torch.tensor([[1.0], [0.0]])
    auxiliary = torch.tensor([[0.0, float("nan")], [0.5, 1.0]])
    loss = training_loss(logits, labels, auxiliary=auxiliary, options=LossOptions(torch.tensor([1.0, 0.5, 2.0])))
    toxicity = math.log(2) + math.log(4)
    first, second = 0.5 * (math.log(4 / 3) + math.log(2)), 2.0 * math.log(4 / 3)
    assert loss.item() == pytest.approx((toxicity + first + second) / 2)


def test_what_nobody_annotated_has_no_gradient():
    logits = torch.zeros(2, 3, requires_grad=True)
    auxiliary = torch.tensor([[float("nan"), 1.0], [1.0, 1.0]])
    labels = torch.tensor([[1.0], [IGNORED]])
    training_loss(logits, labels, auxiliary=auxiliary, options=LossOptions(torch.ones(3))).backward()
    assert logits.grad.isfinite().all()
    assert (logits.grad != 0).tolist() == [[True, False, True], [False, False, False]]


def test_micro_batches_of_all_targets_add_up():
    torch.manual_seed(0)
    logits, labels, weights = torch.randn(32, 4), torch.rand(32, 1), torch.rand(32, 1)
    auxiliary = torch.where(torch.rand(32, 3) < 0.3, torch.nan, torch.rand(32, 3))
    options = LossOptions(torch.tensor([1.0, 1.0, 0.5, 0.25]))

    def loss(part):
        return training_loss(logits[part], labels[part], 32, weights[part], auxiliary[part], options)

    parts = [slice(0, 20), slice(20, 27), slice(27, 32)]
    torch.testing.assert_close(sum(map(loss, parts)), loss(slice(None)))


LOG3 = math.log(3)
# Scores of 1/2, 3/4 and 1/4.
HALF, HIGH, LOW = 0.0, LOG3, -LOG3
NAN = float("nan")


def test_the_loss_is_the_mean_over_labels_where_they_are_known():
    logits = torch.tensor([[HALF, HIGH], [HIGH, LOW], [LOW, HALF]])
    labels = torch.tensor([[1.0, NAN], [NAN, 0.0], [0.0, 0.25]])
    # Of three rows each label is known in two: its coefficient is 1/2 labels, divided by a share of 2/3.
    options = LossOptions(torch.full((2,), 3 / 4))
    of_first, of_second = math.log(2) + math.log(4 / 3), math.log(4 / 3) + math.log(2)
    expected = (of_first / 2 + of_second / 2) / 2
    assert training_loss(logits, labels, options=options).item() == pytest.approx(expected)
    assert mean_binary_cross_entropy(logits, labels).item() == pytest.approx(expected)


def test_what_nobody_said_has_no_gradient_and_is_no_zero():
    logits = torch.zeros(3, 2, requires_grad=True)
    labels = torch.tensor([[1.0, NAN], [NAN, 0.0], [IGNORED, IGNORED]])
    training_loss(logits, labels, options=LossOptions(torch.ones(2), torch.tensor([2.0, 3.0]), 2.0)).backward()
    assert logits.grad.isfinite().all()
    assert (logits.grad != 0).tolist() == [[True, False], [False, True], [False, False]]


def test_row_weights_are_for_the_main_label():
    logits, labels = torch.tensor([[HALF, HALF]]), torch.ones(1, 2)
    loss = training_loss(logits, labels, weights=torch.tensor([[3.0]]))
    assert loss.item() == pytest.approx(4 * math.log(2))


@pytest.mark.parametrize(
    ("logit", "label", "options", "expected"),
    [
        # -3 log 1/4, and -log(1 - 1/4) with no weight.
        (LOW, 1.0, {"positive_weights": [3.0]}, 3 * math.log(4)),
        (LOW, 0.0, {"positive_weights": [3.0]}, math.log(4 / 3)),
        # 3 * 1/4 log 4 + 3/4 log 4/3
        (LOW, 0.25, {"positive_weights": [3.0]}, 0.75 * math.log(4) + 0.75 * math.log(4 / 3)),
        # (1 - 1/4)^2 log 4, (1/4)^2 log 4/3
        (LOW, 1.0, {"focal_gamma": 2.0}, 9 / 16 * math.log(4)),
        (LOW, 0.0, {"focal_gamma": 2.0}, 1 / 16 * math.log(4 / 3)),
        (HIGH, 0.5, {"focal_gamma": 1.0}, 0.5 * 1 / 4 * math.log(4 / 3) + 0.5 * 3 / 4 * math.log(4)),
        (LOW, 1.0, {"focal_gamma": 2.0, "positive_weights": [2.0]}, 9 / 8 * math.log(4)),
        # Far out, where a probability rounds to 0 or 1.
        (200.0, 0.0, {"focal_gamma": 2.0}, 200.0),
        (200.0, 1.0, {"focal_gamma": 0.5}, 0.0),
    ],
)
def test_losses_of_unequal_classes_worked_by_hand(logit, label, options, expected):
    if weights := options.get("positive_weights"):
        options |= {"positive_weights": torch.tensor(weights)}
    logits = torch.tensor([[logit]], requires_grad=True)
    loss = label_loss(logits, torch.tensor([[label]]), torch.tensor([[0.5]]), LossOptions(**options))
    assert loss.item() == pytest.approx(0.5 * expected)
    loss.backward()
    assert logits.grad.isfinite().all()


def test_a_focal_loss_with_gamma_0_is_the_cross_entropy():
    torch.manual_seed(0)
    logits, labels, ones = torch.randn(50, 3), torch.rand(50, 3), torch.ones(50, 3)
    nearly = LossOptions(positive_weights=torch.tensor([1.0, 2.0, 3.0]), focal_gamma=1e-9)
    exactly = LossOptions(positive_weights=nearly.positive_weights)
    torch.testing.assert_close(label_loss(logits, labels, ones, nearly), label_loss(logits, labels, ones, exactly))
