"""`bench`: speed as a ratio to the plain way."""

from __future__ import annotations

import argparse
from pathlib import Path

from captioning.commands.shared import Subparsers, add_json, make_folder, print_json, print_progress, wants_json
from captioning.core.errors import OptionsError
from captioning.core.types import plain_dict
from captioning.core.whole_files import write_whole


def add(commands: Subparsers) -> None:
    """Add the command and its flags."""
    bench = commands.add_parser("bench", help="measure speed as a ratio to the plain way")
    bench.add_argument("--case", action="append", dest="cases", metavar="NAME", help="only this case; may be repeated")
    bench.add_argument("--quick", action="store_true", help="fewer repetitions, and of all cases only a few")
    bench.add_argument("--out", type=Path, help="also write the table to this file")
    add_json(bench)
    bench.set_defaults(run=_bench)


def _bench(options: argparse.Namespace) -> int:
    from captioning.bench import CASES, as_table, run_cases

    unknown = sorted(set(options.cases or ()) - set(CASES))
    if unknown:
        raise OptionsError(f"There is no case {', '.join(unknown)}; choose from {', '.join(CASES)}.")
    if options.out:
        make_folder(options.out.parent)
    results = run_cases(options.cases or [], quick=options.quick, report=print_progress)
    table = as_table(results)
    if options.out:
        write_whole(options.out, table)
    if wants_json(options):
        print_json([plain_dict(result) for result in results])
    else:
        print(table)
    return 0
