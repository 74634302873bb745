"""Charts are well-formed for any numbers."""

import xml.etree.ElementTree as ET

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modalrec.evaluation.report.charts import Series, bar_strip, line_chart, nice_ticks


@given(low=st.floats(-1e6, 1e6), width=st.floats(1e-2, 1e9))
def test_ticks_span_the_values(low: float, width: float) -> None:
    ticks = nice_ticks(low, low + width)
    slack = 1e-9 * max(abs(low), width)
    assert ticks[0] <= low + slack
    assert ticks[-1] >= low + width - slack
    assert 3 <= len(ticks) <= 12


@pytest.mark.parametrize("values", [[0.5], [0.5, 0.5], [1e-9, 2e-9], [-3.0, 1e6, 0.0], [0, 0], [3e9, 3e9 + 1e-6]])
def test_lines_stay_inside(values: list[float]) -> None:
    epochs = list(range(1, len(values) + 1))
    svg = ET.fromstring(line_chart([Series("a & b", epochs, values)], 'the "loss" <of> it', mark=1))  # noqa: S314
    (path,) = [part for part in svg.iter("path") if "line-0" in part.attrib["class"]]
    places = [float(number) for point in path.attrib["d"][1:].split("L") for number in point.split()]
    assert all(0 <= place <= 320 for place in places)
    assert f"{values[0]:.4g}" in [text.text for text in svg.iter("text")]


def test_strip_shows_every_used_code_and_every_hole() -> None:
    svg = ET.fromstring(bar_strip(np.array([3, 0, 1, 0, 2]), "codes"))  # noqa: S314
    bars, holes = (part.attrib["d"].count("Z") for part in svg.iter("path"))
    assert (bars, holes) == (3, 2)


def test_strip_of_a_large_codebook_is_binned() -> None:
    svg = ET.fromstring(bar_strip(np.ones(5000, np.int64), "codes"))  # noqa: S314
    assert next(svg.iter("path")).attrib["d"].count("Z") == 256
