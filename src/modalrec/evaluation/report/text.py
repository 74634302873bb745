"""Text from data, made fit to show; escaping is the template's."""

import unicodedata

LONGEST = 80


def clean(text: str | None, longest: int = LONGEST) -> str:
    """One line without control and direction characters, cut with an ellipsis.

    Example:
        >>> clean("A  film" + chr(0x202E) + chr(10) + "twice", 8)
        'A film t...'
    """
    kept = "".join(" " if unicodedata.category(char)[0] in "CZ" else char for char in (text or "")[: 4 * longest])
    line = " ".join(kept.split())
    return line if len(line) <= longest else line[:longest].rstrip() + "..."
