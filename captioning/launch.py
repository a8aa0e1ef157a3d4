"""Open the page: flags, a first model that is made ready meanwhile, and where the page can be found."""

from __future__ import annotations

import argparse
import os
import sys
import threading
import time
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from captioning.core import runtime
from captioning.core.errors import CaptioningError
from captioning.core.settings import get_settings
from captioning.image_map import warm_up as warm_up_maps
from captioning.page import launch_options
from captioning.serving.loading import LoadCaptioner, load_captioner
from captioning.serving.shared_captioner import SharedCaptioner
from captioning.web.address import check_address, read_host, read_root_path
from captioning.web.origins import read_addresses
from captioning.web.showcase import prepare, tour

if TYPE_CHECKING:
    import gradio as gr  # `page` imports it, in the way that is quick

_QUIET_SECONDS = 10.0
"""How long no new picture must have been captioned before work that can wait begins."""


def read_flags(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line's flags; `GRADIO_…` and `CAPTIONSCOPE_…` variables give the defaults."""
    parser = argparse.ArgumentParser(prog="python app.py", description="Open the Captionscope dashboard.")
    host = os.environ.get("GRADIO_SERVER_NAME", "127.0.0.1")
    parser.add_argument(
        "--host",
        type=read_host,
        default=host,
        help="address to listen on (default: GRADIO_SERVER_NAME or 127.0.0.1)",
    )
    port = os.environ.get("GRADIO_SERVER_PORT", "7860")
    parser.add_argument(
        "--port", type=int, default=port, help="port to listen on (default: GRADIO_SERVER_PORT, else 7860)"
    )
    parser.add_argument(
        "--root-path",
        type=read_root_path,
        default=os.environ.get("GRADIO_ROOT_PATH"),
        help="path under which a proxy serves it, such as /captions (default: GRADIO_ROOT_PATH)",
    )
    parser.add_argument("--hosts", metavar="NAMES", help="further names it is reached under, with commas")
    parser.add_argument("--origins", metavar="SITES", help="sites whose pages may use it, as https://example.org")
    parser.add_argument("--model", help="registry name, folder or hub name that answers first (default: auto)")
    parser.add_argument("--device", help="cpu, cuda, … (default: auto)")
    parser.add_argument("--precision", help="float32, bfloat16 or float16 (default: what suits the device)")
    parser.add_argument("--showcase", action="store_true", help="try everything first, and print links for a tour")
    parser.add_argument("--show-settings", action="store_true", help="print every limit and default, and end")
    return parser.parse_args(arguments)


def loader(flags: argparse.Namespace) -> LoadCaptioner:
    """Return what loads captioners on the device and in the precision that the flags name."""
    return partial(load_captioner, device=flags.device, precision=flags.precision)


def launch(demo: gr.Blocks, flags: argparse.Namespace) -> None:
    """Serve the page until Ctrl+C; the first model is made ready meanwhile."""
    load = loader(flags)
    model = flags.model or get_settings().model
    try:
        check_address(flags.host, flags.port)
        addresses = read_addresses(flags.hosts, flags.origins, flags.root_path, flags.host)
        _check_machine(flags)
        if flags.showcase:
            for line in prepare(load, model):
                print(line, flush=True)
    except CaptioningError as error:
        sys.exit(f"captionscope: {error}")
    if runtime.ON_ZERO_GPU:
        _warm_up(load, model)  # before the launch and in this thread: only then are its weights sent ahead to the GPU
    _, address, _ = demo.launch(
        server_name=flags.host,
        server_port=flags.port,
        root_path=flags.root_path,
        prevent_thread_lock=True,
        quiet=True,
        **launch_options(addresses),
    )
    print(f"Captionscope is open at {address} (Ctrl+C ends it).", flush=True)
    if flags.showcase:
        print(tour(address), flush=True)
    threading.Thread(target=_get_ready, args=(load, model), daemon=True).start()
    demo.block_thread()


def _check_machine(flags: argparse.Namespace) -> None:
    """Raise `OptionsError` for a device or a precision that this machine lacks."""
    device, precision = flags.device or get_settings().device, flags.precision or get_settings().precision
    known = device in ("auto", "cpu") and precision in ("auto", *runtime.PRECISIONS)
    if not known:  # asking torch takes seconds, which the page need not wait for otherwise
        runtime.choose_precision(runtime.choose_device(device, may_be_lent=True), precision)


def _get_ready(load: LoadCaptioner, model: str) -> None:
    """Load the first model, and compile the code of maps, before a visitor waits for either.

    Compiling holds up whatever else runs, so it begins when no new picture was captioned for a while.
    """
    captioner = _warm_up(load, model)
    before, now = -1, 0
    while captioner is not None and before != now:
        before = captioner.status().encoded_images
        time.sleep(_QUIET_SECONDS)
        now = captioner.status().encoded_images
    warm_up_maps()


def _warm_up(load: LoadCaptioner, model: str) -> SharedCaptioner | None:
    """Load the first model before anybody asks; whoever opens the page meanwhile waits for the same load."""
    try:
        return load(model)
    except CaptioningError as error:
        print(f"captionscope: {error}", file=sys.stderr)
        return None
