"""Drawn cards: stand-ins for items without a picture, made from title, year and categories.

A card is the same for the same words on every machine with the same Pillow: its colours come from the first category,
its pattern from a digest of the title.
"""

import colorsys
import functools
import hashlib
import unicodedata
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

WIDTH, HEIGHT = 160, 240
MARGIN = 12
TITLE_SIZES = (27, 24, 21, 18, 16, 14, 12)
TITLE_LINES = 6
LONGEST = 400
"""Letters of a text that are looked at; no card has room for more, and fitting a line takes a step per letter."""
SCALE = 2
"""Cards are drawn larger and reduced, which smooths edges."""

HUES = {
    "action": 0.02,
    "adventure": 0.09,
    "animation": 0.13,
    "children": 0.15,
    "children's": 0.15,
    "comedy": 0.11,
    "crime": 0.62,
    "documentary": 0.42,
    "drama": 0.58,
    "fantasy": 0.76,
    "film-noir": 0.66,
    "horror": 0.99,
    "musical": 0.88,
    "mystery": 0.70,
    "romance": 0.94,
    "sci-fi": 0.52,
    "thriller": 0.48,
    "war": 0.23,
    "western": 0.07,
}
"""Colours of film genres, on the circle from 0 to 1; other categories get one by their digest."""


def draw_card(title: str | None, year: int | None, categories: Sequence[str]) -> Image.Image:
    """Draws a card of 160 by 240 pixels, RGB."""
    digest = hashlib.sha256((title or "").encode()).digest()
    hue = _hue(categories[0]) if categories else digest[0] / 256
    card = _background(hue, digest)
    draw = ImageDraw.Draw(card)
    bottom = _footer(draw, year, categories, hue)
    _title(draw, _plain(title or "Untitled"), bottom)
    return card.reduce(SCALE)


def _background(hue: float, digest: bytes) -> Image.Image:
    width, height = WIDTH * SCALE, HEIGHT * SCALE
    top, low = np.array(_rgb(hue, 0.62, 0.62)), np.array(_rgb(hue + 0.06, 0.72, 0.24))
    ramp = np.linspace(0, 1, height)[:, None, None]
    column = Image.fromarray((top * (1 - ramp) + low * ramp).astype(np.uint8))
    card = column.resize((width, height), Image.Resampling.NEAREST)
    layer = Image.new("RGBA", card.size, (0, 0, 0, 0))
    draw = ImageDraw.Draw(layer)
    light = (*_rgb(hue + 0.04, 0.35, 1.0), 38)
    x, y = (digest[1] / 255) * width, (0.15 + 0.3 * digest[2] / 255) * height
    kind = digest[3] % 3
    for ring in range(5):
        radius = (0.16 + 0.17 * ring) * width
        if kind == 0:
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), outline=light, width=5 * SCALE)
        elif kind == 1:
            shift = (ring - 1) * width * 0.3 + (digest[4] / 255) * width * 0.3
            draw.polygon(
                [(shift, 0), (shift + 0.12 * width, 0), (shift - 0.3 * width, height), (shift - 0.42 * width, height)],
                light,
            )
        else:
            draw.rectangle((x - radius, y - radius, x + radius, y + radius), outline=light, width=5 * SCALE)
    card.paste(layer, mask=layer)
    return card


def _footer(draw: ImageDraw.ImageDraw, year: int | None, categories: Sequence[str], hue: float) -> float:
    """Writes year and categories at the bottom; returns where they begin."""
    accent = _rgb(hue + 0.05, 0.30, 1.0)
    left, y = MARGIN * SCALE, (HEIGHT - MARGIN) * SCALE
    small, large = _font(11), _font(17)
    if categories:
        words = _fit(draw, _plain(", ".join(categories[:3])), small)
        draw.text((left, y), words, font=small, fill=(235, 235, 235), anchor="ls")
        y -= 18 * SCALE
    if year is not None:
        draw.text((left, y), str(year), font=large, fill=accent, anchor="ls")
        y -= 22 * SCALE
    draw.line((left, y, left + 28 * SCALE, y), fill=accent, width=3 * SCALE)
    return y


def _title(draw: ImageDraw.ImageDraw, title: str, bottom: float) -> None:
    top = MARGIN * 1.5 * SCALE
    for size in TITLE_SIZES:
        font = _font(size)
        lines = _wrap(draw, title, font)
        step = size * 1.18 * SCALE
        fits = all(draw.textlength(line, font) <= _room() for line in lines)
        if fits and len(lines) <= TITLE_LINES and top + step * len(lines) < bottom - MARGIN * SCALE:
            break
    else:
        shown = max(1, int((bottom - MARGIN * SCALE - top) / step))
        lines = [*lines[: shown - 1], " ".join(lines[shown - 1 :])]
        lines = [_fit(draw, line, font) for line in lines]
    for number, line in enumerate(lines):
        place = (MARGIN * SCALE, top + step * number)
        draw.text((place[0] + SCALE, place[1] + SCALE), line, font=font, fill=(0, 0, 0), anchor="la")
        draw.text(place, line, font=font, fill=(255, 255, 255), anchor="la")


def _wrap(draw: ImageDraw.ImageDraw, text: str, font: ImageFont.FreeTypeFont) -> list[str]:
    lines: list[str] = []
    for word in text.split():
        if lines and draw.textlength(f"{lines[-1]} {word}", font) <= _room():
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def _fit(draw: ImageDraw.ImageDraw, text: str, font: ImageFont.FreeTypeFont) -> str:
    """Shortens a line to the card's width."""
    if draw.textlength(text, font) <= _room():
        return text
    while text and draw.textlength(f"{text}...", font) > _room():
        text = text[:-1]
    return f"{text.rstrip(' ,')}..."


def _plain(text: str) -> str:
    """The text in the letters that Pillow's built-in font has: ASCII, accents dropped."""
    letters = unicodedata.normalize("NFKD", text[:LONGEST]).encode("ascii", "ignore").decode()
    return " ".join(letters.split()) or "?"


def _room() -> int:
    return (WIDTH - 2 * MARGIN) * SCALE


@functools.cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size * SCALE)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise RuntimeError("Pillow was built without FreeType; install its wheel from the package index")
    return font


def _hue(category: str) -> float:
    known = HUES.get(category.lower())
    return hashlib.sha256(category.encode()).digest()[0] / 256 if known is None else known


def _rgb(hue: float, saturation: float, value: float) -> tuple[int, int, int]:
    red, green, blue = colorsys.hsv_to_rgb(hue % 1, saturation, value)
    return int(red * 255), int(green * 255), int(blue * 255)
