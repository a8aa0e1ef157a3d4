"""Bytes whose encoding nobody states → text: UTF-8 where they are, else the legacy encoding that makes most sense.

Each candidate decodes the bytes, and the text is judged: common characters of the encoding's own language speak for
it, rare ones, symbols, mixed alphabets and capitals within a word against it (after Li and Momoi 2001, who compare
character distributions).
"""

from __future__ import annotations

import itertools
import unicodedata
from collections.abc import Sequence
from functools import cache

_SAMPLE_BYTES = 20_000
"""So many bytes of the lines that are not ASCII decide."""
_CANDIDATES = (
    "cp437", "cp850", "cp1252", "cp1250", "cp1251", "cp866", "koi8_r", "cp932", "gbk", "cp950", "cp949", "euc_jp",
)  # fmt: skip
"""What zip programs, spreadsheets and editors of common systems write."""
_COMMON_SETS = {
    "cp932": ("shift_jis", 0x88, 0x97),
    "euc_jp": ("shift_jis", 0x88, 0x97),
    "gbk": ("gb2312", 0xB0, 0xD7),
    "cp950": ("big5", 0xA4, 0xC6),
    "cp949": ("euc_kr", 0xB0, 0xC8),
}
"""The national set of an encoding, and the first bytes between which it lists its everyday characters."""
_HANGUL = frozenset(
    "이다는에의가을를로은하고지한사기도아리자나시인대어서스해일라정그수부전제들보만있장니면여상구원주과성동비것치게우미소마안"
    "조신무선오내진물거국유공세경생현계요드용화위연분방년발트문중학름모간관역노음강영식산당개바호재저외명남"
)
_HANZI = frozenset(
    "的一是不了人我在有他这中大来上国个到说们为子和你地出道也时年得就那要下以生会自着去之过家学对可她里后小么心多天"
    "而能好都然没日于起还发成事只作当想看文无开手十用主行方又如前所本见经头面公同三已老从动两长知样现分将外但身些与"
    "高意进把法此实回二理美点月明其种声全工己话儿者向情部正名定女问力机给等几很业最间新什打便位因重走电四第门相次东"
    "政海口使教西再平真听世气信北少关并内加化由却代军产入先山五太水万市照片图风景花树春夏秋冬猫狗房车湖林红白黑园旅"
)


def decode_text(data: bytes) -> str:
    """A whole text: by its byte order mark, by its zeros, as UTF-8, or as the likeliest legacy encoding."""
    for mark, encoding in ((b"\xff\xfe\0\0", "utf-32"), (b"\0\0\xfe\xff", "utf-32"), (b"\xff\xfe", "utf-16"),
                           (b"\xfe\xff", "utf-16"), (b"\xef\xbb\xbf", "utf-8-sig")):  # fmt: skip
        if data.startswith(mark):
            return data.decode(encoding, errors="replace")
    unmarked = _utf16_without_mark(data)
    if unmarked is not None:
        return data.decode(unmarked, errors="replace")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        text = data.decode("utf-8", errors="replace")
    # A text of UTF-8 with a few bad bytes is still that; one of another encoding has hardly a whole character.
    whole = sum(1 for character in text if character > "\x7f" and character != "\ufffd")
    if whole > 4 * text.count("\ufffd"):
        return text
    odd = b"\n".join(line for line in data.splitlines() if not line.isascii())[:_SAMPLE_BYTES]
    return data.decode(guess_legacy(odd, "cp1252"), errors="replace")


def decode_names(names: Sequence[bytes]) -> list[str]:
    """Names that one program wrote, so that all are of one encoding: UTF-8, or the likeliest legacy one.

    Letters and their accents are joined, which macOS stores apart. No byte is lost without a sign in its place.
    """
    encoding = "utf-8" if all(_decodes(name, "utf-8") for name in names) else guess_legacy(b"\n".join(names))
    return [unicodedata.normalize("NFC", _decode_name(name, encoding)) for name in names]


def guess_legacy(data: bytes, usual: str = "cp437") -> str:
    """The legacy encoding in which bytes make most sense; of several that fit alike the `usual` one."""
    return max((usual, *_CANDIDATES), key=lambda encoding: _plausibility(data.decode(encoding, "replace"), encoding))


def _decode_name(name: bytes, encoding: str) -> str:
    # Of several programs after all, a name may be UTF-8 among others.
    able = [own for own in (encoding, "utf-8") if _decodes(name, own)] or [guess_legacy(name)]
    return name.decode(max(able, key=lambda own: _plausibility(name.decode(own), own)), errors="replace")


def _decodes(data: bytes, encoding: str) -> bool:
    try:
        data.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


def _utf16_without_mark(data: bytes) -> str | None:
    """UTF-16 shows by its zeros, which stand in every other place of what is mostly ASCII."""
    head = data[:2000]
    even, odd = head[0::2].count(0), head[1::2].count(0)
    if len(head) >= 4 and max(even, odd) * 4 > len(head) // 2 and min(even, odd) * 10 < max(even, odd):
        return "utf-16-be" if even > odd else "utf-16-le"
    return None


def _plausibility(text: str, encoding: str) -> float:
    """How well a text reads: about one for each byte that makes sense, less for each that does not."""
    score = 0.0
    padded = f"\n{text}\n"
    for before, character, after in zip(padded, text, padded[2:], strict=False):
        if character > "\x7f" or unicodedata.category(character) == "Cc":
            score += _weigh(character, encoding)
            score += _weigh_place(before, character, after)
    return score


def _weigh(character: str, encoding: str) -> float:
    kind = _script(character)
    if character in "\n\r\t":
        return 0.0
    if encoding == "utf-8" and kind in ("ideograph", "hangul", "kana"):
        return 2.0
    if kind == "ideograph":
        if encoding not in _COMMON_SETS or encoding == "cp949":
            return -3.0
        return (2.0 if _is_common(character, encoding) else -3.0) + 0.6 * (encoding == "gbk" and character in _HANZI)
    if kind == "kana":
        return 2.4 if encoding in ("cp932", "euc_jp") else 0.5
    if kind == "hangul":
        return 1.8 + 0.6 * (character in _HANGUL) if _is_common(character, encoding) else -3.0
    if kind in ("latin", "cyrillic"):
        return 1.0
    if kind == "wide punctuation":
        return 1.0
    if 0xFF61 <= ord(character) <= 0xFF9F and encoding == "cp932":
        return -0.5
    return 0.0 if character in "’‘“”–—…·©®°«»№×´ªº" else -2.0


def _weigh_place(before: str, character: str, after: str) -> float:
    """Against a letter that does not go with its neighbours."""
    kind = _script(character)
    if kind in ("ideograph", "hangul"):  # half of one may be the letter of another encoding
        return -1.5 * sum(neighbour.isascii() and neighbour.islower() for neighbour in (before, after))
    if character == "’":
        return 1.0 if before.isalpha() and after.isalpha() else 0.0
    if kind not in ("latin", "cyrillic"):
        return 0.0
    score = 0.0
    for one, other in itertools.pairwise((before, character, after)):
        scripts = {_script(one), _script(other)}
        if scripts == {"latin", "cyrillic"} or (len(scripts) == 1 and one.islower() and other.isupper()):
            score -= 1.0
    if kind == "latin" and before > "\x7f" and _script(before) == "latin":
        score -= 0.7  # accents seldom follow each other
    return score - (0.2 if character.isupper() and before.isalpha() else 0.0)


@cache
def _script(character: str) -> str:
    code = ord(character)
    if 0x3041 <= code <= 0x30FF:
        return "kana"
    if 0x4E00 <= code <= 0x9FFF:
        return "ideograph"
    if 0xAC00 <= code <= 0xD7A3:
        return "hangul"
    if 0x3000 <= code <= 0x3040 or 0xFF01 <= code <= 0xFF5E:
        return "wide punctuation"
    if not character.isalpha():
        return "none"
    name = unicodedata.name(character, "")
    return next((script for script in ("latin", "cyrillic") if name.startswith(script.upper())), "other")


@cache
def _is_common(character: str, encoding: str) -> bool:
    national, first, last = _COMMON_SETS[encoding]
    try:
        code = character.encode(national)
    except UnicodeEncodeError:
        return False
    return len(code) == 2 and first <= code[0] <= last
