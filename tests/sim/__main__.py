"""Tells many stories, and says what is wrong in them and what odd things happened.

python -m tests.sim --schedules 1000 --first 0 --processes 2
python -m tests.sim --schedules 1000 --plan read_in_flight     stories of one moment; see plan.py
python -m tests.sim --seed 42                                  one story, with all that happens in it; also SEED=42
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from functools import partial

from tests.sim.plan import PLANS, Plan, plan
from tests.sim.story import MUST_HAPPEN, Told, tell

CHUNK = 50  # stories told by a process at a time
ENOUGH = 500  # so many stories must show every odd thing that is asked for
SHOWN_MAX = 20


def main() -> int:
    arguments = _arguments()
    if os.environ.get("PYTHONHASHSEED") != "0":  # or a seed would not tell the same story again
        os.environ["PYTHONHASHSEED"] = "0"
        os.execv(sys.executable, [sys.executable, "-m", "tests.sim", *sys.argv[1:]])
    if arguments.seed is not None:
        return _one(arguments.plan, arguments.seed)
    seeds = range(arguments.first, arguments.first + arguments.schedules)
    return _many(arguments.plan, seeds, arguments.processes)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--plan", choices=PLANS, default=plan.__name__, help="what happens in them; default: anything")
    parser.add_argument("--schedules", type=int, default=1000, help="how many stories")
    parser.add_argument("--first", type=int, default=0, metavar="SEED", help="the seed of the first")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--seed", type=int, default=os.environ.get("SEED"), help="tell this one, with a trace")
    return parser.parse_args()


def _one(kind: str, seed: int) -> int:
    told = tell(PLANS[kind](seed), print)
    print(*(f"{name}: {times}" for name, times in sorted(told.odd.items())), sep="\n")
    print(*told.wrong or ["nothing is wrong"], sep="\n")
    return int(bool(told.wrong))


def _many(kind: str, seeds: range, processes: int) -> int:
    began, bad, odd = time.perf_counter(), 0, Counter[str]()
    chunks = [seeds[start : start + CHUNK] for start in range(0, len(seeds), CHUNK)]
    with ProcessPoolExecutor(processes, initializer=gc.freeze) as pool:
        for number, (wrong, odder) in enumerate(pool.map(partial(_chunk, kind), chunks), 1):
            odd += odder
            for seed, what in wrong:
                bad += 1
                if bad <= SHOWN_MAX:
                    print(f"seed {seed}: {what}", flush=True)
            if number % 100 == 0:
                print(f"{number * CHUNK} stories, {bad} bad, {time.perf_counter() - began:.0f} s", flush=True)
    print(*(f"{times:>10} {name}" for name, times in sorted(odd.items())), sep="\n")
    asked = MUST_HAPPEN if kind == plan.__name__ and len(seeds) >= ENOUGH else ()
    missing = [name for name in asked if not odd[name]]
    print(*(f"never happened: {name}" for name in missing), sep="\n", end="")
    each_ms = (time.perf_counter() - began) / max(len(seeds), 1) * 1000
    print(f"{len(seeds)} stories, {bad} bad, {each_ms:.0f} ms each")
    return int(bool(bad or missing))


def _chunk(kind: str, seeds: Iterable[int]) -> tuple[list[tuple[int, str]], Counter[str]]:
    wrong, odd = [], Counter[str]()
    for seed in seeds:
        told = _tell(PLANS[kind](seed))
        wrong += [(seed, told.wrong[0])] if told.wrong else []
        odd += told.odd
    return wrong, odd


def _tell(drawn: Plan) -> Told:
    try:
        return tell(drawn)
    except Exception as error:
        return Told([f"the simulation failed: {error!r}"], Counter())


if __name__ == "__main__":
    sys.exit(main())
