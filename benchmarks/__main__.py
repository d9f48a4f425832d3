"""Measure contenders side by side: `python -m benchmarks [--scenario drain,...] [--contenders ours,...]`.

Each round measures every contender once, in an order that changes from round to round, so that what the
machine does besides falls on all. Results are added to results.json in docs/benchmarks, and the report
there is made of it.
"""

from __future__ import annotations

import argparse
import datetime
import signal
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

from benchmarks import report
from benchmarks.runner import NAMES, Entrant, Failed, Services, commit, machine

SCENARIOS = sorted(path.stem for path in (Path(__file__).parent / "scenarios").glob("[a-z]*.py"))


def chosen(given: str, known: list[str], what: str) -> list[str]:
    """Return the names in a comma-separated list, or all. Ends the program for one that is not known."""
    names = [name.strip() for name in given.split(",") if name.strip()] or known
    if unknown := [name for name in names if name not in known]:
        sys.exit(f"no {what} {', '.join(unknown)}; there are: {', '.join(known)}")
    return names


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scenario", default="", help="comma-separated; default: all")
    parser.add_argument("--contenders", default="", help="comma-separated; default: all that can take part")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--out", type=Path, default=report.FOLDER, help="folder of the results and the report"
    )
    options = parser.parse_args()
    scenarios = chosen(options.scenario, SCENARIOS, "scenario")
    names = chosen(options.contenders, NAMES, "contender")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # By way of what stops the workers.
    services = Services()
    entrants: dict[str, Entrant] = {}
    try:
        for scenario in scenarios:
            run(scenario, names, options.rounds, services, entrants, options.out)
    finally:
        for entrant in entrants.values():
            entrant.rest()
        services.stop()
    report.write(options.out)


def run(
    scenario: str,
    names: list[str],
    rounds: int,
    services: Services,
    entrants: dict[str, Entrant],
    out: Path,
) -> None:
    """Measure one scenario and add what came of it to the results."""
    module = import_module(f"benchmarks.scenarios.{scenario}")
    samples: dict[str, dict[str, list[float]]] = {}
    failures: dict[str, str] = {}
    print(f"\n{module.TITLE} ({module.UNIT})", flush=True)
    for round_ in range(rounds):
        for name in names if round_ % 2 == 0 else reversed(names):
            if name in failures or not takes_part(name, module):
                continue
            try:
                if name not in entrants:
                    entrants[name] = Entrant(name, services)
                figures = module.measure(entrants[name])
            except Failed as failure:
                failures[name] = str(failure)
                samples.pop(name, None)  # Whose figures of other rounds are worth nothing now.
                print(f"  {name}: {failure}", flush=True)
                continue
            finally:
                if name in entrants:
                    entrants[name].rest()
            for variant, figure in figures.items():
                samples.setdefault(name, {}).setdefault(variant, []).append(figure)
            shown = ", ".join(f"{variant} {report.number(figure)}" for variant, figure in figures.items())
            print(f"  round {round_ + 1}  {name}: {shown}", flush=True)
    about = {
        "title": module.TITLE,
        "unit": module.UNIT,
        "less": getattr(module, "LESS", False),
        "measured": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        "commit": commit(),
        "machine": machine(),
        "server": services.server(),
        "failures": failures,
        "contenders": {
            name: {
                "version": entrants[name].version(),
                "settings": entrants[name].kind.settings,
                "samples": each,
            }
            for name, each in samples.items()
        },
    }
    if samples:
        report.add(out, scenario, about)
    print(report.table(about), flush=True)


def takes_part(name: str, module: ModuleType) -> bool:
    """Tell whether a contender can be measured in a scenario."""
    from benchmarks.contender import load

    kind = load(name)
    if kind.only and module.__name__.rpartition(".")[2] not in kind.only:
        return False
    return kind.kinds >= module.KINDS and (kind.scales or not getattr(module, "SCALES", False))


if __name__ == "__main__":
    main()
