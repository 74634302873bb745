"""The capacity page is arithmetic on measured costs; the costs themselves are measured by `make bench`."""

import pytest

from tests.benchmarks.capacity import INTERACTIONS, ITEMS, Costs, costs_of, needs, number, page
from tests.manifests.rendering import MANIFESTS

TIMES = {"event": 1e-5, "text": 1e-2, "picture": 2e-2, "fused": 1e-4, "learnt": 1e-4, "trained": 1e-5, "ranked": 1e-6}
COSTS = Costs(**TIMES, flops=30e9, process=1e9, fuse_bytes=100.0, quantize_bytes=4e3)


def test_needs_follow_from_costs() -> None:
    found = needs(COSTS, 10**8, 10**7)
    assert found["embed_text"].core_hours == pytest.approx(10**7 * 1e-2 / 3600)
    assert found["embed_text"].gpu_hours == pytest.approx(found["embed_text"].core_hours / 1000)
    assert found["ingest"].gpu_hours is None
    assert found["quantize"].memory == pytest.approx((1e9 + 10**7 * 4e3) / 2**30)
    larger = needs(COSTS, 10**9, 10**8)
    for stage, need in found.items():
        assert larger[stage].core_hours >= need.core_hours
        assert larger[stage].memory > need.memory


def test_the_page_has_every_size() -> None:
    text = page(COSTS)
    for interactions in INTERACTIONS:
        for items in ITEMS:
            assert f"**{number(interactions)} interactions, {number(items)} items**" in text
    assert text.count("| quantize |") == len(INTERACTIONS) * len(ITEMS)


def test_the_page_is_what_the_script_makes_of_its_costs() -> None:
    """Where this fails, put what `make bench ARGS=capacity` prints into the page."""
    text = (MANIFESTS / "CAPACITY.md").read_text()
    assert page(costs_of(text)) in text
    assert vars(costs_of(page(COSTS))) == pytest.approx(vars(COSTS))
