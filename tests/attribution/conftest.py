"""Laws are tried on the same examples every time, on one thread: toys are too small to share."""

from collections.abc import Iterator

import pytest
import torch
from hypothesis import settings

settings.register_profile("laws", deadline=None, derandomize=True, max_examples=40)
settings.load_profile("laws")


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
