"""The command line, `python -m captioning …`; `--json` prints one JSON document and nothing else."""

from __future__ import annotations

import argparse
import io
import os
import re
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from captioning.commands import COMMANDS
from captioning.core.errors import CaptioningError

_WRONG_TYPE = re.compile(r"argument (.+?): invalid (\w+) value: (.*)", re.DOTALL)
"""How argparse complains of a value that its type refuses."""
_TYPES = {"int": "a whole number", "float": "a number", "Path": "a path"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 when all went well, 1 when something failed, 2 for a wrong command line.

    130 and 141 are what shells call ended by Ctrl+C and by a reader that has seen enough.
    """
    _show_what_can_be_shown()
    options = _make_parser().parse_args(arguments)
    run: Callable[[argparse.Namespace], int] = options.run
    try:
        status = run(options)
        sys.stdout.flush()
        return status
    except CaptioningError as error:
        print(f"captioning: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("captioning: stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:  # whoever reads, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python would complain once more at its end
        return 141
    except OSError as error:
        print(f"captioning: {_explain(error)}", file=sys.stderr)
        return 1


def _show_what_can_be_shown() -> None:
    """Let standard output replace what its encoding cannot show, such as a pipe's on Windows, rather than fail."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace" if stream is sys.stdout else "backslashreplace")


def _explain(error: OSError) -> str:
    """Return what the system reported of a file or folder, as a sentence."""
    said = error.strerror or str(error) or type(error).__name__
    place = error.filename2 or error.filename  # the second is what a file was to become
    if place is None:
        return f"The system refuses to go on: {said}."
    return f"{os.fsdecode(place)} cannot be used ({said}); check the path, or choose another."


class _Parser(argparse.ArgumentParser):
    """A parser that says in a sentence what a flag takes, rather than the name of a type."""

    def error(self, message: str) -> NoReturn:
        """Print the usage and the sentence, and leave with status 2."""
        wrong = _WRONG_TYPE.fullmatch(message)
        if wrong:
            message = f"argument {wrong[1]}: give {_TYPES.get(wrong[2], 'another value')}, not {wrong[3]}."
        super().error(message)


def _make_parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m captioning", description="See what an image-captioning model sees.")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
