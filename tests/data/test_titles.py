import pytest

from modalrec.data.titles import article_first, compose_text, split_year


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("Toy Story (1995)", ("Toy Story", 1995)),
        ("96 Minutes (2011) ", ("96 Minutes", 2011)),
        ("Assembly (Ji jie hao) (2007)", ("Assembly (Ji jie hao)", 2007)),
        ("Death Note: Desu n\u00f4to (2006\u20132007)", ("Death Note: Desu n\u00f4to", 2006)),
        ("Fawlty Towers (1975-1979)", ("Fawlty Towers", 1975)),
        ("Babylon 5", ("Babylon 5", None)),
        ("2001: A Space Odyssey (1968)", ("2001: A Space Odyssey", 1968)),
        ("", ("", None)),
    ],
)
def test_the_year_is_taken_off(raw, expected):
    assert split_year(raw) == expected


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("Matrix, The", "The Matrix"),
        ("Mis\u00e9rables, Les", "Les Mis\u00e9rables"),
        ("Avventura, L'", "L'Avventura"),
        ("City of Lost Children, The (Cit\u00e9, La)", "The City of Lost Children (La Cit\u00e9)"),
        ("Good, the Bad and the Ugly, The", "The Good, the Bad and the Ugly"),
        ("Me, Myself & Irene", "Me, Myself & Irene"),
        ("Toy Story", "Toy Story"),
        ("I, Robot", "I, Robot"),
    ],
)
def test_articles_come_first(raw, expected):
    assert article_first(raw) == expected


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        (
            ("Toy Story", 1995, ["Animation", "Comedy"], "A cowboy\n doll."),
            "Toy Story (1995). Animation, Comedy. A cowboy doll.",
        ),
        (("What?", None, [], None), "What?"),
        ((None, None, ["Tools"], " . "), "Tools."),
        ((None, None, [], "."), None),
        ((None, None, [], None), None),
    ],
)
def test_a_text_has_what_there_is(parts, expected):
    assert compose_text(*parts) == expected
