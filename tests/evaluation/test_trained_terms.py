from toxicity.evaluation.trained_terms import explain_trained_terms, probed_among


def test_words_of_the_probe_are_told_from_others():
    words = ["gay", "Gay", "Muslim", "men", "with depression", "Buddhist", "as", "neighbours", "ga", "*Jewish*"]
    assert probed_among(words) == ["gay", "Gay", "Muslim", "men", "with depression", "neighbours"]


def test_the_sentence_names_them_and_nothing_else():
    told = explain_trained_terms(["gay", "<b>", "Buddhist"])
    assert "of its words for people these were put into copies: gay." in told
    assert "<b>" not in told
    assert "none of its words for people was put into a copy." in explain_trained_terms(["Buddhist"])
