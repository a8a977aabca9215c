"""The interface's document, kept in docs/openapi.json: written anew, compared, and what would break a client told.

python -m app.contract docs/openapi.json            write it
python -m app.contract docs/openapi.json --check    1 where it is not that of the code; says what breaks and what is new
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.config import Settings
from app.main import create_app

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Document = dict[str, Any]
Operation = tuple[str, str]


def document() -> Document:
    """The document of the code; its version is left out, so that a release alone changes nothing."""
    made = create_app(Settings()).openapi()
    return made | {"info": made["info"] | {"version": "1"}}


def text(described: Document) -> str:
    """The document as it is kept: sorted, one thing a line, so that a difference can be read."""
    return json.dumps(described, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def breaking(old: Document, new: Document) -> list[str]:
    """What a client that was written for `old` may trip over in `new`, one sentence each."""
    before, after = operations(old), operations(new)
    found = [f"{name(each)} is gone" for each in sorted(before.keys() - after.keys())]
    for each in sorted(before.keys() & after.keys()):
        told = (*_requests(old, new, before[each], after[each]), *_answers(old, new, before[each], after[each]))
        found += [f"{name(each)}: {one}" for one in told]
    return found


def added(old: Document, new: Document) -> list[str]:
    """The operations that are new."""
    return [name(each) for each in sorted(operations(new).keys() - operations(old).keys())]


def operations(described: Document) -> dict[Operation, Document]:
    """Every operation by path and method."""
    return {(path, method): each for path, methods in described["paths"].items() for method, each in methods.items()}


def name(operation: Operation) -> str:
    """How an operation is called in words."""
    return f"{operation[1].upper()} {operation[0]}"


def _requests(old: Document, new: Document, before: Document, after: Document) -> Iterator[str]:
    """Whatever could be left out, or sent, and no longer can."""
    known, asked = _parameters(before), _parameters(after)
    yield from (f"parameter {each} is gone" for each in sorted(known.keys() - asked.keys()))
    for each, parameter in sorted(asked.items()):
        if parameter.get("required") and not known.get(each, {}).get("required"):
            yield f"parameter {each} is now required"
    kinds, wanted = _content(before.get("requestBody", {})), _content(after.get("requestBody", {}))
    yield from (f"a body of {kind} is no longer taken" for kind in sorted(kinds.keys() - wanted.keys()))
    for kind in sorted(kinds.keys() & wanted.keys()):
        yield from _tighter(
            _fields(old, kinds[kind]), _fields(new, wanted[kind]), _needed(old, new, kinds, wanted, kind)
        )


def _needed(old: Document, new: Document, kinds: Document, wanted: Document, kind: str) -> set[str]:
    required = (set(_resolved(each, part[kind]).get("required", ())) for each, part in ((new, wanted), (old, kinds)))
    return next(required) - next(required)


def _tighter(known: Document, asked: Document, needed: set[str]) -> Iterator[str]:
    yield from (f"field {each} of the body is gone" for each in sorted(known.keys() - asked.keys()))
    yield from (f"field {each} of the body is now required" for each in sorted(needed))


def _answers(old: Document, new: Document, before: Document, after: Document) -> Iterator[str]:
    """Whatever came back and no longer does, or has another type."""
    for status in sorted(each for each in before["responses"] if each.startswith("2")):
        if status not in after["responses"]:
            yield f"is no longer answered with {status}"
            continue
        was, comes = _content(before["responses"][status]), _content(after["responses"][status])
        yield from (f"{kind} is no longer answered" for kind in sorted(was.keys() - comes.keys()))
        for kind in sorted(was.keys() & comes.keys()):
            yield from _poorer(_fields(old, was[kind]), _fields(new, comes[kind]))


def _poorer(known: Document, comes: Document) -> Iterator[str]:
    for each, schema in sorted(known.items()):
        if each not in comes:
            yield f"field {each} of the answer is gone"
        elif schema.get("type") != comes[each].get("type"):
            yield f"field {each} of the answer was {schema.get('type')} and is {comes[each].get('type')}"


def _parameters(operation: Document) -> dict[str, Document]:
    return {f"{each['name']} ({each['in']})": each for each in operation.get("parameters", ())}


def _content(part: Document) -> dict[str, Document]:
    return {kind: each.get("schema", {}) for kind, each in part.get("content", {}).items()}


def _resolved(described: Document, schema: Document) -> Document:
    reference = schema.get("$ref")
    if not isinstance(reference, str):
        return schema
    found: Document = described["components"]["schemas"].get(reference.rpartition("/")[2], {})
    return found


def _fields(described: Document, schema: Document, path: str = "", depth: int = 6) -> dict[str, Document]:
    """Every field of a schema by its path, lists shown as `[]`; deeper than `depth` nobody looks."""
    whole = _resolved(described, schema)
    found: dict[str, Document] = {}
    if depth == 0:
        return found
    for each, inner in whole.get("properties", {}).items():
        here = f"{path}.{each}" if path else each
        found[here] = _resolved(described, inner)
        found |= _fields(described, inner, here, depth - 1)
    if "items" in whole:
        found |= _fields(described, whole["items"], f"{path}[]", depth - 1)
    for inner in (*whole.get("anyOf", ()), *whole.get("allOf", ())):
        found |= _fields(described, inner, path, depth - 1)
    return found


def main(words: Sequence[str] | None = None) -> int:
    """Write or check; 0 where the kept document is that of the code."""
    parser = argparse.ArgumentParser(prog="python -m app.contract")
    parser.add_argument("file", type=Path, help="the kept document")
    parser.add_argument("--check", action="store_true", help="compare and write nothing")
    options = parser.parse_args(words)
    made = document()
    kept = json.loads(options.file.read_text()) if options.file.exists() else {"paths": {}}
    for sentence in (
        *(f"breaks: {each}" for each in breaking(kept, made)),
        *(f"new: {each}" for each in added(kept, made)),
    ):
        sys.stdout.write(f"{sentence}\n")
    if not options.check:
        options.file.write_text(text(made))
        return 0
    return int(text(made) != (options.file.read_text() if options.file.exists() else ""))


if __name__ == "__main__":
    sys.exit(main())
