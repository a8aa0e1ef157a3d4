"""Files as an attacker or a bad disk makes them: whole ones with bytes changed, left out, doubled and cut off."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

_INTERESTING = [0, 1, 2, 3, 0x7F, 0x80, 0xFE, 0xFF]


@st.composite
def damaged(draw: st.DrawFn, wholes: list[bytes]) -> bytes:
    """One of `wholes` after up to eight changes."""
    data = bytearray(draw(st.sampled_from(wholes)))
    for _ in range(draw(st.integers(0, 8))):
        if not data:
            break
        # Heads of files decide most: half of the changes go there.
        limit = len(data) - 1 if draw(st.booleans()) else min(len(data) - 1, 96)
        place = draw(st.integers(0, limit))
        change = draw(st.sampled_from(["set", "set", "number", "cut", "insert", "repeat", "remove"]))
        if change == "set":
            data[place] = draw(st.sampled_from(_INTERESTING) | st.integers(0, 255))
        elif change == "number":
            width = draw(st.sampled_from([2, 4, 8]))
            order: Any = draw(st.sampled_from(["big", "little"]))
            number = draw(st.sampled_from([0, 1, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1])) % 256**width
            data[place : place + width] = number.to_bytes(width, order)
        elif change == "cut":
            del data[place:]
        elif change == "insert":
            data[place:place] = draw(st.binary(max_size=40))
        elif change == "repeat":
            data[place:place] = data[place : place + draw(st.integers(1, 200))]
        else:
            del data[place : place + draw(st.integers(1, 200))]
    return bytes(data)
