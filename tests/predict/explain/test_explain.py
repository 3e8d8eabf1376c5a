"""Both methods on words that were planted in a model, and what `explain` refuses."""

import sys

import pytest
from label_models import save_label_model
from scipy.special import logit

from toxicity.core.errors import RequestError
from toxicity.predict.explain import explain
from toxicity.predict.scorer import Scorer

METHODS = ("occlusion", "gradients")


def exact(folder, **options):
    return Scorer(str(folder), device="cpu", runtime="torch", mixed_precision="no", **options)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("text", "signs"),
    [
        ("Thank you for the STUPID note about trains", {"STUPID": 1}),
        ("The kind note about the trains", {"kind": -1}),
        ("You local idiot, thank you for the note", {"idiot": 1}),
        ("You idiot and the kind note", {"idiot": 1, "kind": -1}),
    ],
)
def test_both_methods_agree_on_what_was_planted(planted, method, text, signs):
    if method == "gradients":
        pytest.importorskip("captum", reason="the extra `explain` is not installed")
    words = explain(exact(planted), text, method=method)
    weights = {word.text: word.weight for word in words}
    strongest = sorted(words, key=lambda word: -abs(word.weight))[: len(signs)]
    assert {word.text for word in strongest} == set(signs)
    assert all(weights[word] * sign > 0.5 for word, sign in signs.items())
    assert [text[word.begin : word.end] for word in words] == [word.text for word in words]


@pytest.mark.parametrize("method", METHODS)
def test_each_label_has_its_own_weights(tmp_path, tiny_config, tokenizer, method):
    if method == "gradients":
        pytest.importorskip("captum", reason="the extra `explain` is not installed")
    scorer = exact(save_label_model(tmp_path / "labels", tiny_config, tokenizer, ("hate", "insult", "threat")))
    main, *_ = scorer.calibrations
    text = "You are a rotten liar, thank you"
    found = {label: explain(scorer, text, label, method) for label in (main, *scorer.subtypes)}
    assert explain(scorer, text, method=method) == found[main]
    assert len({words[0].weight for words in found.values()}) == 3
    whole, without = (scorer.by_label([one]) for one in (text, "You are a rotten, thank you"))
    if method == "occlusion":
        for label, words in found.items():
            assert words[4].text == "liar"
            assert words[4].weight == pytest.approx(logit(whole[label][0]) - logit(without[label][0]), abs=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_a_blank_text_has_no_words(planted, method):
    if method == "gradients":
        pytest.importorskip("captum", reason="the extra `explain` is not installed")
    assert explain(exact(planted), " \n", method=method) == []


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"label": "insult"}, "the model has no label `insult`: choose one of `toxic`."),
        ({"method": "lime"}, "there is no method `lime`: choose occlusion or gradients."),
    ],
)
def test_what_there_is_not_is_refused(planted, options, told):
    with pytest.raises(RequestError) as refusal:
        explain(exact(planted), "You idiot", **options)
    assert str(refusal.value) == told


def test_gradients_need_torch_in_fp32_and_captum(planted, monkeypatch):
    half = Scorer(str(planted), device="cpu", runtime="torch", mixed_precision="bf16")
    with pytest.raises(RequestError, match="in torch in fp32: .* runtime torch and mixed_precision no, or explain by"):
        explain(half, "You idiot", method="gradients")
    monkeypatch.setitem(sys.modules, "captum", None)
    with pytest.raises(RequestError, match="need captum: pip install -r requirements-explain.txt, or explain by"):
        explain(exact(planted), "You idiot", method="gradients")
    assert explain(exact(planted), "You idiot")
