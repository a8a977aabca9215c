"""The table of methods: every LDS with its interval, against the ceiling, against the default, family by family."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import stdev
from typing import TYPE_CHECKING, Any

from bench.faithfulness.judge.hubs import hubs
from bench.faithfulness.judge.lds import KINDS, SEED_MARK, Board, board
from bench.faithfulness.judge.resample import Resamples
from bench.faithfulness.judge.truth import PANELS, Ceiling, ceilings, clusters, dimension, panel, shared_by_others

if TYPE_CHECKING:
    from bench.faithfulness.judge.truth import Family
    from bench.faithfulness.judge.work import Work
    from worker.attribution.evaluate import Bootstrap, Interval

DIGITS = 5
MAIN = "halves"
LEAST = 8


@dataclass(frozen=True)
class Judged:
    """One panel of one family: its truth, the ceilings and the board of all methods."""

    family: Family
    ceilings: dict[str, Ceiling]
    board: Board


def told(interval: Interval) -> dict[str, float]:
    """Return an interval JSON-ready."""
    return {name: round(getattr(interval, name), DIGITS) for name in ("value", "low", "high")}


def judged(work: Work, family: str, name: str, bootstrap: Bootstrap) -> Judged | None:
    """Judge all methods on the test queries of panel `name` and the test subsets of `family`; None where too few."""
    asked = panel(work.queries, name, "test")
    truth = work.test(family).queries(asked)
    if len(asked) < LEAST or len(truth.kept) < LEAST:
        return None
    resamples = Resamples.draw(clusters(work.queries, asked), len(truth.kept), bootstrap)
    scores = {method: matrix[asked] for method, matrix in work.scores.items()}
    scores = {method: matrix for method, matrix in scores.items() if int(matrix.isfinite().all(1).sum()) >= LEAST}
    return Judged(truth, ceilings(truth, resamples), board(truth, scores, resamples))


def everything(work: Work, bootstrap: Bootstrap) -> dict[str, dict[str, Judged]]:
    """Judge every family and panel that is there: family → panel → result."""
    found = {f: {p: judged(work, f, p, bootstrap) for p in PANELS} for f in work.families}
    return {f: {p: result for p, result in of.items() if result} for f, of in found.items()}


def truth_facts(of: dict[str, Judged]) -> dict[str, Any]:
    """Say how large, how reliable and how various the truth of one family is, panel by panel."""
    return {
        name: {
            "subsets": len(each.family.kept),
            "seeds": len(each.family.losses),
            "queries": each.family.losses.shape[2],
            "reliability": {kind: told(top.reliability) for kind, top in each.ceilings.items()},
            "ceiling": {kind: told(top.ceiling) for kind, top in each.ceilings.items()},
            "effective_dimension": round(dimension(each.family), 3),
            "spearman_with_mean_loss_of_others": round(shared_by_others(each.family), DIGITS),
        }
        for name, each in of.items()
    }


def rows(work: Work, results: dict[str, dict[str, Judged]]) -> list[dict[str, Any]]:
    """Return one row a method, the best centred LDS on generated tracks first."""
    names = dict.fromkeys(n.partition(SEED_MARK)[0] for n in work.scores)
    made = [row(work, results, name) for name in names]
    return sorted(made, key=lambda r: -r["lds"].get("generated", {}).get("centred", -2.0))


def row(work: Work, results: dict[str, dict[str, Judged]], name: str) -> dict[str, Any]:
    """Return what is known of one method; `lds` are plain numbers, `lds_interval` their bounds."""
    of = {family: {p: each for p, each in panels.items() if name in each.board} for family, panels in results.items()}
    main = of.pop(MAIN)
    facts = {k: v for k, v in work.facts.get(name, {}).items() if k not in ("scores", "variants")}
    return {
        "name": name,
        "rival": name != work.default,
        **({"query_gpu_s": 0.0, "bytes_per_segment": 0} if name in work.free else {}),
        **facts,
        "queries": {p: each.board.scored[KINDS[0]][name].asked for p, each in main.items()},
        "lds": {
            p: {k: round(i["value"], DIGITS) for k, i in _intervals(each, name).items()} for p, each in main.items()
        },
        "lds_interval": {p: _intervals(each, name) for p, each in main.items()},
        "fraction_of_ceiling": {p: _fractions(each, name) for p, each in main.items() if each.ceilings},
        **_differences(work, results, name),
        "families": {f: {p: _intervals(each, name) for p, each in panels.items()} for f, panels in of.items()},
        **_seeds(main, name),
        "hubs": _hubs(work, name),
    }


def _intervals(each: Judged, name: str) -> dict[str, dict[str, float]]:
    return {kind: told(each.board.interval(kind, name)) for kind in KINDS}


def _fractions(each: Judged, name: str) -> dict[str, Any]:
    parts = {kind: each.board.fraction(kind, name, top.resampled) for kind, top in each.ceilings.items()}
    return {kind: told(part) if part else None for kind, part in parts.items()}


def _differences(work: Work, results: dict[str, dict[str, Judged]], name: str) -> dict[str, Any]:
    """Return the paired differences to the default: on generated tracks, by panel, and by panel of other families."""
    if work.default is None:
        return {}
    found = {family: _minus(panels, name, work.default) for family, panels in results.items()}
    main = found.pop(MAIN)
    return {
        "minus_default": main.get("generated", {}),
        "minus_default_by_panel": main,
        "minus_default_by_family": found,
    }


def _minus(panels: dict[str, Judged], name: str, default: str) -> dict[str, Any]:
    return {
        p: {kind: told(each.board.difference(kind, name, default)) for kind in KINDS}
        for p, each in panels.items()
        if name in each.board and default in each.board
    }


def _seeds(main: dict[str, Judged], name: str) -> dict[str, Any]:
    """Return every projection seed's LDS and their standard deviation, for methods that have several."""
    found = {p: {k: each.board.scored[k][name].by_seed for k in KINDS} for p, each in main.items()}
    spread = {
        p: {k: {"values": [round(v, DIGITS) for v in of], "sd": round(stdev(of), DIGITS)} for k, of in each.items()}
        for p, each in found.items()
        if len(each[KINDS[0]]) > 1
    }
    return {"projection_seeds": spread} if spread else {}


def _hubs(work: Work, name: str) -> dict[str, float] | None:
    """Return the hubs among the generated test queries, of the method's first seed; None without finite scores."""
    matrix = next(m for n, m in work.scores.items() if n.partition(SEED_MARK)[0] == name)
    matrix = matrix[panel(work.queries, "generated", "test")]
    matrix = matrix[matrix.isfinite().all(1)]
    if len(matrix) < LEAST or not bool(matrix.any()):
        return None
    return {key: round(value, DIGITS) for key, value in vars(hubs(matrix)).items()}
