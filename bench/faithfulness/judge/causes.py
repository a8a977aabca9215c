"""The section on known causes: copied songs, and training segments that ask for their own song."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file

from bench.faithfulness.judge import known_cause
from bench.faithfulness.judge.table import DIGITS, told

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from bench.faithfulness.judge.work import Work
    from worker.attribution.evaluate import Bootstrap


def copies_section(work: Work, how: Bootstrap) -> dict[str, Any]:
    """Return how scores and calls follow the dose, over the models with copied songs that set no threshold."""
    every = [load_file(path) for path in sorted(work.folder.glob("copies-*.safetensors"))]
    if not every:
        return {}
    files = [file for file in every if any(key.startswith(("threshold.", "calls.")) for key in file)] or every
    names = sorted({key.removeprefix("scores.") for key in files[0] if key.startswith("scores.")})
    dose = torch.cat([f["dose"].expand(len(f["own"]), -1) for f in files])
    own = torch.cat([f["own"] for f in files])
    found = {}
    for name in names:
        calls = torch.cat([calls_of(f, name) for f in files]) if told_calls(files[0], name) else None
        found[name] = copied(torch.cat([f[f"scores.{name}"] for f in files]).double(), dose, calls, how)
        if bool((own >= 0).any()):
            found[name]["own"] = owned(torch.cat([f[f"scores.{name}"] for f in files]).double(), dose, own, calls)
            if f"threshold.{name}" in files[0]:
                strict = torch.cat([calls_of(f, name, 1) for f in files])
                found[name]["own"]["called_above_highest"] = shares_told(*owned_pairs(strict, dose, own))
    told_of = {"tuning_models": len(every) - len(files), "models": len(files), "queries": len(own), "methods": found}
    return {"copies": told_of | {"by_model": [one_model(file, names) for file in files]}}


def told_calls(file: Mapping[str, Tensor], name: str) -> bool:
    """Whether calls of method `name`, or thresholds for them, are in a file."""
    return f"calls.{name}" in file or f"threshold.{name}" in file


def calls_of(file: Mapping[str, Tensor], name: str, which: int = 0) -> Tensor:
    """Return which songs are called [q, songs] bool: as the file says, or by the threshold numbered `which`."""
    if f"calls.{name}" in file:
        return file[f"calls.{name}"] > 0
    scores = file[f"scores.{name}"].double()
    return known_cause.standardised(scores, file["dose"].expand_as(scores)) > file[f"threshold.{name}"][which]


def one_model(file: Mapping[str, Tensor], names: Sequence[str]) -> dict[str, Any]:
    """Return thresholds, which came from the other models, and the calls of every method on one dosed model.

    `called_by_dose` is of all pairs of query and song; `own_called_by_dose` of tracks and the song under whose caption
    they were made, by the same threshold, and `own_called_above_highest` by the stricter one.
    """
    found = {}
    for name in names:
        if f"threshold.{name}" in file:
            calls, strict = calls_of(file, name), calls_of(file, name, 1)
            dose = file["dose"].expand_as(calls)
            found[name] = {
                "threshold": [round(x, DIGITS) for x in file[f"threshold.{name}"].tolist()],
                "called_by_dose": shares_told(calls, dose),
                "own_called_by_dose": shares_told(*owned_pairs(calls, dose, file["own"])),
                "own_called_above_highest": shares_told(*owned_pairs(strict, dose, file["own"])),
            }
    return found


def owned_pairs(values: Tensor, dose: Tensor, own: Tensor) -> tuple[Tensor, Tensor]:
    """Return values and doses of every query's own song: [q, songs] both, own [q] (−1: none) → [n, 1] both."""
    asked = own >= 0
    return tuple(known_cause.of_own(x[asked], own[asked]) for x in (values, dose))


def shares_told(calls: Tensor, dose: Tensor) -> dict[int, dict[str, Any]]:
    """Return the share called of every dose, JSON-ready."""
    return {d: share_told(s) for d, s in known_cause.called(calls, dose).items()}


def copied(scores: Tensor, dose: Tensor, calls: Tensor | None, how: Bootstrap) -> dict[str, Any]:
    """Return scores and calls by dose over all pairs of query and song."""
    areas = known_cause.present_against_planted(scores, dose)
    found: dict[str, Any] = {
        "score_by_dose": {d: told(i) for d, i in known_cause.by_dose(scores, dose, how).items()},
        "spearman": told(known_cause.rises(scores, dose, how)),
        "auc_present_against_planted": told(known_cause.mean_auc(areas, how)),
    }
    if calls is not None:
        found["called_by_dose"] = shares_told(calls, dose)
    return found


def owned(scores: Tensor, dose: Tensor, own: Tensor, calls: Tensor | None) -> dict[str, Any]:
    """Return scores and calls by dose for the pairs of a query and the song that it was made from."""
    asked = own >= 0
    mine = own[asked]
    doses = known_cause.of_own(dose[asked], mine)
    units = known_cause.of_own(known_cause.standardised(scores, dose)[asked], mine)
    levels = sorted(set(doses.flatten().tolist()))
    found: dict[str, Any] = {
        "score_by_dose": {int(d): round(float(units[doses == d].mean()), DIGITS) for d in levels},
        "spearman": round(float(known_cause.spearman(units[:, 0], doses[:, 0].double())), DIGITS),
    }
    if calls is not None:
        found["called_by_dose"] = shares_told(known_cause.of_own(calls[asked], mine), doses)
    return found


def share_told(share: known_cause.Share) -> dict[str, Any]:
    """Return a share JSON-ready."""
    return {
        "count": share.count,
        "n": share.n,
        **{k: round(getattr(share, k), DIGITS) for k in ("value", "low", "high")},
    }


def retrieval_section(work: Work, how: Bootstrap) -> dict[str, Any]:
    """Return how every method finds the own song of training segments."""
    if not work.has("retrieval.safetensors"):
        return {}
    stored = load_file(work.folder / "retrieval.safetensors")
    own = stored.pop("own").long()
    found = {}
    for name, scores in sorted(stored.items()):
        each = known_cause.retrieval(scores, own, how)
        found[name] = {"first": share_told(each.first), "mean_rank": told(each.mean_rank), "auc": told(each.auc)}
    return {"retrieval": {"queries": len(own), "methods": found}}
