"""Words for groups of people: where a comment has them, and the same comment with those of another group.

Only words of a list are exchanged, which has no slurs, and each only with one that can stand in the same place: number,
case, article and possessive are kept, and a word that has several meanings is left alone where its neighbours do not
show that it is about people. The list is `identity_terms.yaml`, or the user's file in the same format.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import yaml

from toxicity.core.console import quoted
from toxicity.core.errors import RequestError, one_line
from toxicity.data.english import (
    AFTER_NOUNS,
    ARTICLES,
    DETERMINERS,
    FORMS_OF_BE,
    NEAR,
    PEOPLE,
    in_case_of,
    possessive_of_plural,
    with_article,
)

BUNDLED = Path(__file__).with_name("identity_terms.yaml")
RULES = ("only_before_people", "only_after_articles", "only_put_in", "left_alone")


class Term(NamedTuple):
    """A word, or several, for people of a group.

    `article` is that of a singular, `a` or `an`, and empty where there is none. `readings` are the forms that it may
    be of, each with its number: `one`, `many`, or empty for what has no plural, such as adjectives.
    """

    group: str
    text: str
    article: str
    readings: frozenset[tuple[str, str]]


class Mention(NamedTuple):
    """A term in a text, from character `start` to before `end`, with the readings that its neighbours leave."""

    start: int
    end: int
    term: Term
    readings: frozenset[tuple[str, str]]


@dataclass(frozen=True)
class IdentityTerms:
    """Terms by their words in lower case, and the rules by which some are left alone (see the file)."""

    terms: Mapping[str, Term]
    only_before_people: frozenset[str] = frozenset()
    only_after_articles: frozenset[str] = frozenset()
    only_put_in: frozenset[str] = frozenset()
    left_alone: Sequence[str] = field(default=())

    @cached_property
    def groups(self) -> dict[str, list[Term]]:
        """The terms of each group."""
        groups: dict[str, list[Term]] = {}
        for term in self.terms.values():
            groups.setdefault(term.group, []).append(term)
        return groups

    @cached_property
    def _looked_for(self) -> dict[str, Term]:
        return {words: term for words, term in self.terms.items() if term.group not in self.only_put_in}

    @cached_property
    def _first_words(self) -> frozenset[str]:
        """First words of adjectives and nouns: "a black Muslim", "gay Christians"."""
        nouns = (
            words for words, term in self._looked_for.items() if term.article or any(map(itemgetter(1), term.readings))
        )
        return frozenset(words.partition(" ")[0] for words in nouns)

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        # Not in addresses, tags and names of files. A phrase that is left alone is found before the words in it.
        phrases = _alternatives(self.left_alone) or r"(?!)"
        return re.compile(
            rf"(?<![\w@#/=&])(?<!\w\.)(?:(?:{phrases})|({_alternatives(self._looked_for)}))(?![\w@]|[./=]\w)",
            re.IGNORECASE,
        )

    def rows_that_name(self, texts: pa.ChunkedArray) -> np.ndarray:
        """Which texts have at least one `mention`, bool `(rows,)`; a null has none."""
        # Arrow's expressions take time in proportion to the text, however many terms there are.
        expression = rf"(?:^|[^\pL\pN_])(?:{_alternatives(self._looked_for)})(?:$|[^\pL\pN_])"
        named = np.zeros(len(texts), dtype=bool)
        start = 0
        for chunk in texts.chunks:
            found = pc.match_substring_regex(chunk, expression, ignore_case=True)
            rows = np.flatnonzero(found.fill_null(False).to_numpy(zero_copy_only=False))
            for first in range(0, len(rows), 10_000):
                some = rows[first : first + 10_000]
                named[start + some] = [bool(self.mentions(text)) for text in chunk.take(pa.array(some)).to_pylist()]
            start += len(chunk)
        return named

    def mentions(self, text: str) -> list[Mention]:
        """The terms in a text that may be exchanged, in their order."""
        found = []
        for match in self._pattern.finditer(text):
            term = self._looked_for.get(_letters(match[1])) if match[1] else None
            if term is not None and (readings := self._readings_of(term, text, *match.span())):
                found.append(Mention(*match.span(), term, readings))
        return found

    def exchanges(self, mentions: Sequence[Mention]) -> list[tuple[str, str]]:
        """Pairs of groups, the first of them mentioned, that can be exchanged in all of these mentions."""
        named = list(dict.fromkeys(mention.term.group for mention in mentions))
        pairs = {(one, other) for one in named for other in self.groups if other != one}
        pairs -= {(other, one) for one, other in pairs if other in named and named.index(other) > named.index(one)}
        return sorted(
            pair for pair in pairs if all(self._in_place_of(m, pair) for m in mentions if m.term.group in pair)
        )

    def exchanged(
        self,
        text: str,
        mentions: Sequence[Mention],
        pair: tuple[str, str],
        choose: Callable[[Sequence[Term]], Term],
    ) -> tuple[str, set[str]]:
        """The text with the terms of two groups exchanged, and the terms that were put in.

        Args:
            mentions: those of the text.
            pair: one of `exchanges`.
            choose: draws one of several terms; the same mention always becomes the same one.
        """
        chosen: dict[tuple[Term, frozenset[tuple[str, str]]], Term] = {}
        parts, end = [], 0
        for mention in mentions:
            if mention.term.group not in pair:
                continue
            key = mention.term, mention.readings
            if key not in chosen:
                chosen[key] = choose(self._in_place_of(mention, pair))
            found, before, new = text[mention.start : mention.end], text[: mention.start], chosen[key]
            parts.append(with_article(text[end : mention.start], new.article, found))
            parts.append(in_case_of(found, mention.term.text, new.text, before))
            end = mention.end
            if any(number == "many" for _, number in mention.readings):
                signs, possessive = possessive_of_plural(new.text, before, text[end:])
                parts.append(possessive)
                end += signs
        return "".join([*parts, text[end:]]), {term.text for term in chosen.values()}

    def _in_place_of(self, mention: Mention, pair: tuple[str, str]) -> list[Term]:
        group = pair[1] if mention.term.group == pair[0] else pair[0]
        return [term for term in self.groups[group] if mention.readings <= term.readings]

    def _readings_of(self, term: Term, text: str, start: int, end: int) -> frozenset[tuple[str, str]]:
        """The readings of a term that its neighbours leave; none where it does not seem to be about people."""
        if not term.article:
            return term.readings
        last = re.search(r"([^\W\d_]+)\s+$", text[max(0, start - NEAR) : start])
        following = re.match(r"\s+([^\W\d_]+)", text[end : end + NEAR])
        before, after = (match[1].casefold() if match else "" for match in (last, following))
        people = after in PEOPLE or after in self._first_words
        ends = after in AFTER_NOUNS or re.match(r"\s*(?:[^\w\s'’-]|$)", text[end : end + NEAR]) is not None
        determined = before in DETERMINERS or before in self._first_words
        nouns = frozenset(reading for reading in term.readings if reading[1])
        adjectives, words = term.readings - nouns, _letters(term.text)
        if words in self.only_before_people:
            return adjectives if people else nouns if determined and ends else frozenset()
        if not adjectives:
            return nouns if not people and (determined or words not in self.only_after_articles) else frozenset()
        # A singular noun has an article or the like.
        if people or (not ends and not determined and (not before or before in AFTER_NOUNS)):
            return adjectives
        if determined and ends:
            # "The gay and the deaf": an adjective in place of a noun, which not every adjective can be.
            return nouns if nouns or before in ARTICLES else adjectives
        return adjectives if before in FORMS_OF_BE and ends else term.readings


class _Loader(yaml.SafeLoader):
    """Refuses what YAML forbids and PyYAML lets pass: a key given twice, of which the first would be lost."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        if twice := next((key for key in keys if keys.count(key) > 1), None):
            raise yaml.constructor.ConstructorError(None, None, f"the key `{twice}` is there twice", node.start_mark)
        return super().construct_mapping(node, deep)


def read_identity_terms(path: str | None = None) -> IdentityTerms:
    """The terms of a YAML file, by default those of the package.

    Raises:
        RequestError: if it cannot be read, has other keys or entries than `identity_terms.yaml` describes, a term in
            two groups, or fewer than two groups.
    """
    name = f"--identity_terms {path}"
    try:
        content = yaml.load((BUNDLED if path is None else Path(path)).read_text(encoding="utf-8"), _Loader)
    except OSError as error:
        raise RequestError(f"{name} cannot be read: {error.strerror}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RequestError(f"{name} is not YAML: {one_line(error)}") from error
    if not isinstance(content, dict) or not isinstance(content.get("groups"), dict):
        raise RequestError(
            f"{name} has no key `groups` with the terms of each group: see toxicity/data/{BUNDLED.name}."
        )
    if unknown := set(content) - {"groups", *RULES}:
        raise RequestError(
            f"{name}: unknown key {quoted(str(min(unknown, key=str)))}; there are groups, {', '.join(RULES)}."
        )
    terms: dict[str, Term] = {}
    for group, forms in content["groups"].items():
        if not isinstance(forms, dict) or not all(isinstance(entries, list) and entries for entries in forms.values()):
            raise RequestError(f"{name}: give the group {quoted(str(group))} forms, each with a list of its terms.")
        for form, entries in forms.items():
            for entry in entries:
                _add(terms, str(group), str(form), entry, name)
    groups = {term.group for term in terms.values()}
    rules = {rule: content.get(rule) or [] for rule in RULES}
    for rule, words in rules.items():
        if not isinstance(words, list) or not all(isinstance(word, str) and word.strip() for word in words):
            raise RequestError(f"{name}: give {rule} a list of words, none of them empty.")
        rules[rule] = [word.strip() for word in words]
    put_in = frozenset(rules["only_put_in"])
    if unknown := put_in - groups:
        raise RequestError(f"{name}: only_put_in names {quoted(min(unknown))}, which is none of its groups.")
    if len(groups) < 2 or not groups - put_in:
        raise RequestError(
            f"{name} has terms of fewer than two groups, or none that is looked for, and nothing to exchange: add "
            "another."
        )
    before, after = (frozenset(map(_letters, rules[rule])) for rule in RULES[:2])
    return IdentityTerms(terms, before, after, put_in, rules["left_alone"])


def _add(terms: dict[str, Term], group: str, form: str, entry: Any, name: str) -> None:
    """Add an entry of the file."""
    given = [entry] if isinstance(entry, str) else entry
    if not isinstance(given, list) or len(given) > 2 or not all(isinstance(words, str | None) for words in given):
        raise RequestError(
            f"{name}: {quoted(str(entry))} in the group {quoted(group)} is no term: give such as `a gay`, "
            "[a Jew, Jews] or `Islam`."
        )
    numbers = [""] if isinstance(entry, str) else ["one", "many"]
    for words, number in zip(given, numbers, strict=False):
        if not (words or "").strip():
            continue
        article, text = re.fullmatch(r"(?:(an?)\s+)?(.+)", words.strip(), re.DOTALL).groups(default="")
        if number == "one" and not article:
            raise RequestError(f"{name}: {quoted(words)} has no article: write `a` or `an` before a singular.")
        known = terms.get(_letters(text))
        if known is not None and known.group != group:
            raise RequestError(
                f"{name}: {quoted(text)} is in the groups {quoted(known.group)} and {quoted(group)}: keep it in one."
            )
        readings = frozenset([(form, number)]) | (known.readings if known else frozenset())
        terms[_letters(text)] = Term(group, text, article or (known.article if known else ""), readings)


def _letters(text: str) -> str:
    """How a term is looked up: in lower case, with a space between its words, which may have a hyphen."""
    return re.sub(r"[\s-]+", " ", text).casefold()


def _alternatives(phrases: Iterable[str]) -> str:
    """A regular expression, of Python and of RE2, for phrases, the longest first of those with the same first letter.

    Python tries one alternative after another, and so a tenth of them.
    """
    by_letter: dict[str, list[str]] = {}
    for phrase in sorted(phrases, key=len, reverse=True):
        rest = re.sub(r"(?:\\[ -]|\s)+", r"[\\s-]+", re.escape(phrase[1:]))
        by_letter.setdefault(re.escape(phrase[0].lower()), []).append(rest)
    return "|".join(f"{letter}(?:{'|'.join(rests)})" for letter, rests in by_letter.items())
