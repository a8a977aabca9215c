"""Runs cover the segments once, and without a GPU rows come as they always do."""

import pytest
import torch

from tests.attribution.toy import LINEAR, probe, random_segments, toy
from worker.attribution.gradients import Request, gradients_each
from worker.attribution.projection import Identity
from worker.attribution.replay import _runs, rows_of


@pytest.mark.parametrize(("count", "most"), [(1, 8), (3, 8), (13, 8), (16, 8), (5, 1), (7, 3)])
def test_runs_are_powers_of_two_and_cover_all_segments_once(count: int, most: int) -> None:
    runs = list(_runs(count, most))
    assert [at for run in runs for at in range(run.start, run.stop)] == list(range(count))
    sizes = [run.stop - run.start for run in runs]
    assert sizes == sorted(sizes, reverse=True)
    assert all(size <= most and size & (size - 1) == 0 for size in sizes)


def test_without_a_gpu_nothing_is_recorded_and_nothing_changes() -> None:
    model, segments, one = toy(), random_segments(5), probe(draws=4, batch=8)
    asked, kept = (Request(one, LINEAR, Identity.of(model.params(LINEAR))),), {}
    heard: list[float] = []
    found = rows_of(model, segments, asked, 2, kept, heard.append)
    expected = gradients_each(model, segments, asked, 2)
    assert torch.equal(found.rows, expected.rows)
    assert torch.equal(found.profile, expected.profile)
    assert not kept
    assert heard[-1] == 1
