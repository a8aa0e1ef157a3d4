"""What commands have in common: flags, the captioner they ask for, and how they print."""

from __future__ import annotations

import argparse
import errno
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from captioning.captions.prompts import DEFAULT_PROMPT
from captioning.core.errors import CaptioningError
from captioning.core.options import Values, make, parameters
from captioning.core.types import DecodingOptions

if TYPE_CHECKING:
    from captioning.core.contract import Captioner
    from captioning.media.named_files import NamedFiles
    from captioning.models.sources.hub import DownloadProgress
    from captioning.serving.shared_captioner import SharedCaptioner

Subparsers: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

_SECONDS_BETWEEN_LOG_LINES = 15.0


def add_prompts(parser: argparse.ArgumentParser) -> None:
    """Add `--prompt`."""
    parser.add_argument(
        "--prompt",
        dest="prompts",
        action="append",
        metavar="TEXT",
        help=f'start of the caption; may be repeated; "" is none (default: "{DEFAULT_PROMPT}")',
    )


def add_options(parser: argparse.ArgumentParser, kind: type) -> None:
    """Add a flag for every field of a values class."""
    for parameter in parameters(kind):
        parser.add_argument(parameter.flag, type=parameter.kind, default=parameter.default, help=parameter.meaning)


def read_options(options: argparse.Namespace, kind: type[Values]) -> Values:
    """Return the values that the flags of `add_options` were given. Raises `OptionsError`."""
    return make(kind, vars(options))


def add_decoding(parser: argparse.ArgumentParser) -> None:
    """Add a flag for every decoding option."""
    add_options(parser, DecodingOptions)


def read_decoding(options: argparse.Namespace) -> DecodingOptions:
    """Return the decoding options that were given. Raises `OptionsError`."""
    return read_options(options, DecodingOptions)


def add_model(parser: argparse.ArgumentParser, model: str | None = None, precision: str | None = None) -> None:
    """Add the flags that choose a captioner; without a `model` or `precision` the settings decide."""
    text = f"registry name, folder or hub name (default: {model or 'CAPTIONSCOPE_MODEL or auto'})"
    parser.add_argument("--model", default=model, help=text)
    parser.add_argument("--device", help="cpu, cuda, … (default: auto)")
    text = f"float32, bfloat16 or float16 (default: {precision or 'what suits the device'})"
    parser.add_argument("--precision", default=precision, help=text)


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add `--json`."""
    # Left alone where the flag is missing, so that `models --json info ID` and `models info ID --json` both work.
    parser.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print one JSON document")


def wants_json(options: argparse.Namespace) -> bool:
    """Return whether to print one JSON document and nothing else."""
    return getattr(options, "json", False)


def load(options: argparse.Namespace) -> SharedCaptioner:
    """Load the captioner that the flags name, and print on standard error which one it is."""
    from captioning.core.settings import get_settings
    from captioning.serving.loading import load_captioner

    model = options.model or get_settings().model
    captioner = load_captioner(model, options.device, options.precision, report=report_download)
    status = captioner.status()
    where = f"{status.title} on {status.device} in {status.precision} by {status.engine}"
    print(f"{where} {status.reason}".rstrip(), file=sys.stderr)
    return captioner


def report_download(progress: DownloadProgress) -> None:
    """Ignore progress: the download shows a bar of its own on the terminal."""


def expand_names(names: Sequence[str], find: Callable[[str], NamedFiles], errors: list[dict[str, str]]) -> list[str]:
    """Return the files that names stand for; what stands for none becomes one of the `errors`."""
    files: list[str] = []
    for name in names:
        try:
            found = find(name)
        except CaptioningError as error:
            report_failure(name, error, errors)
            continue
        files += found.files
        if found.note:
            print(f"captioning: {found.note}", file=sys.stderr)
    return files


def report_failure(name: str, error: CaptioningError, errors: list[dict[str, str]]) -> None:
    """Add a failure to the `errors` of a document, and say it on standard error."""
    errors.append({"image": name, "error": str(error)})
    print(f"captioning: {error}", file=sys.stderr)


def make_folder(folder: Path) -> None:
    """Make a folder to write to, before the work whose results it is for. Raises `OSError` where that cannot be."""
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))


def print_json(value: Any) -> None:
    """Print one JSON document; where standard output cannot show its letters they are escaped, so that none is lost."""
    text = json.dumps(value, ensure_ascii=False)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(value)
    print(text)


def print_figures(options: argparse.Namespace, captioner: Captioner, figures: dict[str, Any]) -> None:
    """Print what was measured, and on what, as JSON or a line a figure."""
    result = {"model": captioner.spec.model_id, "precision": captioner.precision, "split": options.split, **figures}
    if wants_json(options):
        print_json(result)
        return
    for name, value in result.items():
        print(f"{name:25} {value:.4f}" if isinstance(value, float) else f"{name:25} {value}")


def print_progress(line: str) -> None:
    """Tell how far work is, on standard error."""
    print(line, file=sys.stderr, flush=True)


class ProgressLine:
    """A line that shows the work done and the time left: rewritten on a terminal, repeated now and then in a log."""

    def __init__(self) -> None:
        self._what = ""
        self._started = self._shown = 0.0
        self._terminal = sys.stderr.isatty()

    def show(self, what: str, done: int, total: int) -> None:
        """Show the state, at most twice a second on a terminal; ends the line when all is done."""
        now = time.monotonic()
        if what != self._what:
            self._what, self._started, self._shown = what, now, now
        wait = 0.5 if self._terminal else _SECONDS_BETWEEN_LOG_LINES
        if not done or (now - self._shown < wait and done < total):
            return
        self._shown = now
        left = (now - self._started) / done * (total - done)
        line = f"{what} {done}/{total}, {left:.0f} s left"
        if self._terminal:
            print(f"\r{line} ", end="\n" if done == total else "", file=sys.stderr, flush=True)
        else:
            print(line, file=sys.stderr, flush=True)
