"""The spread of a metric over runs, by golden values and by the textbook's formula."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mammography.report.run_tables import spread

#: t(0.975, n - 1), from printed tables.
STUDENT = {2: 12.7062, 3: 4.3027, 4: 3.1824, 5: 2.7764, 10: 2.2622}


def test_the_published_seeds() -> None:
    numbers = spread([0.676, 0.733, 0.679])
    assert numbers["mean"] == pytest.approx(0.696)
    assert numbers["std"] == pytest.approx(0.032078, abs=1e-6)  # n - 1; the page prints n: 0.026
    assert numbers["ci95_low"] == pytest.approx(0.616313, abs=1e-5)
    assert numbers["ci95_high"] == pytest.approx(0.775687, abs=1e-5)
    assert (numbers["n"], numbers["min"], numbers["max"]) == (3, 0.676, 0.733)


@pytest.mark.parametrize("n", STUDENT)
def test_the_interval_is_students(n: int) -> None:
    values = [math.sin(number) for number in range(n)]
    numbers = spread(values)
    mean, half = statistics.fmean(values), STUDENT[n] * statistics.stdev(values) / math.sqrt(n)
    assert numbers["ci95_low"] == pytest.approx(mean - half, rel=1e-4)
    assert numbers["ci95_high"] == pytest.approx(mean + half, rel=1e-4)


def test_one_run_has_no_spread() -> None:
    nothing = dict.fromkeys(("std", "ci95_low", "ci95_high"))
    assert spread([0.5]) == {"n": 1, "mean": 0.5, "min": 0.5, "max": 0.5, **nothing}
    assert spread([None, 0.5]) == spread([0.5])
    assert set(spread([None]).values()) == {0, None}


@given(st.lists(st.one_of(st.none(), st.floats(-1, 1)), min_size=1, max_size=8))
def test_undefined_runs_are_left_out(values: Sequence[float | None]) -> None:
    known = [value for value in values if value is not None]
    numbers = spread(values)
    assert numbers == spread(known)
    assert numbers["n"] == len(known)
    if known:
        assert numbers["min"] - 1e-12 <= numbers["mean"] <= numbers["max"] + 1e-12
