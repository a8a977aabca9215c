"""A scan gives the scores that the rows say, however they are multiplied, wherever they lie and how many ask."""

import pytest
import torch
from torch import Tensor

from worker import scan
from worker.attribution.influence import RowScale, first_order, rank, scale_rows
from worker.scan import Scan, Split, best
from worker.shards import Bytes

CPU = torch.device("cpu")


def rows(count: int = 300, measures: int = 2, dim: int = 64, seed: int = 0, bits: int = 8) -> Bytes:
    made = torch.randn(count, measures, dim, generator=torch.Generator().manual_seed(seed))
    made[7, 1] = 0
    return Bytes.of(made, bits)


def queries(count: int, like: Bytes, seed: int = 1) -> Tensor:
    return torch.randn(count, *like.floats(slice(1)).shape[1:], generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("scale", RowScale)
def test_scores_are_the_products_with_the_scaled_rows(scale: RowScale, bits: int):
    kept = rows(bits=bits)
    solved = queries(3, kept)
    expected = first_order(scale_rows(kept.floats(), scale).flatten(1), solved.flatten(1))
    torch.testing.assert_close(Scan.of(kept, scale, CPU).scores(solved), expected, rtol=1e-5, atol=1e-5)


def test_pieces_make_no_difference(monkeypatch: pytest.MonkeyPatch):
    kept = rows()
    solved = queries(2, kept)
    whole = Scan.of(kept, RowScale.UNIT, CPU).scores(solved)
    monkeypatch.setattr(scan, "_PIECE", 37)
    torch.testing.assert_close(Scan.of(kept, RowScale.UNIT, CPU).scores(solved), whole, rtol=0, atol=1e-6)


def test_queries_in_one_scan_do_not_meet():
    kept = rows()
    scanned, solved = Scan.of(kept, RowScale.UNIT, CPU), queries(5, kept)
    together = scanned.scores(solved)
    for number, one in enumerate(solved):
        torch.testing.assert_close(scanned.scores(one[None])[0], together[number], rtol=0, atol=1e-6)


@pytest.mark.parametrize("bits", [8, 4])
def test_whole_numbers_give_the_scores_to_a_ten_thousandth_of_the_largest(monkeypatch: pytest.MonkeyPatch, bits: int):
    kept = rows(dim=256, bits=bits)
    solved = queries(3, kept) * torch.tensor([1.0, 1e-6, 1e6])[:, None, None]
    exact = Scan.of(kept, RowScale.UNIT, CPU).scores(solved)
    monkeypatch.setattr(Scan, "_integers", lambda self, dim: True)
    found = Scan.of(kept, RowScale.UNIT, CPU).scores(solved)
    assert not torch.equal(found, exact)
    assert ((found - exact).abs().amax(1) / exact.abs().amax(1)).max() < 1e-4
    assert [rank(a)[:20].tolist() for a in found] == [rank(a)[:20].tolist() for a in exact]


def test_a_split_vector_is_nearly_the_vector():
    vectors = queries(4, rows(dim=256))
    vectors[0, 0] = 0
    split = Split.of(vectors)
    back = split.high * split.coarse + split.low * split.fine
    assert (back - vectors).abs().max() <= vectors.abs().max() / 64516 * 1.01
    assert split.high.dtype == split.low.dtype == torch.int8


@pytest.mark.parametrize("most", [1, 3, 5, 40, 1000])
def test_the_best_are_the_beginning_of_the_order(most: int):
    scores = torch.randint(0, 9, (200,), generator=torch.Generator().manual_seed(3)).double()
    assert best(scores, most).tolist() == rank(scores)[:most].tolist()
