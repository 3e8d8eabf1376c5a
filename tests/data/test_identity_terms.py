import random

import pyarrow as pa
import pytest
import yaml

from toxicity.core.errors import RequestError
from toxicity.data.identity_terms import read_identity_terms

TERMS = read_identity_terms()
GAY, ILL, STRAIGHT = "homosexual_gay_or_lesbian", "psychiatric_or_mental_illness", "heterosexual"
OTHER = "other_race_or_ethnicity"


def swapped(text, *pair):
    """The text with the first terms of the two groups in each other's place; None if these cannot be exchanged."""
    mentions = TERMS.mentions(text)
    possible = [found for found in TERMS.exchanges(mentions) if set(found) == set(pair)]
    return TERMS.exchanged(text, mentions, possible[0], lambda terms: terms[0])[0] if possible else None


@pytest.mark.parametrize(
    ("text", "pair", "expected"),
    [
        # Adjectives, and articles.
        ("I met a gay man.", (GAY, "muslim"), "I met a Muslim man."),
        ("I met a gay man.", (GAY, OTHER), "I met an Arab man."),
        ("an Arab family", (OTHER, "jewish"), "a Jewish family"),
        ("a very gay man", (GAY, OTHER), "a very Arab man"),
        ("She is gay.", (GAY, "jewish"), "She is Jewish."),
        ("the gay-friendly bar", (GAY, "muslim"), "the Muslim-friendly bar"),
        ("anti-gay laws", (GAY, "jewish"), "anti-Jewish laws"),
        ("some African-American voters", ("black", "white"), "some white voters"),
        # Nouns keep their number.
        ("an atheist", ("atheist", "jewish"), "a Jew"),
        ("a Jew", ("jewish", "atheist"), "an atheist"),
        ("women and children", ("female", "male"), "men and children"),
        ("all the gays", (GAY, "christian"), "all the Christians"),
        ("Islam is a religion", ("muslim", "hindu"), "Hinduism is a religion"),
        ("my father and his sons", ("male", "female"), "my mother and his daughters"),
        ("people with depression", (ILL, "physical_disability"), "people with epilepsy"),
        # The same word as an adjective and as a noun.
        ("a Muslim student", ("muslim", "jewish"), "a Jewish student"),
        ("He is a Muslim.", ("muslim", "jewish"), "He is a Jew."),
        ("He is Muslim.", ("muslim", "jewish"), "He is Jewish."),
        ("every Muslim who came", ("muslim", "female"), "every woman who came"),
        ("the Muslim world", ("muslim", "christian"), "the Christian world"),
        ("the Muslim world", ("muslim", "jewish"), None),
        ("She is a lesbian, I think", (GAY, "muslim"), "She is a Muslim, I think"),
        ("a lesbian couple", (GAY, "muslim"), None),
        # Case.
        ("GAY PEOPLE", (GAY, "jewish"), "JEWISH PEOPLE"),
        ("A GAY MAN", (GAY, OTHER), "AN ARAB MAN"),
        ("A gay man", (GAY, OTHER), "An Arab man"),
        ("An Arab man", (OTHER, GAY), "A gay man"),
        ("muslims are", ("muslim", "jewish"), "jews are"),
        ("Muslims are. But Muslims", ("muslim", GAY), "Gays are. But gays"),
        ('He said: "Gay Pride"', (GAY, "jewish"), 'He said: "Jewish Pride"'),
        # Possessives.
        ("women's rights", ("female", "male"), "men's rights"),
        ("women's rights", ("female", "muslim"), "Muslims' rights"),
        ("Muslims’ rights", ("muslim", "female"), "Women’s rights"),
        ("WOMEN'S RIGHTS", ("female", "muslim"), "MUSLIMS' RIGHTS"),
        ("the 'Muslims' here", ("muslim", "female"), "the 'women' here"),
        ("a Muslim's house", ("muslim", "jewish"), None),
        ("a woman's house", ("female", "male"), "a man's house"),
        # In both directions, and everywhere.
        ("Christians, muslims and more Christians", ("muslim", "christian"), "Muslims, christians and more Muslims"),
        ("gay women and gay men", (GAY, "jewish"), "Jewish women and Jewish men"),
        # A group is exchanged as a whole or not at all.
        ("the gays and homosexual acts", (GAY, "jewish"), "the Jews and Jewish acts"),
        ("gay men and a lesbian couple", (GAY, "jewish"), None),
    ],
)
def test_grammar_is_kept(text, pair, expected):
    assert swapped(text, *pair) == expected


@pytest.mark.parametrize(
    "text",
    [
        "a straight line",
        "go straight home",
        "black coffee on a white tablecloth",
        "in black and white",
        "the white paper and the black market",
        "egg whites",
        "a blind eye",
        "the account was disabled",
        "Man, what a day",
        "come on man",
        "oh boy",
        "son of a gun",
        "he and she, him and her, his and hers",
        "the gay are here",
        "#gay @women www.gay.com/gay gay@women.org",
        "womenfolk, manned, Jewishness, semen",
        "Black Lives Matter",
        "the X-Men",
    ],
)
def test_what_is_not_about_a_group_is_left_alone(text):
    assert TERMS.mentions(text) == []


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("black people", ["black"]),
        ("a Black woman", ["Black", "woman"]),
        ("the blacks and the whites", ["blacks", "whites"]),
        ("white Christians", ["white", "Christians"]),
        ("straight people", ["straight"]),
        ("that man, a good man", ["man", "man"]),
        ("Gays...women", ["Gays", "women"]),
    ],
)
def test_what_is_about_a_group_is_found(text, named):
    assert [text[mention.start : mention.end] for mention in TERMS.mentions(text)] == named


def test_some_groups_are_only_put_in():
    for text in ("American cars", "an old story", "the people", "a local man's voters"):
        assert {mention.term.group for mention in TERMS.mentions(text)} <= {"male"}
    assert swapped("a gay teacher", GAY, "nationality") == "an American teacher"
    assert swapped("a gay teacher", GAY, "age") == "an old teacher"
    assert swapped("Muslims are people", "muslim", "nobody in particular") == "People are people"
    assert swapped("an old American teacher", "age", "nationality") is None
    named = TERMS.rows_that_name(pa.chunked_array([["American cars", "an old Jewish story"]]))
    assert named.tolist() == [False, True]


def test_slurs_are_neither_put_in_nor_taken_out():
    # Milder ones stand for all: what is not in the file is not exchanged.
    slurs = ["spinster", "papist", "infidel", "heathen", "homo", "loony", "cripple", "redneck"]
    assert not {slur.casefold() for slur in slurs} & set(TERMS.terms)
    for slur in slurs:
        assert TERMS.mentions(f"a {slur}, the {slur}s") == []
        assert swapped(f"those {slur}s are gays", GAY, "jewish") == f"those {slur}s are Jews"


def test_every_form_has_a_counterpart_in_another_group():
    alone = []
    for term in TERMS.terms.values():
        for reading in term.readings:
            others = {other.group for other in TERMS.terms.values() if reading in other.readings} - {term.group}
            if not others:
                alone.append((term.text, reading[0]))
    assert alone == [("lesbian", "only of women")]


def test_rows_that_name_a_group_are_those_with_mentions():
    texts = ["a gay man", None, "a straight line", "égay and gayé", "ein Jude", "(Jewish)", "x" * 50 + " women", ""]
    expected = [True, False, False, False, False, True, True, False]
    one, other = pa.chunked_array([texts[:3], texts[3:]]), pa.chunked_array([pa.array(texts, pa.large_string())])
    assert TERMS.rows_that_name(one).tolist() == expected
    assert TERMS.rows_that_name(other).tolist() == expected


def test_any_exchange_can_be_undone_on_the_words():
    rng = random.Random(0)
    words = [*TERMS.terms, "the", "people", "is", "a", "an", "and", "who", "'s", ".", "man", "with"]
    for _ in range(2000):
        text = " ".join(rng.choices(words, k=8))
        mentions = TERMS.mentions(text)
        for pair in TERMS.exchanges(mentions):
            copy, put_in = TERMS.exchanged(text, mentions, pair, rng.choice)
            assert {TERMS.terms[word.casefold().replace("-", " ")].group for word in put_in} <= set(pair)
            assert copy != text


def written(tmp_path, **content):
    path = tmp_path / "terms.yaml"
    path.write_text(yaml.safe_dump(content))
    return str(path)


def test_a_file_of_the_users_own(tmp_path):
    groups = {"cats": {"pets": [["a cat", "cats"]]}, "owls": {"pets": [["an owl", "owls"]]}}
    terms = read_identity_terms(written(tmp_path, groups=groups, left_alone=["cat burglar"]))
    text = "A cat and two owls, no cat burglar."
    mentions = terms.mentions(text)
    assert terms.exchanges(mentions) == [("cats", "owls")]
    assert terms.exchanged(text, mentions, ("cats", "owls"), random.choice)[0] == "An owl and two cats, no cat burglar."


CATS, OWLS = {"pets": [["a cat", "cats"]]}, {"pets": [["an owl", "owls"]]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"groups": {"cats": CATS, "owls": OWLS, "tigers": {"pets": ["a Cat"]}}}, "`Cat` is in the groups `cats` and"),
        ({"terms": {}}, "has no key `groups`"),
        ({"groups": ["cats"]}, "has no key `groups`"),
        ({"groups": {"cats": CATS, "owls": OWLS}, "slurs": []}, "unknown key `slurs`; there are groups, only_before"),
        ({"groups": {"cats": CATS}}, "fewer than two groups"),
        ({"groups": {"cats": ["cat"], "owls": OWLS}}, "give the group `cats` forms"),
        ({"groups": {"cats": {"pets": "cat"}, "owls": OWLS}}, "give the group `cats` forms"),
        ({"groups": {"cats": {"pets": [["cat", "cats"]]}, "owls": OWLS}}, "`cat` has no article"),
        ({"groups": {"cats": {"pets": [["a", "b", "c"]]}, "owls": OWLS}}, "is no term"),
        ({"groups": {"cats": {"pets": [3]}, "owls": OWLS}}, "`3` in the group `cats` is no term"),
        ({"groups": {"cats": CATS, "owls": OWLS}, "only_put_in": ["dogs"]}, "only_put_in names `dogs`, which is none"),
        ({"groups": {"cats": CATS, "owls": OWLS}, "only_put_in": ["cats", "owls"]}, "or none that is looked for"),
        ({"groups": {"cats": CATS, "owls": OWLS}, "left_alone": "cat"}, "give left_alone a list of words"),
        ({"groups": {"cats": CATS, "owls": OWLS}, "left_alone": ["cat nap", " "]}, "words, none of them empty"),
        ({"groups": {"cats": CATS, "owls": OWLS}, "only_put_in": [None]}, "words, none of them empty"),
    ],
)
def test_a_file_that_cannot_be_meant_is_refused(tmp_path, content, message):
    with pytest.raises(RequestError, match=message):
        read_identity_terms(written(tmp_path, **content))


def test_a_file_that_cannot_be_read_is_refused(tmp_path):
    with pytest.raises(RequestError, match="--identity_terms .*nowhere.yaml cannot be read: No such file"):
        read_identity_terms(str(tmp_path / "nowhere.yaml"))
    (tmp_path / "twice.yaml").write_text("groups:\n  cats:\n    pets: [a cat]\n  cats:\n    pets: [a tiger]\n")
    with pytest.raises(RequestError, match="twice.yaml is not YAML: the key `cats` is there twice .*line 2"):
        read_identity_terms(str(tmp_path / "twice.yaml"))
    (tmp_path / "bad.yaml").write_text("groups: [")
    with pytest.raises(RequestError, match="is not YAML"):
        read_identity_terms(str(tmp_path / "bad.yaml"))
