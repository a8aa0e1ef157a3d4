"""Pages of other sites: what they may not ask of the server, and who may."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import fastapi
import gradio as gr
import httpx
import pytest
from gradio_client import Client, handle_file

from captioning.core.errors import OptionsError
from captioning.page import build_demo, launch_options
from captioning.web.origins import Addresses, read_addresses
from tests.conftest import FakeLoader
from tests.page_server import serve

ELSEWHERE = {"origin": "https://elsewhere.example"}
CALL = "gradio_api/call/model_info"


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with serve(FakeLoader()) as served:
        yield served


def ask(address: str, headers: dict[str, str]) -> tuple[int, str]:
    """Status and sentence of what a call with these headers is answered."""
    reply = httpx.post(f"{address}{CALL}", json={"data": ["auto"]}, headers=headers)
    return reply.status_code, reply.json().get("detail", "")


@pytest.mark.parametrize(
    "headers",
    [
        ELSEWHERE,
        {"origin": "null"},
        {"origin": "http://127.0.0.1:1"},
        {"origin": "http://127.0.0.1"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "cross-site", "origin": "null"},
    ],
)
def test_a_page_of_another_site_is_refused(address: str, headers: dict[str, str]) -> None:
    status, sentence = ask(address, headers)
    assert status == 403
    assert "Pages of other sites may not send requests to this server" in sentence
    upload = httpx.post(f"{address}gradio_api/upload", files={"files": b"x"}, headers=headers)
    assert upload.status_code == 403


@pytest.mark.parametrize("host", ["elsewhere.example", "elsewhere.example:7860", "127.0.0.1.elsewhere.example", "[x"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_name_that_another_site_points_here_is_refused(address: str, host: str, method: str) -> None:
    headers = {"host": host, "origin": f"http://{host}", "sec-fetch-site": "same-origin"}
    reply = httpx.request(method, f"{address}config", headers=headers)
    assert reply.status_code == 403
    assert f'does not answer under the name "{host}"' in reply.json()["detail"]


def test_the_page_itself_and_programs_are_answered(address: str, photo: Path) -> None:
    for headers in ({}, {"origin": address.rstrip("/")}, {"sec-fetch-site": "same-origin", **ELSEWHERE}):
        assert ask(address, headers)[0] == 200
    assert ask(address, {"sec-fetch-site": "none"})[0] == 200
    assert ask(address, {"host": "a-machine:7860", "origin": "http://a-machine:7860"})[0] == 200
    client = Client(address, verbose=False)
    assert client.predict(image=handle_file(photo), api_name="/caption")["captions"]


def test_a_page_elsewhere_may_link_to_this_one(address: str) -> None:
    assert httpx.get(address, headers={"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}).status_code == 200


def test_every_answer_says_who_may_embed_it_and_that_its_kind_is_sure(address: str) -> None:
    for headers in ({}, {"host": "elsewhere.example"}):
        reply = httpx.get(address, headers=headers)
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert reply.headers["referrer-policy"] == "same-origin"
        assert reply.headers["content-security-policy"] == (
            "frame-ancestors 'self' https://huggingface.co https://*.huggingface.co"
        )


def test_the_same_guard_stands_before_a_mounted_page() -> None:
    options = launch_options()
    app = gr.mount_gradio_app(
        fastapi.FastAPI(), build_demo(FakeLoader()), "/see", app_kwargs=options["app_kwargs"], show_error=False
    )

    async def statuses() -> list[int]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as client:
            url, body = f"/see/{CALL}", {"data": ["auto"]}
            replies = [await client.post(url, json=body, headers=headers) for headers in ({}, ELSEWHERE)]
            return [reply.status_code for reply in (*replies, await client.get("/see/", headers={"host": "a.example"}))]

    assert asyncio.run(statuses()) == [200, 403, 403]


@pytest.mark.parametrize(
    "host",
    [
        "",
        "localhost:7860",
        "127.0.0.1",
        "192.168.1.20:8000",
        "[fe80::1]:7860",
        "laptop",
        "laptop.local",
        "me-see.hf.space",
        "1a2b.gradio.live",
        "LOCALHOST.",
    ],
)
def test_names_that_no_other_site_can_own_need_no_setting(host: str) -> None:
    assert Addresses().has_host(host)


def test_settings_add_names_and_sites() -> None:
    here = read_addresses("captions.example.org:8443, *.lab.example", "https://Blog.example/", environment={})
    for host in ("captions.example.org", "gpu3.lab.example:80"):
        assert here.has_host(host)
    assert not here.has_host("example.org")
    assert here.has_sender("cross-site", "https://blog.example", "captions.example.org")
    assert not here.has_sender("cross-site", "https://blog.example.evil", "captions.example.org")


def test_a_root_path_that_is_an_address_names_the_server() -> None:
    for root_path, environment in (
        ("https://example.org/captions", {}),
        (None, {"GRADIO_ROOT_PATH": "https://example.org/captions"}),
    ):
        here = read_addresses("", "", root_path, environment=environment)
        assert here.has_host("example.org")
        assert here.has_sender("", "https://example.org", "127.0.0.1:7860")
    assert not read_addresses("", "", "/captions", environment={}).has_host("example.org")


def test_on_a_space_the_hub_alone_says_under_which_name_it_is_reached() -> None:
    assert read_addresses("", "", environment={"SPACE_ID": "me/see"}).has_host("captions.example.org")


def test_ports_that_browsers_leave_out_make_no_difference() -> None:
    assert Addresses().has_sender("", "https://example.org", "example.org:443")
    assert not Addresses().has_sender("", "https://example.org:8443", "example.org")


@pytest.mark.parametrize(
    ("hosts", "origins", "sentence"),
    [
        ("https://example.org", "", "is no host; write a name alone"),
        ("[", "", "is no host"),
        ("", "example.org", "is no origin; write it with its scheme"),
        ("", "https://example.org/page", "is no origin"),
        ("", "null", "is no origin"),
    ],
)
def test_what_is_no_host_or_origin_is_one_sentence(hosts: str, origins: str, sentence: str) -> None:
    with pytest.raises(OptionsError, match=sentence):
        read_addresses(hosts, origins, environment={})
