"""Many visitors at once, mixed: every request is answered or clearly refused, and the server is well afterwards.

`make soak` takes 64 visitors and two minutes; `make test-all` a short form.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.clips import make_clip
from tests.load.visitors import Outcome, visit

ROOT = Path(__file__).parents[2]
SOAK = os.environ.get("SOAK") == "1"
VISITORS, SECONDS = (64, 120) if SOAK else (12, 6)
_START_SECONDS = 60


@contextmanager
def running_server(**variables: str) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """`app.py` in a process of its own, with the embedded captioner."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"http://127.0.0.1:{port}/"
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CAPTIONSCOPE_MODEL": "embedded"} | variables
    process = subprocess.Popen([sys.executable, "app.py", "--port", str(port)], cwd=ROOT, env=environment)
    try:
        end = time.monotonic() + _START_SECONDS
        while not is_well(address):
            assert process.poll() is None, "the server ended"
            assert time.monotonic() < end, "the server did not start"
            time.sleep(0.2)
        yield address, process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


def is_well(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}theme.css", timeout=10) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def resident_megabytes(process: subprocess.Popen[bytes]) -> float:
    status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) / 1024


async def crowd(address: str, clip: bytes, visitors: int, seconds: float) -> Outcome:
    outcome = Outcome()
    await asyncio.gather(*(visit(address, clip, seconds, seed, outcome) for seed in range(visitors)))
    return outcome


@pytest.mark.slow
def test_a_crowd_is_served_or_refused_and_nothing_is_lost(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4").read_bytes()
    with running_server(CAPTIONSCOPE_CACHE_BYTES=str(8 * 2**20), CAPTIONSCOPE_SESSIONS="50") as (address, process):
        # What is loaded once, what fills the cache and the sessions that are remembered are there before memory is
        # looked at.
        asyncio.run(crowd(address, clip, VISITORS, SECONDS / 2))
        before = resident_megabytes(process)
        outcome = asyncio.run(crowd(address, clip, VISITORS, SECONDS))
        asyncio.run(crowd(address, clip, 1, 3))
        after = resident_megabytes(process)
        figures = outcome.summary() | {"megabytes_before": round(before), "megabytes_after": round(after)}
        print(json.dumps(figures))
        assert not outcome.lost, outcome.lost[:5]
        assert not outcome.strange, outcome.strange[:5]
        assert outcome.counts["answered"]
        assert sum(outcome.counts.values()) >= VISITORS, "somebody got no answer at all"
        assert is_well(address)
        assert after < before * 1.25 + 150
