"""Scans and sums: the kernels against whole numbers and float64."""

import pytest
import torch
from torch import Tensor

from tests.kernels import DEVICE, random
from worker import onepass
from worker.attribution.influence import RowScale, by_song
from worker.scan import Scan, Split
from worker.shards import Bytes, unpacked

DIM, MEASURES = 256, 2


def kept(rows: int, bits: int) -> tuple[Tensor, Tensor]:
    """Codes [m, n, bytes] and factors [n, m] of random rows."""
    scan = Scan.of(Bytes.of(random(rows, MEASURES, DIM).cpu(), bits), RowScale.UNIT, torch.device("cpu"))
    return scan.codes.contiguous().to(DEVICE), scan.factor.to(DEVICE)


def vectors(queries: int) -> onepass.Halves:
    return Split.of(random(queries, MEASURES, DIM, seed=1)).halves


def exact(codes: Tensor, factor: Tensor, halves: onepass.Halves) -> Tensor:
    """The scores [q, n] of whole products, in float64."""
    numbers = unpacked(codes).double()
    high, low = (torch.einsum("mnk,qmk->qmn", numbers, x.double()) for x in (halves.high, halves.low))
    return ((high * halves.coarse + low * halves.fine) * factor.mT.double()).sum(1)


def scanned(codes: Tensor, factor: Tensor, halves: onepass.Halves) -> Tensor:
    into = torch.full((len(halves.high), codes.shape[1]), torch.nan, device=DEVICE)
    onepass.scanned(codes, factor, halves, into)
    return into


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("queries", [1, 16, 17, 65])
@pytest.mark.parametrize("rows", [1, 128, 300])
def test_every_score_is_that_of_whole_products(rows: int, queries: int, bits: int) -> None:
    codes, factor = kept(rows, bits)
    halves = vectors(queries)
    torch.testing.assert_close(
        scanned(codes, factor, halves).double(), exact(codes, factor, halves), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("bits", [8, 4])
def test_a_score_has_the_same_bits_whatever_is_scanned_beside_it(bits: int) -> None:
    codes, factor = kept(300, bits)
    halves = vectors(20)
    whole = scanned(codes, factor, halves)
    part = slice(70, 211)
    assert torch.equal(scanned(codes[:, part].contiguous(), factor[part], halves), whole[:, part])
    one = onepass.Halves(*(x[3:4] for x in (halves.high, halves.low, halves.coarse, halves.fine)))
    assert torch.equal(scanned(codes, factor, one), whole[3:4])


@pytest.mark.parametrize("bits", [8, 4])
def test_a_piece_is_written_into_its_place_alone(bits: int) -> None:
    codes, factor = kept(150, bits)
    halves = vectors(2)
    into = torch.full((2, 400), 7.0, device=DEVICE)
    onepass.scanned(codes, factor, halves, into[:, 200:350])
    assert torch.equal(into[:, 200:350], scanned(codes, factor, halves))
    assert (into[:, :200] == 7).all()
    assert (into[:, 350:] == 7).all()


def test_extreme_codes_do_not_overflow() -> None:
    codes = torch.full((1, 128, 2048), -127, dtype=torch.int8, device=DEVICE)
    factor = torch.ones(128, 1, device=DEVICE)
    halves = Split.of(torch.full((1, 1, 2048), 3.0, device=DEVICE)).halves
    torch.testing.assert_close(scanned(codes, factor, halves), torch.full((1, 128), -127 * 3.0 * 2048, device=DEVICE))


def test_songs_sums_are_those_of_their_segments_in_order() -> None:
    counts = torch.tensor([1, 7, 0, 12, 3] * 60)
    song = torch.repeat_interleave(torch.arange(len(counts)), counts)
    scores, weight = random(3, len(song)), random(len(song), seed=1).abs().double()
    bounds = torch.nn.functional.pad(counts.cumsum(0), (1, 0))
    found = onepass.sums(scores, weight, bounds.to(DEVICE), 12)
    expected = by_song(scores.cpu(), song, weight.cpu(), len(counts))
    torch.testing.assert_close(found.cpu(), expected, rtol=1e-12, atol=1e-12)
