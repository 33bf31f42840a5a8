"""Frequency ratios against a table worked by hand, in fractions."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thawslump.errors import DataError
from trainer.susceptibility import analysis

# Cells and slump cells of six slope classes, as such tables are printed; the ratios worked by
# hand: 100 * 312 / 4030 over 100 * 265_120 / 1_204_330, and so on.
SLOPE = (
    (1, 265_120, 312, 0.3517),
    (2, 402_450, 1_020, 0.7574),
    (3, 301_760, 1_466, 1.4518),
    (4, 160_200, 905, 1.6882),
    (5, 58_800, 298, 1.5145),
    (6, 16_000, 29, 0.5416),
)


def test_ratios_of_a_table_worked_by_hand() -> None:
    codes = np.concatenate([np.full(cells, code) for code, cells, _, _ in SLOPE])
    slumps = np.concatenate([np.arange(cells) < hit for _, cells, hit, _ in SLOPE])
    order = np.random.default_rng(0).permutation(codes.size)
    found = analysis.frequency_ratio(codes[order], slumps[order])
    assert found.codes == (1, 2, 3, 4, 5, 6)
    assert found.cells.tolist() == [cells for _, cells, _, _ in SLOPE]
    assert found.slumps.tolist() == [hit for _, _, hit, _ in SLOPE]
    np.testing.assert_allclose(found.ratio, [ratio for *_, ratio in SLOPE], atol=1e-3)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(-2, 4), st.booleans()), min_size=1, max_size=60))
def test_ratios_are_shares_of_slumps_over_shares_of_cells(pairs: list[tuple[int, bool]]) -> None:
    codes, slumps = (list(column) for column in zip(*pairs, strict=True))
    if not any(slumps):
        with pytest.raises(DataError, match=f"None of the {len(slumps)} cells lies in a slump"):
            analysis.frequency_ratio(codes, slumps)
        return
    found = analysis.frequency_ratio(codes, slumps)
    assert found.codes == tuple(sorted(set(codes)))
    for code, ratio in zip(found.codes, found.ratio, strict=True):
        hit = Fraction(sum(s for c, s in pairs if c == code), sum(slumps))
        assert ratio == pytest.approx(float(hit / Fraction(codes.count(code), len(codes))))
    # Weighted by the shares of cells they average to one.
    assert (found.ratio * found.cells).sum() / len(codes) == pytest.approx(1)


def test_arrays_that_do_not_fit_are_refused() -> None:
    with pytest.raises(DataError, match="3 codes for 2 cells"):
        analysis.frequency_ratio([1, 2, 3], [True, False])
    with pytest.raises(DataError, match="0 codes for 0 cells"):
        analysis.frequency_ratio([], [])
    with pytest.raises(DataError, match="no finite value"):
        analysis.natural_breaks([np.nan], 3)
