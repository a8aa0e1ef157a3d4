"""Build the dashboard as `demo`, and launch it when run: `python app.py --help` lists the flags."""

from __future__ import annotations

import argparse
import os
import sys
import threading
from collections.abc import Sequence
from functools import partial
from typing import Any

from captioning import runtime  # noqa: F401  # sets its switches before gradio looks for them

import gradio as gr  # isort: skip
from starlette.middleware import Middleware

from captioning.cache import load_captioner
from captioning.errors import CaptioningError
from captioning.settings import get_settings
from captioning.tabs import TABS
from captioning.ui.endpoints import add_endpoints
from captioning.ui.guard import RequestGuard
from captioning.ui.model_menu import Header
from captioning.ui.page import LoadCaptioner
from captioning.ui.parts import read_style
from captioning.ui.theme import make_theme

_FILE_CHECK_SECONDS, _FILE_AGE_SECONDS = 600, 6 * 3600


def build_demo(load: LoadCaptioner = load_captioner, model: str | None = None) -> gr.Blocks:
    """The whole page; `load` makes captioners, and `model` is the one that answers first."""
    demo = gr.Blocks(
        title="Captionscope",
        analytics_enabled=False,
        fill_width=True,
        delete_cache=(_FILE_CHECK_SECONDS, _FILE_AGE_SECONDS),
    )
    with demo:
        header = Header(load, model or get_settings().model)
        with gr.Tabs(elem_id="cs-tabs"):
            for tab in TABS:
                with gr.Tab(tab.title, id=tab.tab_id):
                    tab.build(header.page)
        header.connect(demo)
        add_endpoints(load)
    demo.queue(api_open=False, max_size=get_settings().queue_size, default_concurrency_limit=1)
    return demo


def launch_options() -> dict[str, Any]:
    """What `demo.launch` needs beyond an address: looks, limits, and nothing that records or contacts anybody."""
    settings = get_settings()
    upload_bytes = max(settings.max_upload_bytes, settings.video_bytes)
    guard = Middleware(RequestGuard, upload_bytes, settings.max_request_bytes)
    return {
        "theme": make_theme(),
        "css": read_style(),
        "show_error": False,
        "run_history": False,
        "enable_monitoring": False,
        "share": False,
        "ssr_mode": False,
        "pwa": False,
        "footer_links": ["api"],
        "max_file_size": upload_bytes,
        "app_kwargs": {"middleware": [guard]},
    }


def read_flags(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line's flags; what is not given comes from `GRADIO_…` and `CAPTIONSCOPE_…` variables."""
    parser = argparse.ArgumentParser(prog="python app.py", description="Open the Captionscope dashboard.")
    parser.add_argument("--host", help="address to listen on (default: GRADIO_SERVER_NAME, else 127.0.0.1)")
    port = os.environ.get("GRADIO_SERVER_PORT", "7860")
    parser.add_argument(
        "--port", type=int, default=port, help="port to listen on (default: GRADIO_SERVER_PORT, else 7860)"
    )
    parser.add_argument("--root-path", help="path under which a proxy serves it (default: GRADIO_ROOT_PATH)")
    parser.add_argument("--model", help="registry name, folder or hub name that answers first (default: auto)")
    parser.add_argument("--device", help="cpu, cuda, … (default: auto)")
    parser.add_argument("--precision", help="float32, bfloat16 or float16 (default: what suits the device)")
    return parser.parse_args(arguments)


def launch(flags: argparse.Namespace) -> None:
    """Serve the page until Ctrl+C; the first model is made ready meanwhile."""
    try:
        _, address, _ = demo.launch(
            server_name=flags.host,
            server_port=flags.port,
            root_path=flags.root_path,
            prevent_thread_lock=True,
            quiet=True,
            **launch_options(),
        )
    except OSError:
        sys.exit(f"captionscope: port {flags.port} is taken; choose another with --port.")
    print(f"Captionscope is open at {address} (Ctrl+C ends it).", flush=True)
    threading.Thread(target=_warm_up, args=(flags.model or get_settings().model,), daemon=True).start()
    demo.block_thread()


def _warm_up(model: str) -> None:
    """Load the first model before anybody asks; whoever opens the page meanwhile waits for the same load."""
    try:
        _load(model)
    except CaptioningError as error:
        print(f"captionscope: {error}", file=sys.stderr)


_flags = read_flags(sys.argv[1:] if __name__ == "__main__" else [])
_load = partial(load_captioner, device=_flags.device, precision=_flags.precision)
demo = build_demo(_load, _flags.model)

if __name__ == "__main__":
    launch(_flags)
