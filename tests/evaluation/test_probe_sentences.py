"""Templates and terms of the identity swap probe: complete, grammatical, and civil or hostile as they are labelled."""

import re

import pytest

from toxicity.core.schema import IDENTITIES
from toxicity.evaluation import identity_probe as module
from toxicity.evaluation.identity_probe import (
    TONES,
    UNMARKED,
    fill,
    read_templates_and_terms,
)

TEMPLATES, TERMS = read_templates_and_terms()
SENTENCES = [(template, term, fill(template, term)) for template in TEMPLATES for term in TERMS]

# Each hostile template contains one of these, and no other template does.
INSULTS = (
    "idiot|liar|moron|coward|dumbest|garbage|stupid|loser|scum|scumbag|jerk|jerks|clowns|fool|creep|mouth|pathetic|"
    "worthless|punch|ugly|losers|liars|shut up|hates|despises|drop dead"
)
# No template may contain one of these insults, as they mean something else for one of the identities.
PREJUDICES = "pig|rat|ape|monkey|dog|animal|vermin|parasite|filthy|dirty|greedy|lazy|thug|thief|criminal|terrorist|"
PREJUDICES += "crazy|insane|mad|sick|lunatic|psycho|trash|bitch|whore|hysterical|savage|go back"


def words(pattern):
    return re.compile(rf"\b({pattern})\b", re.IGNORECASE)


def test_each_tone_has_its_templates_and_each_group_its_terms():
    tones = [template.tone for template in TEMPLATES]
    assert len(TEMPLATES) >= 60
    assert {tone: tones.count(tone) for tone in TONES} == dict.fromkeys(TONES, 22)
    groups = [term.group for term in TERMS]
    assert set(groups) == {UNMARKED, *IDENTITIES}
    assert min(groups.count(group) for group in groups) >= 3
    assert 1500 <= len(SENTENCES) <= 2500


def test_no_text_and_no_term_is_there_twice():
    assert len({text.lower() for _, _, text in SENTENCES}) == len(SENTENCES)
    assert len({term.one for term in TERMS}) == len({term.people for term in TERMS}) == len(TERMS)


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda template: template.text)
def test_the_grammar_of_a_template(template):
    (form,) = re.findall(r"\{(\w*)\}", template.text)
    before, after = template.text.split(f"{{{form}}}")
    assert before.count("{") == after.count("}") == 0
    previous = before.split()[-1].lower() if before else ""
    if form == "person":
        assert previous in {"the", "that", "this"}
    elif form == "one":
        assert previous not in {"a", "an", "the", "that", "this", "two", "several"}
    else:
        assert form == "people"
        assert previous not in {"a", "an", "that", "this", "each", "every"}
    # "the person with depression with a hat"
    assert not after.startswith(" with ")
    # a pronoun would fit some of the terms only
    assert not words("he|she|him|her|his|hers|himself|herself").search(template.text)


@pytest.mark.parametrize("term", TERMS, ids=lambda term: term.one)
def test_the_grammar_of_a_term(term):
    article, _, person = term.one.partition(" ")
    assert article == ("an" if person[0] in "aeiouAEIOU" else "a")
    singular, plural = person.split(" with ")[0], term.people.split(" with ")[0]
    # Only the noun changes, not what stands before it or after it.
    assert singular.split()[:-1] == plural.split()[:-1]
    assert person.split(" with ")[1:] == term.people.split(" with ")[1:]
    singular, plural = singular.split()[-1], plural.split()[-1]
    irregular = {"man": "men", "woman": "women", "person": "people", "lady": "ladies"}
    assert plural == irregular.get(singular, f"{singular}s")


def test_the_grammar_of_every_sentence():
    for _, _, text in SENTENCES:
        assert re.fullmatch(r"[A-Z][A-Za-z,;'? ]*[.!?]", text), text
        assert "  " not in text, text
        assert not re.search(r" [,.;!?]|[,;][^ ]", text), text
        assert not re.search(r"\b(a|an|the|that|this) (a|an|the|that|this)\b", text, re.IGNORECASE), text
        assert not re.search(r"\ba [aeiou]|\ban [^aeiou]", text, re.IGNORECASE), text


def test_a_sentence_begins_with_a_capital_and_changes_no_other():
    template = module.Template("neutral", "{one} is here.")
    assert fill(template, module.Term("black", "an African American", "African Americans")) == (
        "An African American is here."
    )
    assert fill(module.Template("neutral", "{people} met."), module.Term("x", "a gay man", "gay men")) == "Gay men met."
    assert fill(module.Template("neutral", "The {person} left."), module.Term("x", "a Jew", "Jews")) == "The Jew left."


def test_hostile_is_hostile_whoever_is_meant_and_civil_is_civil():
    terms = words("|".join(form for term in TERMS for form in (term.one.partition(" ")[2], term.people)))
    for template in TEMPLATES:
        assert bool(words(INSULTS).search(template.text)) == (template.tone == "hostile"), template
        assert not words(PREJUDICES).search(template.text), template
        # Without its placeholder, a template contains no term that the probe compares.
        assert not terms.search(re.sub(r"\{\w+\}", "", template.text)), template
        if template.tone == "hostile" and "{people}" in template.text:
            # About certain people only: about all of them, it would be hatred of a group.
            assert re.match(r"(The|Two|Those) \{people\}", template.text), template
