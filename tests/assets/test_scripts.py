"""The page's scripts by themselves, where Node is there to run them; `REQUIRE_NODE=1` fails without it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def test_functions_of_the_scripts() -> None:
    node = shutil.which("node")
    if node is None:
        assert os.environ.get("REQUIRE_NODE") != "1", "Node is not installed; install nodejs, or unset REQUIRE_NODE."
        pytest.skip("Node is not installed.")
    files = sorted(str(path) for path in HERE.rglob("*.test.js"))
    assert files
    done = subprocess.run([node, "--test", *files], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
