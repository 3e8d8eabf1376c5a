import pytest

from toxicity.core.errors import RequestError
from toxicity.core.wanted import Wanted, priors_of, require_shares, wanted_threshold


@pytest.mark.parametrize(
    ("text", "kind", "value", "name", "told"),
    [
        ("0.9", "precision", 0.9, "0.9", "precision 0.9"),
        ("precision=0.98", "precision", 0.98, "0.98", "precision 0.98"),
        ("0.90", "precision", 0.9, "0.9", "precision 0.9"),
        (" Recall = 0.95 ", "recall", 0.95, "recall=0.95", "recall 0.95"),
        ("flagged=0.02", "flagged", 0.02, "flagged=0.02", "at most 2 % flagged"),
        ("flagged=2e-3", "flagged", 0.002, "flagged=0.002", "at most 0.2 % flagged"),
    ],
)
def test_what_a_threshold_is_for(text, kind, value, name, told):
    wanted = wanted_threshold(text)
    assert (wanted.kind, wanted.value, wanted.name, wanted.told) == (kind, value, name, told)
    assert Wanted.from_name(name) == wanted


@pytest.mark.parametrize(
    "text",
    ["precison=0.9", "recall=1.5", "recall=0", "flagged=1", "recall=nan", "recall", "recall=", "", "2", "a=b=0.5"],
)
def test_what_no_threshold_can_be_for_is_refused_with_an_example(text):
    with pytest.raises(ValueError, match="is no threshold|could not convert"):
        Wanted.from_name(text)
    with pytest.raises(RequestError, match=f"--threshold_for {text}: give precision, recall or flagged with a share"):
        wanted_threshold(text)


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, 8.0, float("nan")])
def test_a_prior_is_a_share_of_comments_of_two_classes(share):
    require_shares(None)
    require_shares([0.02, 0.5])
    with pytest.raises(RequestError, match=f"--prior {share:g}: give a share of toxic comments above 0 and below 1"):
        require_shares([0.02, share])


@pytest.mark.parametrize(
    ("prior", "labels", "expected"),
    [
        (None, 2, [None, None]),
        ([], 1, [None]),
        ([0.02], 1, [0.02]),
        ([0.02], 3, [0.02, None, None]),
        ([0.02, 0.1], 2, [0.02, 0.1]),
    ],
)
def test_priors_are_of_the_main_label_or_of_all(prior, labels, expected):
    assert priors_of(prior, labels) == expected


@pytest.mark.parametrize(
    ("labels", "message"),
    [(1, "there is 1 label: give one"), (3, "--prior has 2 values, and there are 3 labels: give")],
)
def test_another_number_of_priors_is_refused(labels, message):
    with pytest.raises(RequestError, match=message):
        priors_of([0.1, 0.2], labels)
