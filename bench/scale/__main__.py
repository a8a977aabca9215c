"""Measure what queries, builds and scans cost at size, part by part: python -m bench.scale --out FOLDER.

Every part is written when done, as FOLDER/PART.json; what is there already is not measured again. A part that fails is
recorded with its error and the next one goes on. `python -m bench.scale.merge FOLDER ...` makes the result file.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
import traceback
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from bench import hardware
from bench.scale.bits import bits_part
from bench.scale.builds import build_part, spread_part, work_beside
from bench.scale.catalogue import for_model, random_index
from bench.scale.floors import Floor, fit_batch
from bench.scale.laws import kernel_in_use, laws_part, rows_part
from bench.scale.lengths import lengths_part
from bench.scale.packages import packages_part
from bench.scale.plan import Plan, tiny
from bench.scale.profiles import profile_part
from bench.scale.queries import floor_part, query_part, recorded_part, registered_part
from bench.scale.rivals import busy_part, finite_part
from bench.scale.scans import scan_part, sweep_part
from bench.scale.subjects import Subject, from_folder, from_shape
from bench.scale.timing import free
from worker.attribution import gradients
from worker.engine import use_cores

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from worker.index import Index


class World:
    """What parts share, made when first needed: one model at a time, one catalogue."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.device = plan, torch.device(plan.device)

    @cached_property
    def starter(self) -> Subject:
        """The model of starter size."""
        plan = self.plan
        if plan.starter is not None:
            return from_folder(plan.starter, plan.device, plan.batch)
        return from_shape(plan.small, plan.device, plan.batch, plan.seed)

    @cached_property
    def large(self) -> Subject:
        """The model of full size; the small one leaves first."""
        self.__dict__.pop("starter", None)
        free(self.device)
        made = from_shape(self.plan.large, self.plan.device, self.plan.long_batch, self.plan.seed)
        fit_batch(made, self.plan)
        return made

    @cached_property
    def _index(self) -> Index:
        return random_index(self.plan, self.starter.model, self.device)

    def index(self, subject: Subject) -> Index:
        """Return the catalogue as that of `subject`'s model."""
        made = self._index
        return made if made.manifest.sampling_rate == subject.model.form.rate else self._large_index

    @cached_property
    def _large_index(self) -> Index:
        return for_model(self._index, self.plan, self.large.model)

    def floor(self, name: str) -> Floor:
        """Return the floor that an earlier part measured."""
        kept = json.loads((self.plan.out / f"{name}.json").read_text())["result"]["floor"]
        return Floor(**{field: kept[field] for field in Floor.__dataclass_fields__})


def parts(world: World) -> dict[str, Callable[[], dict[str, Any]]]:
    """Return every part by name, in the order in which they run."""
    plan = world.plan

    def small(work: Callable[..., dict[str, Any]], *rest: Any) -> dict[str, Any]:
        return work(world.starter, world.index(world.starter), plan, *rest)

    def large(work: Callable[..., dict[str, Any]], *rest: Any) -> dict[str, Any]:
        return work(world.large, world.index(world.large), plan, *rest)

    return {
        "sweep": lambda: sweep_part(plan, world.device),
        "laws": lambda: small(laws_part) | {"fused_sketches": int(kernel_in_use(world.device))},
        "starter-floor": lambda: floor_part(world.starter, plan, plan.batches, plan.track_s),
        "starter-query": lambda: small(query_part, plan.track_s, (plan.queries, plan.checked)),
        "scan": lambda: scan_part(world.index(world.starter), plan),
        "starter-busy": lambda: small(busy_part, world.floor("starter-floor"), 4 * plan.together),
        "starter-build": lambda: build_part(world.starter, plan, world.floor("starter-floor"), plan.built),
        "starter-finite": lambda: finite_part(world.starter, plan),
        "starter-lengths": lambda: small(lengths_part, plan.lengths),
        "starter-profile": lambda: profile_part(world.starter, plan),
        "starter-recorded": lambda: recorded_part(world.starter, plan, world.floor("starter-floor")),
        "full-floor": lambda: floor_part(world.large, plan, plan.long_batches, plan.long_s),
        "full-laws": lambda: rows_part(world.large, plan),
        "full-query": lambda: large(query_part, plan.long_s, (plan.long_queries, 0)),
        "full-build": lambda: build_part(world.large, plan, world.floor("full-floor"), plan.long_built),
        "full-busy": lambda: large(busy_part, world.floor("full-floor"), max(2, plan.together // 4)),
        "full-finite": lambda: finite_part(world.large, plan),
        "full-lengths": lambda: large(lengths_part, plan.long_lengths),
        "full-profile": lambda: profile_part(world.large, plan),
        "full-checked": lambda: large(query_part, plan.long_s, (0, 1)),
    }


def run(plan: Plan, chosen: Sequence[str]) -> int:
    """Run the `chosen` parts that are not there yet; return how many failed."""
    world, failed = World(plan), 0
    plan.out.mkdir(parents=True, exist_ok=True)
    for name, work in parts(world).items():
        if name in chosen and not _done(plan.out / f"{name}.json"):
            failed += not _kept(plan, name, work)
            free(world.device)
    return failed


def _done(path: Path) -> bool:
    return path.exists() and "error" not in json.loads(path.read_text())


def _kept(plan: Plan, name: str, work: Callable[[], dict[str, Any]]) -> bool:
    """Run one part and write what came of it, an error too."""
    began = time.perf_counter()
    came = _tried(work)
    if "deterministic" in came.get("error", "") and gradients.repeatable is not _as_it_comes:
        print(came["error"], "\nfrom here on passes need not repeat bit for bit", flush=True)
        gradients.repeatable = _as_it_comes
        came = _tried(work)
    came["repeatable"] = gradients.repeatable is not _as_it_comes
    taken = round(time.perf_counter() - began, 2)
    sizes = {key: value for key, value in asdict(plan).items() if key not in ("out", "starter")}
    hardware.save(plan.out / f"{name}.json", {"part": name, **came, "seconds": taken, "plan": sizes})
    print(f"{name}: {taken} s{'' if 'result' in came else ' FAILED'}", flush=True)
    print(json.dumps(came.get("result")) if "result" in came else came["error"], flush=True)
    return "result" in came


def _tried(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    try:
        return {"result": finite(work())}
    except Exception:  # noqa: BLE001  the machine's time is short: the other parts are worth having
        return {"error": traceback.format_exc()}


def _as_it_comes(_device: torch.device) -> AbstractContextManager[None]:
    """Stand in for `measure.repeatable` on a machine that has an operation without an order."""
    return nullcontext()


def finite(value: Any) -> Any:
    """Return `value` with None for every number in it that is none."""
    if isinstance(value, dict):
        return {key: finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def arguments(words: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.scale", description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the parts' files")
    parser.add_argument(
        "--only", nargs="+", help="parts to run; `spread`, `bits`, `packages` and `cpu-query` run on their own"
    )
    parser.add_argument("--skip", nargs="+", default=[], help="parts to leave out")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--tiny", action="store_true", help="everything small, to see that it runs")
    parser.add_argument("--gpus", type=int, default=2, help="processes of `spread` (%(default)s)")
    parser.add_argument("--folder", type=Path, default=hardware.ROOT / "starter", help="model of `cpu-query`")
    parser.add_argument("--queries", type=int, help="timed queries at starter size")
    parser.add_argument("--meeting", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--rank", type=int, default=0, help=argparse.SUPPRESS)
    return parser.parse_args(words)


def plan_of(given: argparse.Namespace) -> Plan:
    """Return the plan that the command line asks for."""
    plan = tiny(given.out, given.device) if given.tiny else Plan(given.out, given.device)
    return replace(plan, queries=given.queries or plan.queries)


def alone_parts(given: argparse.Namespace, plan: Plan) -> dict[str, Callable[[], dict[str, Any]]]:
    """Return the parts that run only where they are named, since they need a folder, packages or several devices."""
    again = ["--device", plan.device, *(["--tiny"] if given.tiny else [])]
    return {
        "cpu-query": partial(registered_part, given.folder, plan),
        "bits": partial(bits_part, given.folder, hardware.RESULTS / "faithfulness"),
        "packages": partial(packages_part, plan),
        "spread": partial(spread_part, plan, given.gpus, again),
    }


def main(words: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; the status says how many parts failed."""
    given = arguments(sys.argv[1:] if words is None else words)
    plan = plan_of(given)
    use_cores(plan.device)
    if given.meeting is not None:
        device = plan.device if plan.device == "cpu" else f"cuda:{given.rank}"
        world = World(replace(plan, device=device))
        work_beside(world.large, plan, given.meeting, given.rank, plan.long_built)
        return 0
    alone = alone_parts(given, plan)
    if given.only and given.only[0] in alone:
        plan.out.mkdir(parents=True, exist_ok=True)
        return sum(not _kept(plan, name, alone[name]) for name in given.only)
    known = list(parts(World(plan)))
    return run(plan, [name for name in given.only or known if name not in given.skip])


if __name__ == "__main__":
    sys.exit(main())
