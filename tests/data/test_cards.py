import numpy as np
import pytest

from modalrec.data.cards import HEIGHT, MARGIN, WIDTH, draw_card

TITLES = [
    "M",
    "The Englishman Who Went Up a Hill, But Came Down a Mountain",
    "Supercalifragilisticexpialidocious" * 3,
    "word " * 200,
    "\u6b21\u90ce",
    "",
    None,
]


def pixels(*words) -> np.ndarray:
    return np.asarray(draw_card(*words), np.int16)


@pytest.mark.parametrize("title", TITLES)
def test_text_stays_on_the_card(title):
    genres = ["Documentary", "Film-Noir", "A very long category that cannot fit"]
    card = pixels(title, 1963, genres)
    assert card.shape == (HEIGHT, WIDTH, 3)
    # Text is white or nearly so; no background is.
    ink = (card > 200).all(axis=2)
    assert ink.any()
    room = np.zeros_like(ink)
    room[MARGIN // 2 : HEIGHT - MARGIN // 2, MARGIN - 2 : WIDTH - MARGIN + 2] = True
    assert not (ink & ~room).any()


def test_the_same_words_give_the_same_card_and_other_words_another():
    card = pixels("Psycho", 1960, ["Horror"])
    assert (card == pixels("Psycho", 1960, ["Horror"])).all()
    others = [("Fargo", 1960, ["Horror"]), ("Psycho", 1998, ["Horror"]), ("Psycho", 1960, ["Comedy"])]
    assert all((card != pixels(*other)).any() for other in others)


def test_the_first_category_gives_the_colour():
    def mean_colour(title: str, genre: str) -> np.ndarray:
        return pixels(title, None, [genre]).mean(axis=(0, 1))

    red, blue = mean_colour("One", "Horror"), mean_colour("Two", "Crime")
    assert red[0] > red[2] + 30
    assert blue[2] > blue[0] + 30


def test_accents_are_dropped_not_boxed():
    assert (pixels("Leon", 1994, ["Crime"])[180:] == pixels("L\u00e9on", 1994, ["Crime"])[180:]).mean() > 0.5
    # The built-in font draws letters that it lacks as boxes; both titles must show the same letters.
    bright = [(pixels(title, None, ["Crime"])[:60] > 230).sum() for title in ("Leon", "L\u00e9on")]
    assert bright[0] == pytest.approx(bright[1], rel=0.05)
