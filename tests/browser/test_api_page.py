"""The page "Use via API": every argument explained, and nothing offered that does not work."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import FakeLoader

OpenPage = Callable[..., Any]


@pytest.mark.slow
def test_arguments_are_explained_and_no_server_is_offered_that_is_not_there(open_page: OpenPage) -> None:
    page = open_page(FakeLoader())
    page.goto(f"{page.url.split('?')[0]}?view=api")
    page.get_by_text("longest continuation, in tokens (between 1 and 500; default: 25)").first.wait_for()
    assert '"1st"' not in page.inner_text("body")
    assert page.locator("li", has_text="cURL").first.is_visible()
    assert not page.locator("li", has_text="MCP").first.is_visible()
