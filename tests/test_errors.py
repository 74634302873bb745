import pytest

from modalrec import errors
from modalrec.errors import ConfigError, DataError, ModalrecError, Problems


def test_exit_codes_tell_errors_apart() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, ModalrecError)]
    codes = [kind.exit_code for kind in kinds]
    assert len(kinds) >= 6
    assert len(set(codes)) == len(codes)
    assert all(0 < code < 64 for code in codes), "0 is success, shells use numbers above 125"


def test_problems_come_in_one_error() -> None:
    problems = Problems("ratings.csv")
    problems.raise_if_any("Mend it.")
    problems.add("line 7", "rating 'five' is not a number")
    with pytest.raises(DataError) as error:
        problems.raise_if_any("Mend it.")
    assert str(error.value) == "ratings.csv: line 7: rating 'five' is not a number. Mend it."
    problems.extend(["line 8", "line 9"], "no user")
    with pytest.raises(DataError) as error:
        problems.raise_if_any("Mend it.")
    assert str(error.value).splitlines() == [
        "ratings.csv: ",
        "  line 7: rating 'five' is not a number",
        "  line 8: no user",
        "  line 9: no user",
        "Mend it.",
    ]


def test_a_million_problems_are_counted_and_the_first_shown() -> None:
    problems = Problems("x", ConfigError)
    problems.extend((f"line {n}" for n in range(1_000_000)), "bad")
    assert len(problems) == 1_000_000
    with pytest.raises(ConfigError) as error:
        problems.raise_if_any("Mend it.")
    assert len(str(error.value).splitlines()) == Problems.shown + 3
    assert "... and 999980 more" in str(error.value)
