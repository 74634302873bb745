"""Text from data, made fit to show; escaping is the template's."""

import unicodedata

LONGEST = 80
CONTROL = {*range(0x20), *range(0x7F, 0xA0)} - {ord("\n"), ord("\t")}
DIRECTION = {0x61C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)}
HARMFUL = dict.fromkeys(CONTROL | DIRECTION)


def clean(text: str | None, longest: int = LONGEST) -> str:
    """One line without control and direction characters, cut with an ellipsis.

    Example:
        >>> clean("A  film" + chr(0x202E) + chr(10) + "twice", 8)
        'A film t...'
    """
    kept = "".join(" " if unicodedata.category(char)[0] in "CZ" else char for char in (text or "")[: 4 * longest])
    line = " ".join(kept.split())
    return line if len(line) <= longest else line[:longest].rstrip() + "..."


def harmless(page: str) -> str:
    """A whole page without control characters and those that turn the direction of what follows them.

    Example:
        >>> harmless("red" + chr(0x202E) + chr(27) + " kettle")
        'red kettle'
    """
    return page.translate(HARMFUL)
