"""Whether any dependency has a known hole: `pip-audit` over what is installed, its answer read to the end.

pip-audit passes over packages that it cannot look up and ends with 0 all the same. Here everything that was not looked
up fails, and so does an answer that never came. It needs the network, so it is no part of `make test`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

OURS = {"rootnote"}
COMMAND = ("pip-audit", "--format", "json", "--progress-spinner", "off")


def verdict(report: dict[str, Any]) -> list[str]:
    """What is wrong, one sentence each: holes, packages that were passed over, or a report about nothing."""
    packages = [each for each in report.get("dependencies", []) if each["name"].lower() not in OURS]
    if not packages:
        return ["nothing was audited"]
    found = [f"{each['name']}: not checked: {each['skip_reason']}" for each in packages if "skip_reason" in each]
    for each in packages:
        for hole in each.get("vulns", []):
            fixed = ", ".join(hole.get("fix_versions", [])) or "no version"
            found.append(f"{each['name']} {each['version']}: {hole['id']}, fixed in {fixed}")
    return found


def main() -> int:
    """Run pip-audit and judge its report; 0 only where every dependency was looked up and none has a known hole."""
    program = Path(sys.executable).with_name(COMMAND[0])
    told = subprocess.run([program, *COMMAND[1:]], capture_output=True, text=True, check=False)  # noqa: S603
    try:
        report = json.loads(told.stdout)
    except ValueError:
        sys.stderr.write(f"nothing was checked: pip-audit gave no report\n{told.stderr[-2000:]}\n")
        return 2
    wrong = verdict(report)
    sys.stderr.writelines(f"{each}\n" for each in wrong)
    sys.stdout.write(f"{len(report['dependencies'])} packages, {len(wrong)} findings\n")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
