"""Text that is made to break Markdown, HTML or a terminal, and a parser to see whether it did."""

from hypothesis import strategies as st
from markdown_it import MarkdownIt

# What Markdown, HTML and terminals are made of, far more often than chance would bring it.
HOSTILE = st.lists(
    st.one_of(
        st.sampled_from(
            ["`", "``", "\\", "|", "<", ">", "&lt;", "*", "_", "[", "](x)", "![", "@", "#", "\n", "\r", " "]
        ),
        st.sampled_from(["<script>", "<!--", "-->", "</code>", "https://x.example", "<http://x.example>", "---", "$"]),
        st.sampled_from(
            ["\x1b[2J", "\x9b31m", "\x07", "\x00", "\u202e", "\u2066", "\u200b", "\u2028", "\u2029", "\ud800"]
        ),
        st.text(max_size=5),
    ),
    max_size=20,
).map("".join)
MARKDOWN = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
