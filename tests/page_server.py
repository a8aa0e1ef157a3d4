"""A dashboard served for a test, on a free port of this machine."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import gradio as gr

from captioning.page import build_demo, launch_options
from captioning.serving.loading import LoadCaptioner


@contextmanager
def serve(loader: LoadCaptioner) -> Iterator[str]:
    """The address of a dashboard whose captioners the loader makes."""
    with serve_demo(build_demo(loader, "auto")) as address:
        yield address


@contextmanager
def serve_demo(demo: gr.Blocks) -> Iterator[str]:
    """The address of a dashboard."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    _, address, _ = demo.launch(
        server_name="127.0.0.1", server_port=port, prevent_thread_lock=True, quiet=True, **launch_options()
    )
    try:
        yield address
    finally:
        demo.close(verbose=False)
