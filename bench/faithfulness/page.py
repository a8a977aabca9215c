"""Write the figures of docs/faithfulness.md from bench/results/accuracy.json: `python -m bench.faithfulness.page`.

Everything between `<!-- NAME -->` and `<!-- end -->` is replaced; all else on the page holds no measured number.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from bench.faithfulness.judge.lds import KINDS
from bench.faithfulness.judge.report import MATCHED
from bench.faithfulness.judge.truth import PANELS
from bench.hardware import RESULTS, ROOT

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

PAGE, RESULT = ROOT / "docs" / "faithfulness.md", RESULTS / "accuracy.json"
TITLES = {"generated": "generated", "held_out": "held out", "held_out_null": "held out, no caption"}
SIZES = ((1e6, "MB"), (1e3, "kB"), (1, "B"))
FRACTION, LOWEST, OVER_SOURCE, FOUND, PLANTED, MERIT = 0.65, 0.58, 1.5, 0.8, 0.05, 0.5
OWN, FOREIGN, HELD, RECORDINGS = 0.95, 0.9, (0.85, 0.95), ("held_out", "trained")
Found = dict[str, Any]


def percent(of: Mapping[str, float]) -> str:
    """Return a value with its bounds in per cent."""
    return f"{100 * of['value']:.1f} [{100 * of['low']:.1f}, {100 * of['high']:.1f}]"


def plain(of: Mapping[str, float]) -> str:
    """Return a value that is in per cent already with its bounds."""
    return f"{of['value']:.1f} [{of['low']:.1f}, {of['high']:.1f}]"


def number(of: Mapping[str, float]) -> str:
    """Return a plain number with its bounds."""
    return f"{of['value']:.2f} [{of['low']:.2f}, {of['high']:.2f}]"


def share(of: Mapping[str, float]) -> str:
    """Return how many of how many."""
    return f"{of['count']} of {of['n']}"


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def size(count: float | None) -> str:
    """Return bytes with a unit."""
    unit, name = next(((u, n) for u, n in SIZES if count is not None and count >= u), (1, "B"))
    return "–" if count is None else f"{count / unit:.3g} {name}"


def methods(result: Found) -> str:
    """Return the main table: LDS in per cent."""
    head = ["method", "generated raw", "generated centred", "minus ours, raw", "minus ours, centred",
            "held out raw", "held out centred", "queries", "GPU-s a query", "a segment"]  # fmt: skip
    return table(head, (_method(row, result["default"]) for row in result["methods"]))


def _method(row: Found, default: str) -> list[str]:
    of, own = row["lds_interval"], row["name"] == default
    name = f"**{row['name']}**" if own else row["name"] if row["rival"] else f"*{row['name']}*"
    cells = [percent(of["generated"][kind]) for kind in KINDS]
    cells += ["" if own else percent(row["minus_default"][kind]) for kind in KINDS]
    cells += [percent(of["held_out"][kind]) if "held_out" in of else "not asked" for kind in KINDS]
    spent = row.get("query_gpu_s")
    return [name, *cells, row["queries"]["generated"], "–" if spent is None else f"{spent:.3g}",
            size(row.get("bytes_per_segment"))]  # fmt: skip


def truth(result: Found) -> str:
    """Return how reliable the truth is."""
    rows = [
        [family, TITLES[name], of["subsets"], of["seeds"], of["queries"],
         *(percent(of["reliability"][k]) if k in of["reliability"] else "one seed" for k in KINDS),
         *(percent(of["ceiling"][k]) if k in of["ceiling"] else "–" for k in KINDS),
         f"{of['effective_dimension']:.1f}"]
        for family, panels in result["truth"].items()
        for name, of in panels.items()
    ]  # fmt: skip
    head = ["subsets", "queries", "models' subsets", "seeds", "queries asked", "agreement raw", "agreement centred",
            "ceiling raw", "ceiling centred", "effective dimension"]  # fmt: skip
    return table(head, rows)


def families(result: Found) -> str:
    """Return the LDS on generated tracks under the other families of subsets, of methods of some merit."""
    names = [f for f in result["truth"] if any(f in row["families"] for row in result["methods"])]
    good = [row for row in result["methods"] if row["lds"]["generated"]["raw"] > MERIT]
    cells = [(f, kind) for f in names for kind in KINDS]
    rows = []
    for row in good:
        reached = [percent(row["families"][f]["generated"][kind]) for f, kind in cells]
        minus = [percent(row["minus_default_by_family"][f]["generated"][kind]) for f, kind in cells]
        rows.append([row["name"], *(x for pair in zip(reached, minus, strict=True) for x in pair)])
    head = [title for f, kind in cells for title in (f"{f} {kind}", "minus ours")]
    return table(["method", *head], rows)


def removals(result: Found) -> str:
    """Return the rises of the loss after leaving groups out."""
    rows = [
        [count, of["queries"], of["pairs"], name, plain(each["rise"]), plain(each["own_rise"]),
         *(plain(each[key]) if key in each else "" for key in ("minus_default", "minus_matched"))]
        for count, of in result["leave_k_out"]["removed"].items()
        for name, each in of["methods"].items()
    ]  # fmt: skip
    head = ["songs", "queries", "pairs", "chosen by", "rise, %", "own rise, %", "minus ours", "minus matched"]
    return table(head, rows)


def copies(result: Found) -> str:
    """Return calls by the number of copies, model by model."""
    rows = []
    for number, methods_ in enumerate(result["known_cause"]["copies"]["by_model"]):
        for name, of in methods_.items():
            for key, label in LABELS.items():
                rows.append([number, name, label, *(share(of[key][dose]) for dose in _doses(of[key]))])
    doses = _doses(next(iter(result["known_cause"]["copies"]["by_model"][0].values()))["called_by_dose"])
    return table(["model", "method", "called among", *(f"{dose} copies" for dose in doses)], rows)


LABELS = {
    "called_by_dose": "all tracks and songs",
    "own_called_by_dose": "a track and the song of its caption",
    "own_called_above_highest": "the same, above the highest planted",
}


def _doses(of: Mapping[str, object]) -> list[str]:
    return sorted(of, key=int)


def tuning(result: Found) -> str:
    """Return what was tried and chosen."""
    return table(
        ["method", "settings tried", "chosen", "LDS on tuning data, raw", "centred", "at the edge of what was tried"],
        (
            [name, of["variants"], f"`{of['chosen']}`", f"{100 * of['tried'][0]['raw']:.1f}",
             f"{100 * of['tried'][0]['centred']:.1f}", ", ".join(of["at_edge"])]
            for name, of in result["tuning"]["methods"].items()
        ),
    )  # fmt: skip


def targets(result: Found) -> str:
    """Return what was asked for, what came out, and whether it suffices."""
    rows = [*_against_rivals(result), *_levels(result), *_removed(result), *_copied(result), *_answered(result)]
    return table(["asked", "came out", "reached"], ([a, b, "yes" if c else "**no**"] for a, b, c in rows))


def _against_rivals(result: Found) -> Iterable[tuple[str, str, bool]]:
    against = result["default_minus_best_rival"]
    for kind, of in against["generated"].items():
        yield f"better than every rival on generated tracks, {kind}", f"{percent(of)} to {of['rival']}", of["low"] > 0
    for name in PANELS:
        if name == "generated":
            continue
        better = [
            row["name"]
            for row in result["methods"]
            for kind, of in row["minus_default_by_panel"].get(name, {}).items()
            if row["rival"] and of["low"] > 0
        ]
        missing = [row["name"] for row in result["methods"] if row["rival"] and name not in row["lds"]]
        told = f"better: {', '.join(better) or 'none'}; not asked: {', '.join(missing) or 'none'}"
        yield f"no rival significantly better, {TITLES[name]}", told, not better


def _levels(result: Found) -> Iterable[tuple[str, str, bool]]:
    own = next(row for row in result["methods"] if row["name"] == result["default"])
    raw = own["fraction_of_ceiling"]["generated"]["raw"]
    asked = f"raw LDS at least {FRACTION:.0%} of the ceiling, lower bound {LOWEST:.0%}"
    yield asked, f"{percent(raw)} %", raw["value"] >= FRACTION and raw["low"] >= LOWEST
    ratio = result["centred_over_same_source"]
    yield f"centred LDS at least {OVER_SOURCE} × same-source counting", f"{ratio:.1f} ×", ratio >= OVER_SOURCE


def _removed(result: Found) -> Iterable[tuple[str, str, bool]]:
    for count, of in result["leave_k_out"]["removed"].items():
        each, default = of["methods"], result["default"]
        by_chance = each[default]["minus_matched"]
        told = f"{plain(by_chance)} % more"
        yield f"leaving {count} out: more than artist-matched songs", told, by_chance["low"] > 0
        rivals = {n: m["minus_default"] for n, m in each.items() if n not in (default, MATCHED)}
        if rivals:
            best = max(rivals, key=lambda name: rivals[name]["value"])
            told = f"{best}: {plain(rivals[best])} % more than ours"
            asked = f"leaving {count} out: more than any rival's"
            yield f"{asked}, on average", told, rivals[best]["value"] < 0
            yield f"{asked}, intervals apart (not asked)", told, rivals[best]["high"] < 0


def _copied(result: Found) -> Iterable[tuple[str, str, bool]]:
    own = result["known_cause"]["copies"]["methods"][result["default"]]
    rise = own["spearman"]
    yield "score rises with the dose, mean Spearman over all songs", percent(rise) + " %", rise["low"] > 0
    for label, of in (("above 95 % of planted", own["own"]["called_by_dose"]),
                      ("above the highest planted", own["own"]["called_above_highest"])):  # fmt: skip
        hit, false = of["8"], of["0"]
        asked = f"tracks of their captions: {FOUND:.0%} of 8-copy songs called, planted ≤ {PLANTED:.0%} ({label})"
        reached = hit["value"] >= FOUND and false["value"] <= PLANTED
        yield asked, f"{share(hit)} and {share(false)}", reached
    every = own["called_by_dose"]
    yield f"all pairs: planted ≤ {PLANTED:.0%}", share(every["0"]), every["0"]["value"] <= PLANTED


def _answered(result: Found) -> Iterable[tuple[str, str, bool]]:
    of = result["gate"]["test"]
    own = of["generated"]["own"]
    yield f"gate: {OWN:.0%} of the model's own tracks accepted", f"{own:.1%}", own >= OWN
    foreign = sum(of[kind]["tracks"] * of[kind]["foreign"] for kind in RECORDINGS)
    share_ = foreign / sum(of[kind]["tracks"] for kind in RECORDINGS)
    yield f"gate: {FOREIGN:.0%} of recordings rejected", f"{share_:.1%}", share_ >= FOREIGN
    held = result["dose_response"]["covered"]
    asked = f"stated 90% intervals hold {HELD[0]:.0%} to {HELD[1]:.0%} of retrained changes"
    yield asked, f"{percent(held)} %", HELD[0] <= held["value"] <= HELD[1]


def answers(result: Found) -> str:
    """Return how predicted effects compare with retrained ones, and the gate's verdicts on tracks of known origin."""
    effects = result["dose_response"]
    dose = table(
        ["retrainings", "slope of retrained on predicted rise", "Spearman", "within the stated 90% interval"],
        [[effects["n"], number(effects["slope"]), f"{effects['spearman']:.2f}", f"{percent(effects['covered'])} %"]],
    )
    verdicts = ("own", "unsure", "foreign")
    rows = [
        [kind.replace("_", " "), of["tracks"], *(f"{of[verdict]:.1%}" for verdict in verdicts)]
        for kind, of in result["gate"]["test"].items()
    ]
    return f"{dose}\n\n{table(['tracks', 'number', *verdicts], rows)}"


PARTS = {
    "targets": targets, "answers": answers, "methods": methods, "truth": truth, "families": families,
    "removals": removals, "copies": copies, "tuning": tuning,
}  # fmt: skip


def filled(text: str, result: Found) -> str:
    """Return the page with every part as `result` has it."""
    for name, part in PARTS.items():
        marked = re.compile(rf"(<!-- {name} -->\n).*?(\n<!-- end -->)", re.DOTALL)
        text = marked.sub(lambda match, part=part: match[1] + part(result) + match[2], text)
    return text


def main() -> None:
    """Rewrite the page."""
    PAGE.write_text(filled(PAGE.read_text(), json.loads(RESULT.read_text())))


if __name__ == "__main__":
    main()
