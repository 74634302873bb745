"""Where requests go, and the key that they need: from the environment alone, never from a setting."""

import os
from urllib.parse import urlsplit

KEY = "OPENAI_API_KEY"
HOST = "api.openai.com"


def host_of(base_url: str) -> str:
    """Name and port of a server."""
    return urlsplit(base_url).netloc


def key() -> str:
    """The key, without the line's end that secrets often have; empty where there is none."""
    return os.environ.get(KEY, "").strip()


def missing_key(base_url: str) -> str:
    """Why requests cannot be sent: the key that OpenAI asks for is not set; empty for servers of one's own."""
    if not (key().isascii() and key().isprintable()) or " " in key():
        return f"{KEY} holds characters that no key has"
    return "" if key() or host_of(base_url) != HOST else f"{KEY} is not set"


def checked_url(base_url: str) -> str:
    """A server's address that may stand in a manifest.

    Raises:
        ValueError: It is no http address, or holds a password or a query.
    """
    parts = urlsplit(base_url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("is no address such as https://embeddings.example.org/v1")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError(f"holds more than host and path, and is written down with the vectors; a key goes into {KEY}")
    return base_url.rstrip("/")
