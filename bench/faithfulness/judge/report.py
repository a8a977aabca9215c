"""All sections of accuracy.json; one whose inputs are missing is left out."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file

from bench.faithfulness.judge import coverage, removals
from bench.faithfulness.judge.causes import copies_section, retrieval_section
from bench.faithfulness.judge.lds import KINDS
from bench.faithfulness.judge.table import DIGITS, MAIN, Judged, everything, rows, told, truth_facts
from bench.faithfulness.judge.truth import PANELS
from bench.faithfulness.judge.tuning import OBJECTIVE, Tuning, unequal
from worker.attribution.evaluate import Bootstrap

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from bench.faithfulness.judge.work import Work

SAME_SOURCE = "same_source"
MATCHED = "artist_matched"
TAKEN_OVER = ("tuning", "gate", "self_retrieval")


def accuracy(work: Work, bootstrap: Bootstrap | None = None) -> dict[str, Any]:
    """Return everything that the folder allows to be said."""
    how = bootstrap or Bootstrap()
    found: dict[str, Any] = {"bootstrap": asdict(how), "default": work.default}
    if work.made_on:
        found["made_on"] = work.made_on
    if work.retrained:
        found["retrained"] = work.retrained
    if MAIN in work.families and work.scores:
        found |= lds_section(work, how)
    if work.tunings:
        found["tuning"] = tuning_told(work.tunings)
    if work.has("removals.json") and work.has("truth-removals.safetensors"):
        found["leave_k_out"] = removals_section(work, how)
    causes = copies_section(work, how) | retrieval_section(work, how)
    if causes:
        found["known_cause"] = causes
    if work.has("effects.safetensors"):
        found["dose_response"] = effects_section(work, how)
    return found | {name: work.json(f"{name}.json") for name in TAKEN_OVER if work.has(f"{name}.json")}


def lds_section(work: Work, how: Bootstrap) -> dict[str, Any]:
    """Return ceilings, facts of the truth, the table of methods and what it comes to."""
    results = everything(work, how)
    main = results[MAIN]
    methods = rows(work, results)
    return {
        "centring": "each model's mean loss over the panel's queries (same kind, same condition, same split) taken off",
        "ceiling": {
            p: {k: round(c.ceiling.value, DIGITS) for k, c in each.ceilings.items()} for p, each in main.items()
        },
        "truth": {family: truth_facts(of) for family, of in results.items()},
        "methods": methods,
        **verdict(work, main, methods),
    }


def verdict(work: Work, main: dict[str, Judged], methods: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the default against the best rival of every panel, and against counting same-source songs."""
    names, default = [m["name"] for m in methods if m["rival"]], work.default
    against: dict[str, Any] = {}
    for name, each in main.items():
        there = [n for n in names if n in each.board]
        if default is not None and default in each.board and there:
            against[name] = {kind: best_rival(each, kind, default, there) for kind in KINDS}
    found: dict[str, Any] = {"default_minus_best_rival": against} if against else {}
    if "generated" in against and SAME_SOURCE in names:
        board = main["generated"].board
        counting, ours = (board.interval("centred", n).value for n in (SAME_SOURCE, str(default)))
        found["centred_over_same_source"] = round(ours / counting, 3) if counting > 0 else None
    return found


def best_rival(each: Judged, kind: str, default: str, rivals: list[str]) -> dict[str, Any]:
    """Return the default's paired difference to the rival of the highest LDS, and the lowest of the bounds to any."""
    best = max(rivals, key=lambda name: each.board.interval(kind, name).value)
    lows = [each.board.difference(kind, default, name).low for name in rivals]
    return {"rival": best, **told(each.board.difference(kind, default, best)), "lowest_low": round(min(lows), DIGITS)}


def tuning_told(logs: Mapping[str, Tuning]) -> dict[str, Any]:
    """Return what was chosen among the variants of every method, and the log of all."""
    return {
        "objective": OBJECTIVE,
        "unequal_budgets": unequal(logs),
        "at_edge": {name: list(log.edges) for name, log in logs.items() if log.edges},
        "methods": {name: log.log for name, log in logs.items()},
    }


def removals_section(work: Work, how: Bootstrap) -> dict[str, Any]:
    """Return the rises of every method's groups for test queries, by the number of songs left out."""
    paths = [work.folder / f"truth-{n}.safetensors" for n in ("removals", "full") if work.has(f"truth-{n}.safetensors")]
    losses = removals.Removals.load(*paths)
    names = list(PANELS.values())
    alike = torch.tensor([names.index((q.kind, q.condition)) for q in work.queries])
    groups = removals.groups(work.folder / "removals.json")
    tested, found = [g for g in groups if g.query is None or work.queries[g.query].split == "test"], {}
    for size, chosen in removals.by_size(tested).items():
        of = removals.effects(losses, chosen, alike)
        if of:
            found[str(size)] = rises_told(of, work.default, how)
    return {"unit": "per cent of the full model's loss", "seeds": len(losses.full), "removed": found}


def pairs_told(rise: Tensor) -> dict[str, int]:
    """Return how many queries, and pairs of query and seed, of a rise [2, k, n] are known."""
    known = rise[0].isfinite()
    return {"queries": int(known.any(0).sum()), "pairs": int(known.sum())}


def rises_told(of: dict[str, Tensor], default: str | None, how: Bootstrap) -> dict[str, Any]:
    """Return every method's mean rise [2, k, n], whole and own, and the paired differences to default and to chance."""
    found: dict[str, Any] = {**pairs_told(next(iter(of.values()))), "methods": {}}
    for name, rise in of.items():
        told_ = {"rise": told(removals.mean_rise(rise[0], how)), "own_rise": told(removals.mean_rise(rise[1], how))}
        for label, other in (("minus_default", default), ("minus_matched", MATCHED)):
            if other in of and other != name:
                told_[label] = told(removals.mean_rise((rise - of[other])[0], how))
                told_[f"own_{label}"] = told(removals.mean_rise((rise - of[other])[1], how))
        found["methods"][name] = told_
    return found


def effects_section(work: Work, how: Bootstrap) -> dict[str, Any]:
    """Return slope and coverage of predicted against retrained changes."""
    stored = load_file(work.folder / "effects.safetensors")
    names = ("predicted", "low", "high", "retrained", "query")
    each = coverage.response(coverage.Effects(**{name: stored[name] for name in names}), how)
    return {
        "n": each.n,
        "covered": told(each.covered),
        "slope": told(each.slope),
        "spearman": round(each.spearman, DIGITS),
    }
