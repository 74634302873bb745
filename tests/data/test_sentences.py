import pytest

from modalrec.data.sentences import sentences


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("One is here. Two is there! Is three? Yes.", ["One is here.", "Two is there!", "Is three?", "Yes."]),
        ("Holds 10.1 oz. per tube. Made by J. R. Smith.", ["Holds 10.1 oz. per tube.", "Made by J. R. Smith."]),
        ("First line\n\n second line ", ["First line", "second line"]),
        ("Again. Again. Other.", ["Again.", "Other."]),
        ("no end", ["no end"]),
        ("  \n ", []),
    ],
)
def test_sentences(text: str, found: list[str]) -> None:
    assert sentences(text, 10) == found


def test_at_most_so_many() -> None:
    assert sentences("One 1a. Two 2a. Three 3a.", 2) == ["One 1a.", "Two 2a."]
