"""Build the dashboard as `demo`, and launch it when run: `python app.py --help` lists the flags."""

from __future__ import annotations

import argparse
import hmac
import os
import sys
import threading
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

from captioning import runtime  # sets its switches before gradio looks for them

with runtime.no_interface_files():
    import gradio as gr
from starlette.middleware import Middleware

from captioning.assets import read_style
from captioning.cache import SharedCaptioner, load_captioner
from captioning.errors import CaptioningError
from captioning.image_map import warm_up as warm_up_maps
from captioning.settings import get_settings
from captioning.tabs import TABS
from captioning.ui.address import check_address, read_host
from captioning.ui.endpoints import add_endpoints
from captioning.ui.guard import RequestGuard
from captioning.ui.links import open_links
from captioning.ui.login import LoginGate, check_login, read_names
from captioning.ui.model_menu import Header
from captioning.ui.page import LoadCaptioner
from captioning.ui.showcase import prepare, tour
from captioning.ui.temporary import own_folder, sweeping
from captioning.ui.theme import make_theme
from captioning.ui.visitor import for_visitors

_QUIET_SECONDS = 10.0
"""How long no new picture must have been captioned before work that can wait begins."""


def build_demo(load: LoadCaptioner = load_captioner, model: str | None = None) -> gr.Blocks:
    """The whole page; `load` makes captioners, and `model` is the one that answers first."""
    own_folder()  # before any part of the page asks where files go
    demo = gr.Blocks(
        title="Captionscope",
        analytics_enabled=False,
        fill_width=True,
    )
    first_model = model or get_settings().model
    load = for_visitors(load, first_model)
    with demo:
        header = Header(load, first_model)
        header.page.tabs.render()  # type: ignore[no-untyped-call]
        with header.page.tabs:
            for tab in TABS:
                with gr.Tab(tab.title, id=tab.tab_id):
                    tab.build(header.page)
        header.connect(demo)
        open_links(demo, header.page, [tab.tab_id for tab in TABS])
        add_endpoints(load, first_model)
    demo.queue(api_open=False, max_size=get_settings().queue_size, default_concurrency_limit=1)
    return demo


def launch_options() -> dict[str, Any]:
    """What `demo.launch` needs beyond an address: looks, limits, and nothing that records or contacts anybody."""
    settings = get_settings()
    upload_bytes = max(settings.max_upload_bytes, settings.video_bytes)
    doors = [Middleware(RequestGuard, upload_bytes, settings.max_request_bytes)]
    if check_login(settings):
        doors.insert(0, Middleware(LoginGate, read_names(settings.login_names)))
    password = settings.password.encode()
    return {
        "theme": make_theme(),
        "css": read_style(),
        "auth": (lambda _, given: hmac.compare_digest(given.encode(), password)) if password else None,
        "auth_message": "Any name will do; the password is the one you were given.",
        "show_error": False,
        "run_history": False,
        "enable_monitoring": False,
        "share": False,
        "ssr_mode": False,
        "pwa": False,
        "footer_links": ["api"],
        "max_file_size": upload_bytes,
        "state_session_capacity": settings.sessions,
        "app_kwargs": {"middleware": doors, "lifespan": sweeping},
    }


def read_flags(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line's flags; what is not given comes from `GRADIO_…` and `CAPTIONSCOPE_…` variables."""
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
    parser.add_argument("--root-path", help="path under which a proxy serves it (default: GRADIO_ROOT_PATH)")
    parser.add_argument("--model", help="registry name, folder or hub name that answers first (default: auto)")
    parser.add_argument("--device", help="cpu, cuda, … (default: auto)")
    parser.add_argument("--precision", help="float32, bfloat16 or float16 (default: what suits the device)")
    parser.add_argument("--showcase", action="store_true", help="try everything first, and print links for a tour")
    parser.add_argument("--show-settings", action="store_true", help="print every limit and default, and end")
    return parser.parse_args(arguments)


def launch(flags: argparse.Namespace) -> None:
    """Serve the page until Ctrl+C; the first model is made ready meanwhile."""
    model = flags.model or get_settings().model
    try:
        check_address(flags.host, flags.port)
        _check_machine(flags)
        if flags.showcase:
            for line in prepare(_load, model):
                print(line, flush=True)
    except CaptioningError as error:
        sys.exit(f"captionscope: {error}")
    if runtime.ON_ZERO_GPU:
        _warm_up(model)  # before the launch and in this thread: only then are its weights sent ahead to the GPU
    _, address, _ = demo.launch(
        server_name=flags.host,
        server_port=flags.port,
        root_path=flags.root_path,
        prevent_thread_lock=True,
        quiet=True,
        **launch_options(),
    )
    print(f"Captionscope is open at {address} (Ctrl+C ends it).", flush=True)
    if flags.showcase:
        print(tour(address), flush=True)
    threading.Thread(target=_get_ready, args=(model,), daemon=True).start()
    demo.block_thread()


def _check_machine(flags: argparse.Namespace) -> None:
    """Raises `OptionsError` for a device or a precision that is not to be had here."""
    device, precision = flags.device or get_settings().device, flags.precision or get_settings().precision
    known = device in ("auto", "cpu") and precision in ("auto", *runtime.PRECISIONS)
    if not known:  # asking torch takes seconds, which the page need not wait for otherwise
        runtime.choose_precision(runtime.choose_device(device, may_be_lent=True), precision)


def _get_ready(model: str) -> None:
    """What the first visitors would otherwise wait for: the model, and what maps compile once a process.

    Compiling holds up whatever else runs, so it begins when no new picture was captioned for a while.
    """
    captioner = _warm_up(model)
    before, now = -1, 0
    while captioner is not None and before != now:
        before = captioner.status().encoded_images
        time.sleep(_QUIET_SECONDS)
        now = captioner.status().encoded_images
    warm_up_maps()


def _warm_up(model: str) -> SharedCaptioner | None:
    """Load the first model before anybody asks; whoever opens the page meanwhile waits for the same load."""
    try:
        return _load(model)
    except CaptioningError as error:
        print(f"captionscope: {error}", file=sys.stderr)
        return None


_flags = read_flags(sys.argv[1:] if __name__ == "__main__" else [])
if _flags.show_settings:
    print(get_settings().describe())
    sys.exit()
_load = partial(load_captioner, device=_flags.device, precision=_flags.precision)
try:
    demo = build_demo(_load, _flags.model)
except CaptioningError as error:
    sys.exit(f"captionscope: {error}")

if __name__ == "__main__":
    launch(_flags)
