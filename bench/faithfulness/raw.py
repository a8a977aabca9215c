"""What the scoring and retraining runs left, folder by folder: where a file is there twice, the later folder counts."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file

from bench.faithfulness.gradients_gram import Grams, Kernel

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

SECONDS = "seconds"


@dataclass(frozen=True)
class Raw:
    """Folders of raw answers, and single files, in the order in which they were made; q queries were asked."""

    places: tuple[Path, ...]
    queries: int

    def all(self, pattern: str) -> list[Path]:
        """Return every file whose name fits, the earliest first."""
        found: list[Path] = []
        for place in self.places:
            found += sorted(place.glob(pattern)) if place.is_dir() else [place] if place.match(pattern) else []
        return found

    def last(self, pattern: str) -> dict[str, Path]:
        """Return the latest file of every name that fits."""
        return {path.name: path for path in self.all(pattern)}

    @cached_property
    def grams(self) -> Grams:
        """All inner products, of whole and of projected rows."""
        return Grams.load(*self.last("gram-*.safetensors").values(), *self.last("projected-*.safetensors").values())

    @cached_property
    def kernels(self) -> dict[str, Kernel]:
        """The kernel of the mean over the bands, by the name of the Gram."""
        return {name: gram.kernel() for name, gram in self.grams.named.items()}

    @cached_property
    def scores(self) -> dict[str, Tensor]:
        """Every song score matrix [q, songs] of scores-*.safetensors."""
        return {
            name: matrix for path in self.last("scores-*.safetensors").values() for name, matrix in _read(path).items()
        }

    def answers(self, pattern: str) -> list[Answers]:
        """Return the answers of the methods that take a query at a time."""
        return [Answers.load(path, self.queries) for path in self.all(pattern)]

    def seconds(self, name: str) -> dict[str, float]:
        """Return what a job's parts took, from all files of that name, the latest run of every part."""
        found: dict[str, float] = {}
        for path in self.all(name):
            found |= json.loads(path.read_text())[SECONDS]
        return found


@dataclass(frozen=True)
class Answers:
    """One file of `resumable.answer_all`: values by name, [q, ...] with NaN where not asked, and its settings."""

    values: dict[str, Tensor]
    settings: dict[str, Any]

    @staticmethod
    def load(path: Path, queries: int) -> Answers:
        """Read a file; one of fewer queries than `queries` is of the first of them."""
        with safe_open(path, framework="pt") as file:
            settings = json.loads((file.metadata() or {}).get("settings", "{}"))
        return Answers({name: filled(value, queries) for name, value in load_file(path).items()}, settings)

    @property
    def steps(self) -> dict[float, Tensor]:
        """The changes of every segment by relative step length."""
        return {float(name.removeprefix("step ")): x for name, x in self.values.items() if name.startswith("step ")}

    @property
    def seconds(self) -> float:
        """The median of what an answer took."""
        return float(self.values[SECONDS].nanmedian())


def filled(values: Tensor, rows: int) -> Tensor:
    """Return values [r, ...] with rows of NaN behind them: [rows, ...]."""
    return torch.cat([values, values.new_full((rows - len(values), *values.shape[1:]), torch.nan)])


def compact(matrix: Tensor) -> Tensor:
    """Return scores [q, songs] in half precision, every row's root mean square 1."""
    size = matrix.double().square().mean(1, keepdim=True).sqrt()
    return (matrix.double() / size.clamp(min=1e-300)).half()


def _read(path: Path) -> dict[str, Tensor]:
    return dict(load_file(path))
