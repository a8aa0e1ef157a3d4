"""A part of the page as one file: what may run in it, and what cannot leave its place."""

import base64
import hashlib
import json
import re

from captioning.core.standalone_page import make_page

HOSTILE = "</script><script>alert(1)</script><!-- ${7*7}"


def elements(page: str) -> list[str]:
    """What stands in the elements that run, in order."""
    return re.findall(r"<script>(.*?)</script>", page, flags=re.DOTALL)


def test_only_the_given_scripts_may_run_and_pictures_come_from_where_they_may() -> None:
    page = make_page("Map", "<main></main>", {}, ["one()", "two()"], images="data: blob:", more="'unsafe-eval'")
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1]  # type: ignore[index]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data: blob:"
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in elements(page)]
    assert rules["script-src"].split() == [*(f"'sha256-{digest}'" for digest in hashes), "'unsafe-eval'"]
    assert elements(page)[1:] == ["one()", "two()"]


def test_data_titles_and_scripts_cannot_end_the_element_they_stand_in() -> None:
    page = make_page(HOSTILE, "", {"text": HOSTILE}, [f"show('{HOSTILE}')"])
    assert page.count("</script>") == 3, "the theme's, the data's and the given one"
    assert "alert(1)</script>" not in page
    data = page.split('id="cs-data">')[1].split("</script>")[0]
    assert json.loads(data) == {"text": HOSTILE}
