"""Texts cut into sentences."""

import re

END = re.compile(r"(?<=\w\w[.!?])\s+(?=[^a-z\s])|\s*\n\s*")


def sentences(text: str, most: int) -> list[str]:
    """The first sentences of a text, at most so many, each once.

    A sentence ends in `.`, `!` or `?` behind two letters or digits (no initial) where something else than a small
    letter follows (no abbreviation), or with its line.

    Example:
        >>> sentences("Glue by J. Smith, 10.1 oz. bottle. Dries fast! Dries fast! Waterproof", 3)
        ['Glue by J. Smith, 10.1 oz. bottle.', 'Dries fast!', 'Waterproof']
    """
    found = dict.fromkeys(part.strip() for part in END.split(text))
    return [sentence for sentence in found if sentence][:most]
