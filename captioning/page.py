"""The whole page: tabs under a header, endpoints beside them, and how it is served."""

from __future__ import annotations

import hmac
from typing import Any

from captioning.core import runtime  # sets its switches before gradio looks for them

with runtime.no_interface_files():
    import gradio as gr
from starlette.middleware import Middleware

from captioning.core.assets import read_style
from captioning.core.settings import get_settings
from captioning.serving.loading import LoadCaptioner, load_captioner
from captioning.tabs import TABS
from captioning.tabs.header import Header
from captioning.tabs.image_map.endpoint import add_map_endpoint
from captioning.ui.theme import make_theme
from captioning.web.api import Dashboard
from captioning.web.compression import CompressedPage
from captioning.web.endpoints import add_endpoints
from captioning.web.forms import form_routes
from captioning.web.guard import RequestGuard
from captioning.web.links import open_links
from captioning.web.login import LoginGate, check_login, read_names
from captioning.web.origins import Addresses, OriginGuard, read_addresses
from captioning.web.page_files import page_routes
from captioning.web.temporary import own_folder, sweeping
from captioning.web.visitor import for_visitors


def build_demo(load: LoadCaptioner = load_captioner, model: str | None = None) -> gr.Blocks:
    """Build the whole page; `load` makes captioners, and `model` is the one that answers first."""
    own_folder()  # before any part of the page asks where files go
    demo = Dashboard(
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
        add_map_endpoint(load, first_model)
    demo.queue(api_open=False, max_size=get_settings().queue_size, default_concurrency_limit=1)
    return demo


def launch_options(addresses: Addresses | None = None) -> dict[str, Any]:
    """Return what `demo.launch` needs beyond an address: looks, limits, and nothing that records or contacts anybody.

    `addresses` are those that the server answers under, by default what the settings say. `app_kwargs` holds every
    guard, for `gr.mount_gradio_app` too.
    """
    settings = get_settings()
    upload_bytes = max(settings.max_upload_bytes, settings.video_bytes)
    doors = [Middleware(OriginGuard, addresses or read_addresses())]
    if check_login(settings):
        doors.append(Middleware(LoginGate, read_names(settings.login_names)))
    doors += [Middleware(RequestGuard, upload_bytes, settings.max_request_bytes), Middleware(CompressedPage)]
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
        "mcp_server": False,
        "footer_links": ["api"],
        "max_file_size": upload_bytes,
        "state_session_capacity": settings.sessions,
        "app_kwargs": {"middleware": doors, "routes": [*form_routes(), *page_routes()], "lifespan": sweeping},
    }
