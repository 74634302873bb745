"""How many tokens texts have at most, about, and what they cost: known before anything is sent.

The tokenizers of these services are not at hand offline, so tokens are estimated from characters, on the high side: one
for three letters, but no fewer than words; for a number and for two digits of it; for every other sign; for 1.5 bytes
beyond ASCII.
English titles have four letters a token and more.
"""

import math
import re

PRICES = {"text-embedding-3-large": 0.13, "text-embedding-3-small": 0.02, "text-embedding-ada-002": 0.10}
"""US dollars per million tokens in 2025, in single requests; batches cost half."""
BATCH_DISCOUNT = 0.5

WORDS, NUMBERS, SIGNS = re.compile(r"[A-Za-z]+"), re.compile(r"[0-9]+"), re.compile(r"[^A-Za-z0-9 ]")


def estimated_tokens(text: str) -> int:
    """Tokens of a text, on the high side; at least 1.

    Example:
        >>> estimated_tokens("Red kettle"), estimated_tokens("")
        (3, 1)
    """
    beyond = len(text.encode("utf-8", "surrogatepass")) - len(text)  # bytes of a character, less one
    foreign = sum(character > "\x7f" for character in text) if beyond else 0
    words, numbers = WORDS.findall(text), NUMBERS.findall(text)
    ascii_tokens = max(len(words), sum(map(len, words)) / 3) + len(numbers) + sum(map(len, numbers)) / 2
    signs = len(SIGNS.findall(text)) - foreign
    return max(1, math.ceil(ascii_tokens + signs + (beyond + foreign) / 1.5))


def cut_to(text: str, tokens: int) -> str:
    """The longest beginning of a text that is estimated at no more than so many tokens."""
    if len(text) * 4 <= tokens or estimated_tokens(text) <= tokens:
        return text
    low, high = 1, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if estimated_tokens(text[:middle]) <= tokens else (low, middle - 1)
    return text[:low]
