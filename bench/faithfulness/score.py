"""Score all queries by one family of methods: `python -m bench.faithfulness.score METHOD MODEL WORK OUT`.

    grams    inner products and projections of gradients; the diagonal Fisher's first order
    das      diffusion attribution scores
    unlearn  finite-step unlearning by the diagonal Fisher
    ekfac    the same by EK-FAC, and its first order
    mucs     unlearning by fine-tuning

MODEL holds pipeline/; WORK holds training.safetensors, queries.json and queries.safetensors. Scores are written as OUT/
scores-*.safetensors, name → [q, songs] float32, with NaN where a query was not asked; of methods that take a query at
a time, OUT/METHOD.safetensors holds what is known so far, and a run that is started again goes on from there.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import asdict
from pathlib import Path

from bench.faithfulness.setting import SPLITS, Setting  # first: it makes torchaudio importable

# isort: split
import torch
from safetensors.torch import save_file

from bench.faithfulness import mucs
from bench.faithfulness.ekfac import EKFAC, Basis, fit
from bench.faithfulness.gradients_job import DAMPINGS, GradientJob, Gradients, das_scores_of, songs_of
from bench.faithfulness.gradients_rows import Rows
from bench.faithfulness.resumable import SECONDS, Task, answer_all
from bench.faithfulness.unlearning_methods import Forgetting, Mirror, diagonal_curvature, frozen_probe
from worker.attribution.measure import Measure, exact_float32
from worker.manifest import IndexConfig

BEGUN = time.perf_counter()


def grams(setting: Setting, options: argparse.Namespace) -> None:
    """Write inner products and projections."""
    Gradients(setting, _gradient_job(options)).write(options.out)


def das(setting: Setting, options: argparse.Namespace) -> None:
    """Write the products that DAS is made of and its scores at every damping; of other measures than the loss too."""
    gradients = Gradients(setting, _gradient_job(options))
    for measure in gradients.job.measures:
        kept, name = gradients.das(measure), "das" if measure is Measure.LOSS else f"das-{measure}"
        save_file(kept, options.out / f"{name}.safetensors")
        found = dict(item for damping in DAMPINGS for item in das_scores_of(kept, setting.song, damping, name))
        save_file(found, options.out / f"scores-{name}.safetensors")
    gradients.clock.lap("scores")
    gradients.clock.save(options.out / "timing-das.json", gradients.job)


def unlearn(setting: Setting, options: argparse.Namespace) -> None:
    """Write finite-step scores by the diagonal Fisher."""
    how = _forgetting(options)
    mirror = Mirror(setting, how, diagonal_curvature(setting, how))
    task = _task(setting, options, {"curvature": "diagonal", **asdict(how)})
    _write(setting, task, answer_all(task, mirror.changes), "finite-step")


def ekfac(setting: Setting, options: argparse.Namespace) -> None:
    """Write finite-step scores by EK-FAC, and its first order at every damping."""
    how = _forgetting(options)
    probe = frozen_probe(setting, how.fisher_draws, min(how.batch, 256))
    bases = fit(setting.model, setting.training, probe, how.weights)
    print(f"factors after {time.perf_counter() - BEGUN:.1f} s", flush=True)
    if not options.no_first_order:
        save_file(_ekfac_first_order(setting, options, bases), options.out / "scores-ekfac-influence.safetensors")
    curvature = EKFAC.of(bases, how.damping, options.per_layer)
    settings = {"curvature": "ekfac", "per_layer": options.per_layer, **asdict(how)}
    task = _task(setting, options, settings)
    _write(setting, task, answer_all(task, Mirror(setting, how, curvature).changes), "abu-ekfac")


def unlearn_by_tuning(setting: Setting, options: argparse.Namespace) -> None:
    """Write MUCS's scores."""
    recipe = mucs.Recipe(rate=options.rate, most=options.most_steps, seed=options.seed)
    null = mucs.null_losses(setting, frozen_probe(setting, options.query_draws, options.batch), options.null_bands)
    scorer = mucs.Scorer(
        setting, mucs.Unlearner(setting, recipe), frozen_probe(setting, options.draws, options.batch), null
    )
    task = _task(setting, options, {"draws": options.draws, "null_bands": options.null_bands, **asdict(recipe)})
    found = answer_all(task, scorer.scores)
    _write(setting, task, found, "")
    if "ratio" in found:
        met = (found["ratio"] >= recipe.enough).sum() / found["ratio"].isfinite().sum()
        print(f"the stopping rule was met by {met:.0%} of the queries", flush=True)


def _ekfac_first_order(
    setting: Setting, options: argparse.Namespace, bases: dict[str, Basis]
) -> dict[str, torch.Tensor]:
    gradients, found = Gradients(setting, _gradient_job(options)), {}
    for measure in gradients.job.measures:
        whole, prefix = gradients.whole(measure), "" if measure is Measure.LOSS else f"{measure}-"
        songs, queries = whole.songs.mean(0), whole.queries.mean(0)
        with exact_float32():
            for per_layer in (False, True):
                for damping in DAMPINGS:
                    solved = EKFAC.of(bases, damping, per_layer).solved_rows(queries, gradients.spans)
                    name = f"{prefix}ekfac-influence@{damping:g}{' per layer' if per_layer else ''}"
                    found[name] = songs_of(setting, solved @ songs.mT)
    gradients.clock.save(options.out / "timing-ekfac-influence.json", gradients.job)
    return found


def _write(setting: Setting, task: Task, found: dict[str, torch.Tensor], family: str) -> None:
    """Write song scores of all answers that are one number a segment."""
    scores = {
        f"{family}@{name.removeprefix('step ')}" if family else name: songs_of(setting, value)
        for name, value in found.items()
        if value.ndim == 2
    }
    save_file(scores, task.path.with_name(f"scores-{task.path.name}"))
    seconds = found.get(SECONDS, torch.full((task.total,), torch.nan))
    left = int(seconds[torch.tensor(task.queries, dtype=torch.long)].isnan().sum())
    print(f"{float(seconds.nanmedian()):.3f} s a query, {left} of {len(task.queries)} left", flush=True)


def _task(setting: Setting, options: argparse.Namespace, settings: dict[str, object]) -> Task:
    limit = options.limit_seconds - (time.perf_counter() - BEGUN)
    path = options.out / f"{options.method}{options.suffix}.safetensors"
    return Task(path, settings, setting.chosen(options.queries), len(setting.facts), limit)


def _forgetting(options: argparse.Namespace) -> Forgetting:
    return Forgetting(
        weights=options.weights,
        steps=tuple(options.steps),
        query_draws=options.query_draws,
        draws=options.draws,
        fisher_draws=options.fisher_draws,
        damping=options.damping,
        batch=options.batch,
    )


def _gradient_job(options: argparse.Namespace) -> GradientJob:
    return GradientJob(
        measures=tuple(Measure(name) for name in options.measures),
        draws=options.song_draws,
        query_draws=options.query_draws,
        half=options.half,
        rows=Rows(options.weights, options.rows_batch),
        dim=options.dim,
        seeds=tuple(range(options.seeds)),
        keep_rows=options.keep_rows,
        groups=options.groups,
        directions=options.directions,
    )


METHODS = {"grams": grams, "das": das, "unlearn": unlearn, "ekfac": ekfac, "mucs": unlearn_by_tuning}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("method", choices=METHODS)
    for name in ("model", "work", "out"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--queries", choices=SPLITS, default="all", help="of methods that take a query at a time")
    parser.add_argument("--limit-seconds", type=float, default=float("inf"), help="begin no query after so long")
    parser.add_argument("--suffix", default="", help="of the names of the files of answers, to tell settings apart")
    parser.add_argument("--weights", default=IndexConfig().weights)
    parser.add_argument("--query-draws", type=int, default=256, help="of a query's gradient")
    gradient = parser.add_argument_group("grams, das, and the first order of ekfac")
    gradient.add_argument("--measures", nargs="+", choices=[str(m) for m in Measure], default=[str(m) for m in Measure])
    gradient.add_argument("--song-draws", type=int, default=64, help="of a training segment's gradient")
    gradient.add_argument("--half", action="store_true", help="bfloat16 passes: faster, and worse for the loss")
    gradient.add_argument("--rows-batch", type=int, default=512)
    gradient.add_argument("--dim", type=int, default=2048)
    gradient.add_argument("--seeds", type=int, default=5, help="how many projections")
    gradient.add_argument("--keep-rows", action="store_true", help="write the first projection's rows in bytes")
    gradient.add_argument("--groups", action="store_true", help="write inner products by part of every block")
    gradient.add_argument("--directions", type=int, default=32, help="of DAS")
    forget = parser.add_argument_group("unlearn, ekfac, mucs")
    forget.add_argument("--steps", type=float, nargs="+", default=[1e-3], help="relative lengths")
    forget.add_argument("--draws", type=int, default=32, help="of every training segment's change")
    forget.add_argument("--fisher-draws", type=int, default=16)
    forget.add_argument("--damping", type=float, default=0.3, help="of the curvature, relative to its mean")
    forget.add_argument("--per-layer", action="store_true", help="EK-FAC: damping relative to each layer's mean")
    forget.add_argument("--no-first-order", action="store_true", help="EK-FAC: finite steps alone")
    forget.add_argument("--batch", type=int, default=1024)
    forget.add_argument("--rate", type=float, default=mucs.Recipe.rate, help="MUCS: learning rate")
    forget.add_argument("--most-steps", type=int, default=mucs.Recipe.most, help="MUCS: steps at most")
    forget.add_argument("--null-bands", type=int, default=8, help="MUCS: bands of the null loss; 1: one number")
    forget.add_argument("--seed", type=int, default=0, help="MUCS: of batches and noise")
    return parser


def main(arguments: list[str] | None = None) -> None:
    """Load the setting and score."""
    options = _parser().parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    setting = Setting.load(options.model, options.work, device)
    METHODS[options.method](setting, options)
    print(f"{options.method}: {time.perf_counter() - BEGUN:.1f} s in all", flush=True)


if __name__ == "__main__":
    main()
