"""Train again without some songs and measure every query: `python -m bench.faithfulness.retrain WORK OUT FAMILY...`.

WORK holds what `bench.starter.prepare` and `bench.faithfulness.queries` wrote. Each GPU has a process, each process
trains several models at once. Results are written after every cohort, and a run that is started again goes on.
Losses are those of the averaged weights, over draws of a grid that no method uses, in bands of the noise level.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from bench.faithfulness.subsets import SONGS, Job, jobs
from bench.starter.train import Cohort, Learner, Recipe, Run, initial_weights, learners, tokenised

from worker.attribution.noise import Grid  # isort: skip

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

TRUTH_GRID_SEED = 990_001
BANDS = 8
CHUNK = 512
WINDOW_S = 10.24


@dataclass(frozen=True)
class Asked:
    """The queries as a retrained model meets them: latents [q, c, f], caption words, and whether they are told."""

    latents: Tensor
    tokens: Tensor
    real: Tensor
    told: Tensor

    @staticmethod
    def load(work: Path, learner: Learner, tokenizer: object) -> Asked:
        """Read the queries in `work`."""
        rows = json.loads((work / "queries.json").read_text())
        device = learner.latents.device
        tokens, real = tokenised(tokenizer, [row["prompt"] or "" for row in rows])
        told = torch.tensor([float(row["prompt"] is not None) for row in rows])
        latents = load_file(work / "queries.safetensors")["latents"].float()
        return Asked(*(x.to(device) for x in (latents, tokens, real, told)))


class Meter:
    """Measures a learner's loss on every query, the same noise for all."""

    def __init__(self, asked: Asked, draws: int) -> None:
        grid, device = Grid(TRUTH_GRID_SEED, draws), asked.latents.device
        self.asked, self.draws = asked, draws
        self.level = grid.levels().float().to(device)
        self.noise = grid.noise(tuple(asked.latents.shape[1:])).to(device)
        band = (self.level * BANDS).long()
        self.average = torch.nn.functional.one_hot(band, BANDS).float()
        self.average /= self.average.sum(0)

    @torch.no_grad()
    def losses(self, learner: Learner, error: object) -> Tensor:
        """Return the mean loss of every query in every band [q, BANDS]; `error` is the learner's, maybe compiled."""
        asked, found = self.asked, []
        queries = len(asked.latents)
        starts, totals = torch.zeros_like(asked.told), torch.full_like(asked.told, WINDOW_S)
        with torch.autocast("cuda", torch.bfloat16, enabled=asked.latents.is_cuda):
            cross, globals_ = learner.conditioning(asked.tokens, asked.real, (starts, totals, asked.told))
            cells = torch.arange(queries * self.draws, device=asked.latents.device)
            for part in cells.split(CHUNK):
                full = part if len(part) == CHUNK else cells[-CHUNK:]  # one shape, so that it is compiled once
                q, d = full // self.draws, full % self.draws
                values = error(asked.latents[q], self.level[d], self.noise[d], (cross[q], globals_[q]))
                found.append(values[-len(part) :].float())
        return torch.cat(found).view(queries, self.draws) @ self.average


class Ledger:
    """What one process has measured so far, kept in one file that is rewritten whole."""

    def __init__(self, path: Path) -> None:
        self.path, self.rows = path, []
        if path.exists():
            stored = load_file(path)
            names = ("kept", "family", "mask", "seed", "losses", "final")
            self.rows = list(zip(*(stored[name] for name in names), strict=True))

    def has(self, job: Job) -> bool:
        """Whether the job's result is here."""
        key = (FAMILIES.index(job.family), job.mask, job.seed)
        return any((int(r[1]), int(r[2]), int(r[3])) == key for r in self.rows)

    def add(self, job: Job, losses: Tensor, final: float) -> None:
        """Keep one result."""
        kept = torch.bincount(torch.tensor(job.songs), minlength=SONGS).to(torch.uint8)
        numbers = (torch.tensor(FAMILIES.index(job.family)), torch.tensor(job.mask), torch.tensor(job.seed))
        self.rows.append((kept, *numbers, losses.float().cpu(), torch.tensor(final)))

    def save(self) -> None:
        """Write the file, whole or not at all."""
        names = ("kept", "family", "mask", "seed", "losses", "final")
        columns = {
            name: torch.stack(list(values)) for name, values in zip(names, zip(*self.rows, strict=True), strict=True)
        }
        draft = self.path.with_suffix(".part")
        save_file(columns, draft)
        draft.replace(self.path)


FAMILIES = ("full", "halves", "artists", "short", "removals", "doses")


def cohorts(todo: Sequence[Job], recipe: Recipe, size: int) -> Iterator[list[tuple[Job, int]]]:
    """Cut jobs into groups of at most `size` with equally many steps; the number of steps stands beside each job."""
    counted = [(job, round(recipe.steps(len(job.songs)) * job.length)) for job in todo]
    for _, same in groupby(counted, key=lambda pair: (pair[0].family, pair[1])):
        run = list(same)
        for at in range(0, len(run), size):
            yield run[at : at + size]


def work_off(options: argparse.Namespace) -> None:
    """Train and measure this process's part of the jobs until done or out of time."""
    begun, recipe = time.perf_counter(), Recipe(epochs=options.epochs)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    ledger = Ledger(options.out / f"part-{options.part}.safetensors")
    todo = [j for j in jobs(options.families, options.removals)[options.part :: options.parts] if not ledger.has(j)]
    members = learners(options.work, recipe, device, options.together)
    cohort = Cohort(members)
    from worker.diffusion.layout import load_pipeline

    asked = Asked.load(
        options.work, members[0], load_pipeline(options.work / "pipeline", torch.device("cpu")).tokenizer
    )
    meter = Meter(asked, options.draws)
    error = torch.compile(members[0].error, dynamic=False) if device.type == "cuda" else members[0].error
    print(f"part {options.part}: ready after {time.perf_counter() - begun:.0f} s, {len(todo)} models", flush=True)
    slowest = 0.0
    for group in cohorts(todo, recipe, options.together):
        started = time.perf_counter()
        if started - begun + slowest > options.limit_s:
            break
        for job, losses, final in trained(cohort, group, meter, error):
            if bool(losses.isfinite().all()):
                ledger.add(job, losses, final)
            else:  # not kept, so that the next start trains it again
                print(f"part {options.part}: {job.family} {job.mask} seed {job.seed} diverged", flush=True)
        ledger.save()
        took = time.perf_counter() - started
        slowest = max(slowest, took)
        print(f"part {options.part}: {len(ledger.rows)} models, {group[0][0].family}, {took:.1f} s", flush=True)


def trained(
    cohort: Cohort, group: list[tuple[Job, int]], meter: Meter, error: object
) -> Iterator[tuple[Job, Tensor, float]]:
    """Train a group side by side and yield each job with its losses and its last training loss."""
    filled = [group[n % len(group)] for n in range(len(cohort.members))]
    runs = [Run(job.songs, job.seed * 100_000 + job.mask, steps) for job, steps in filled]
    cohort.train(
        runs, [initial_weights(m.learner, job.seed) for m, (job, _) in zip(cohort.members, filled, strict=True)]
    )
    home = cohort.members[0]
    for (job, _), member in zip(group, cohort.members, strict=False):
        if member is not home:  # measured in the first learner's place, for which the forward pass is compiled
            for mine, theirs in zip(home.parameters, member.parameters, strict=True):
                mine.data.copy_(theirs.data)
        yield job, meter.losses(home.learner, error), member.loss.item()


def spread(arguments: Sequence[str], parts: int) -> None:
    """Start one process a GPU (or `parts` in all) and wait for them; raises SystemExit where one fails."""
    gpus = max(1, torch.cuda.device_count())
    running = []
    for part in range(parts):
        environment = {**os.environ, "CUDA_VISIBLE_DEVICES": str(part % gpus)}
        command = [
            sys.executable,
            "-m",
            "bench.faithfulness.retrain",
            *arguments,
            "--part",
            str(part),
            "--parts",
            str(parts),
        ]
        running.append(subprocess.Popen(command, env=environment))
    if any([process.wait() for process in running]):  # noqa: C419 - all are waited for
        raise SystemExit("a part failed")


def main() -> None:
    """Spread over the GPUs, or be one part."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("families", nargs="+", choices=FAMILIES)
    parser.add_argument("--removals", type=Path)
    parser.add_argument("--epochs", type=int, default=Recipe.epochs)
    parser.add_argument("--draws", type=int, default=128)
    parser.add_argument("--together", type=int, default=4)
    parser.add_argument("--limit-s", type=float, default=1e9)
    parser.add_argument("--parts", type=int, default=max(1, torch.cuda.device_count()))
    parser.add_argument("--part", type=int)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    if options.part is None:
        spread(sys.argv[1:], options.parts)
    else:
        work_off(options)


if __name__ == "__main__":
    main()
