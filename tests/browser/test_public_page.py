"""The page as visitors meet it who may name only what is listed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.browser.test_model_page import caption_a_sample, open_tab
from tests.conftest import FakeLoader

pytestmark = pytest.mark.browser
OpenPage = Callable[..., Any]


@pytest.fixture
def visitors_page(open_page: OpenPage, change_settings: Callable[..., None]) -> Any:
    """A page on which everybody counts as a visitor."""
    change_settings(visitor_models="listed")
    return open_page(FakeLoader())


def test_the_model_menu_takes_and_offers_a_visitor_nothing_that_is_not_listed(visitors_page: Any) -> None:
    page = visitors_page
    field = page.locator("#cs-model input")
    for name in ("/etc", "somebody/huge-model"):
        field.fill(name)
        field.press("Enter")
        page.wait_for_selector(".cs-notice .cs-error:visible")
        assert "Visitors of this page choose from embedded," in page.locator(".cs-notice .cs-error").inner_text()
        page.wait_for_function("() => document.querySelector('#cs-model input').value === 'Embedded captioner'")
    field.click()
    page.get_by_role("option", name="BLIP base", exact=False).first.wait_for()
    assert page.get_by_role("option", name="LLaVA", exact=False).count() == 0


@pytest.mark.slow
def test_the_classifier_takes_no_name_from_a_visitor(visitors_page: Any) -> None:
    page = visitors_page
    caption_a_sample(page)
    open_tab(page, "Model", "Picture")
    page.wait_for_selector('.cs-patches[data-phase="done"]')
    page.locator("#cs-classifier input, #cs-classifier textarea").first.fill("somebody/classifier")
    page.locator("#cs-classify").click()
    page.get_by_text("Visitors of this page have none to choose from here").wait_for()
