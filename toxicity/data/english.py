"""English grammar around a word that another takes the place of: its neighbours, case, article and possessive."""

from __future__ import annotations

import re


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Characters beside a word in which its neighbours are looked for.
NEAR = 40
ARTICLES = ("a", "an", "the")
# After one of these, and before the end of a clause or one of `AFTER_NOUNS`, stands a noun, not an adjective.
DETERMINERS = _words(
    "a an the this that another any each every no one some my your his her its our their "
    "old young fellow poor nice good bad dead innocent"
)
FORMS_OF_BE = _words("be am is are was were been being im")
AFTER_NOUNS = _words(
    "is are was were be who whom whose which that and or but nor in on at of from to with without for by as than then "
    "has have had will would can could should may might must do does did said says told came went because if when "
    "while not never so too also"
)
# Before one of these a word is an adjective, and about people.
PEOPLE = _words(
    "man men woman women boy boys girl girls person persons people guy guys lady ladies gentleman gentlemen male males "
    "female females kid kids child children folk folks community communities family families couple couples friend "
    "friends neighbor neighbors neighbour neighbours colleague colleagues teacher teachers student students worker "
    "workers voter voters brother brothers sister sisters mother mothers father fathers son sons daughter daughters "
    "husband wife parent parents citizen citizens population youth teen teens teenager teenagers adult adults american "
    "americans president politician politicians leader leaders activist activists writer writers author authors actor "
    "actors actress player players cop cops officer officers soldier soldiers"
)


def in_case_of(found: str, known: str, new: str, before: str) -> str:
    """A new word in the case in which another was found: all capitals, all small, or one at the beginning.

    Args:
        found: as the comment has it.
        known: the same as the list has it.
        new: as the list has it.
        before: the text before it.
    """
    if found.isupper() and len(found) > 1:
        return new.upper()
    if found.islower() and not known.islower():
        return new.lower()
    begins = re.search(r"(?:^|[.!?]|\n)[\s\"“'‘(]*$", before[-NEAR:]) is not None
    if found[0].isupper() and (begins or known[0].islower()):
        return new[0].upper() + new[1:]
    return new


def with_article(before: str, article: str, found: str) -> str:
    """A text that ends where a word stands, with this article, `a` or `an`, if it ends with one of these.

    Args:
        article: of the word that is to stand there; empty to leave the text as it is.
        found: the word that stands there, for the case.
    """
    match = re.search(r"(?<![\w.'’])(an?)(\s+)$", before[-NEAR:], re.IGNORECASE)
    if match is None or not article:
        return before
    if match[1].isupper():
        # "A" alone may begin a sentence.
        article = article.upper() if found.isupper() else article.capitalize()
    elif match[1][0].isupper():
        article = article.capitalize()
    return before[: len(before) - len(match[0])] + article + match[2]


def possessive_of_plural(new: str, before: str, after: str) -> tuple[int, str]:
    """How many characters after a plural are the sign of its possessive, and that of the new one; 0 for none.

    Args:
        new: the plural that is to stand there.
        before, after: the text before and after the one that stands there; an apostrophe may end a quotation.
    """
    match = re.match(r"(['’])(s\b|(?=\s+\w))", after, re.IGNORECASE)
    if match is None or (not match[2] and before.endswith(("'", "‘", "’"))):
        return 0, ""
    return match.end(), match[1] + ("" if new.endswith(("s", "S")) else match[2] or "s")
