"""Plain text of descriptions that shops wrote as HTML."""

import html
from html.parser import HTMLParser

LIMIT = 100_000
"""Characters that are looked at: the parser may take the square of them in odd texts, and no encoder reads more."""
SILENT = ("script", "style", "noscript", "template")
INLINE = """
a abbr acronym b bdi bdo big cite code del dfn em font i ins kbd mark q s samp small span strike strong sub sup tt u var
wbr
"""
BLOCKS = """
address article aside blockquote body br button caption center col colgroup dd details dir div dl dt fieldset figcaption
figure footer form frame frameset h1 h2 h3 h4 h5 h6 head header hr html iframe img input label legend li link main map
menu meta nav object ol optgroup option p param pre section select source summary table tbody td textarea tfoot th thead
title tr track ul video
"""
SPACE = dict.fromkeys(INLINE.split(), "") | dict.fromkeys([*BLOCKS.split(), *SILENT], " ")
"""What stands for a tag."""


def plain_text(text: str) -> str:
    """The text that a browser would show: no tags, scripts and styles, entities resolved, blanks joined.

    What only looks like a tag stays: descriptions hold `a <b and c` and `<5 mm>`.

    Example:
        >>> plain_text("<b>Drill</b> &amp;amp; bits<br>for holes <5 mm<script>track()</script>")
        'Drill & bits for holes <5 mm'
    """
    text = text[:LIMIT]
    for _ in range(2):  # the releases were escaped once more on their way: `&amp;#39;`, `&lt;br&gt;`
        text = _read(text) if "<" in text else html.unescape(text)
    return " ".join(_whole(text).split())


def _read(text: str) -> str:
    reader = _Reader()
    reader.feed(text)
    # What is left open at the end is text, not a tag: an unclosed `<` would swallow the rest.
    return "".join(reader.parts) + ("" if reader.silent else html.unescape(reader.rawdata))


def _whole(text: str) -> str:
    """Joins surrogate pairs, which escapes can give, and replaces single halves: UTF-8 has neither."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


class _Reader(HTMLParser):
    """Collects what is shown."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self.silent = ""

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if self.silent:
            return
        if tag in SILENT:
            self.silent = tag
        self.parts.append(SPACE[tag] if tag in SPACE else self.get_starttag_text() or "")

    def handle_startendtag(self, tag: str, attrs: object) -> None:
        if tag not in SILENT:
            self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        if tag == self.silent:
            self.silent = ""
        self.parts.append(SPACE.get(tag, ""))

    def handle_data(self, data: str) -> None:
        if not self.silent:
            self.parts.append(data)
