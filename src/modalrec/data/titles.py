"""Titles and texts of items, as people and text encoders read them."""

import re
from collections.abc import Iterable, Sequence

ARTICLES = "The|A|An|L'|La|Le|Les|El|Los|Las|Il|Lo|I|Gli|Un|Una|Une|Der|Die|Das|Den|Det|De|Het|O|Os|As"
YEAR = re.compile(r"\((\d{4})(?:\s*[-\u2013]\s*(?:\d{4})?)?\)$")
ARTICLE_LAST = re.compile(rf"(^|\()([^()]+), ({ARTICLES})(?=\s*(?:\(|\)|$))")


def split_year(raw: str) -> tuple[str, int | None]:
    """Takes the year off a film's title.

    Example:
        >>> split_year("Matrix, The (1999)")
        ('Matrix, The', 1999)
    """
    raw = raw.strip()
    found = YEAR.match(raw, max(0, raw.rfind("(")))
    return (raw[: found.start()].rstrip(), int(found[1])) if found else (raw, None)


def article_first(title: str) -> str:
    """Puts an article that sorting moved to the end back in front, also in a title in brackets.

    Example:
        >>> article_first("City of Lost Children, The (Cit\u00e9 des enfants perdus, La)")
        'The City of Lost Children (La Cit\u00e9 des enfants perdus)'
    """
    return ARTICLE_LAST.sub(_article_first, title) if ", " in title else title


def compose_text(title: str | None, year: int | None, categories: Sequence[str], *bodies: str | None) -> str | None:
    """What text encoders read: title, year, categories and descriptions; None where all are missing.

    Example:
        >>> compose_text("Toy Story", 1995, ["Animation", "Comedy"], None)
        'Toy Story (1995). Animation, Comedy.'
    """
    head = title or ""
    if year is not None:
        head = f"{head} ({year})".strip()
    return join_sentences([head, ", ".join(categories), *(body or "" for body in bodies)])


def join_sentences(parts: Iterable[str]) -> str | None:
    """The parts as sentences; those without a letter or digit are left out, None where all are.

    Example:
        >>> join_sentences(["Drill", "", "Works & lasts!"])
        'Drill. Works & lasts!'
    """
    return " ".join(_sentence(part) for part in parts if has_letters(part)) or None


def has_letters(text: str) -> bool:
    """Whether a text says anything: it has a letter or a digit."""
    return text.isalnum() or any(map(str.isalnum, text))


def _article_first(found: re.Match[str]) -> str:
    opening, title, article = found.groups()
    return f"{opening}{article}{'' if article.endswith(chr(39)) else ' '}{title}"


def _sentence(text: str) -> str:
    text = " ".join(text.split())
    return text if text.endswith((".", "!", "?")) else f"{text}."
