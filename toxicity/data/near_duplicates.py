"""Comments that are nearly the same: they differ in upper and lower case, spaces, digits and signs alone.

That finds what is copied and pasted, and takes seconds for a million comments, with nothing beside their texts in
memory. Sketches of their parts (MinHash) would also find comments with a few other words, of which a label may well
differ.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


def groups_of_texts(texts: pa.ChunkedArray) -> np.ndarray:
    """Number the groups of texts that are nearly the same, int64 `(rows,)`, from 0.

    Compared are the letters, with their marks, in lower case and in Unicode's compatible form; other characters only
    part words. A text without any letter is nearly the same as itself alone.

    Args:
        texts: strings, none of them null.
    """
    keys = pa.chunked_array([_letters(chunk) for chunk in texts.chunks], texts.type)
    return keys.combine_chunks().dictionary_encode().indices.to_numpy().astype(np.int64)


def _letters(texts: pa.Array) -> pa.Array:
    lower = pc.utf8_lower(pc.utf8_normalize(texts, form="NFKC"))
    words = pc.utf8_trim(pc.replace_substring_regex(lower, r"[^\pL\pM]+", " "), " ")
    return pc.if_else(pc.equal(words, ""), texts, words)
