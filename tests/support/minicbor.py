"""A small CBOR (RFC 8949) codec for tests, written to say wrong things on purpose.

Encoding: `encode(obj)` gives the shortest, definite form of int, bytes, str, bool, None, float, list,
tuple, dict. These wrappers make everything else, good or bad, and may be nested anywhere:

    Raw(b"...")         these bytes as they are, whatever they are
    Pairs([(k, v),..])  a map in this order, repeated keys included
    Wide(obj, n)        the head's number in n bytes (1, 2, 4, 8) even where a shorter form exists
    Indef(obj)          an indefinite-length string (a list gives its chunks), array or map
    BadText(b"...")     a text string of these bytes, valid UTF-8 or not
    Claim(major, n, b)  a head that claims length n, followed by the bytes b
    Tag(n, obj), Simple(n), UNDEFINED

Decoding: `decode(data, rules)` wants exactly one item, `decode_prefix` gives the item and where it ends.
`Rules` says what is tolerated: STRICT nothing but the shortest definite form, GO what Go's usual decoder
(fxamacker/cbor with its defaults) lets through, LAX everything that has a meaning.
Every refusal is a CBORError, including input that ends too early (its subclass Truncated); a length
claimed by the input is compared with the bytes that are there before anything is built from it.
"""
from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

UINT, NINT, BYTES, TEXT, ARRAY, MAP, TAG, SIMPLE = range(8)
_WIDTHS = {1: 24, 2: 25, 4: 26, 8: 27}
_NAMES = ("unsigned", "negative", "byte string", "text string", "array", "map", "tag", "simple")


class CBORError(ValueError):
    """The bytes are not one acceptable CBOR item, or the object has no CBOR form."""


class Truncated(CBORError):
    """The bytes end before the item does."""


# --- what only a test would send ---------------------------------------------------------------------

class Raw(bytes):
    """Bytes put into the output as they are."""


class BadText(bytes):
    """The content of a text string, not checked."""


class Pairs(list):
    """A map as a list of pairs: order and repeated keys are kept."""


@dataclass(frozen=True)
class Wide:
    value: Any
    width: int = 8


@dataclass(frozen=True)
class Indef:
    value: Any


@dataclass(frozen=True)
class Claim:
    major: int
    length: int
    body: bytes = b""


@dataclass(frozen=True)
class Tag:
    number: int
    value: Any


@dataclass(frozen=True)
class Simple:
    number: int


UNDEFINED = Simple(23)


# --- encoding ----------------------------------------------------------------------------------------

def head(major: int, number: int, width: int = 0) -> bytes:
    """An item's first bytes: the shortest form, or the number in exactly `width` bytes."""
    if not 0 <= number < 1 << 64:
        raise CBORError(f"{number} does not fit a CBOR head")
    if width == 0:
        if number < 24:
            return bytes([major << 5 | number])
        width = next(w for w in _WIDTHS if number < 1 << (8 * w))
    return bytes([major << 5 | _WIDTHS[width]]) + number.to_bytes(width, "big")


def nested(depth: int, kind: int = ARRAY, core: Any = None) -> bytes:
    """`depth` arrays, maps (key 0) or tags around `core`, made without recursion."""
    opening = {ARRAY: b"\x81", MAP: b"\xa1\x00", TAG: b"\xc1"}[kind]
    return opening * depth + encode(core)


def encode(obj: Any) -> bytes:
    out = bytearray()
    _put(out, obj, 0)
    return bytes(out)


def _put(out: bytearray, obj: Any, width: int) -> None:
    if obj is None or isinstance(obj, bool):
        out.append({False: 0xF4, True: 0xF5, None: 0xF6}[obj])
    elif isinstance(obj, int):
        out += head(UINT, obj, width) if obj >= 0 else head(NINT, -1 - obj, width)
    elif isinstance(obj, Raw):
        out += obj
    elif isinstance(obj, BadText):
        out += head(TEXT, len(obj), width) + obj
    elif isinstance(obj, (bytes, bytearray, memoryview)):
        out += head(BYTES, len(obj), width)
        out += obj
    elif isinstance(obj, str):
        text = obj.encode("utf-8")
        out += head(TEXT, len(text), width) + text
    elif isinstance(obj, float):
        out += b"\xfb" + struct.pack(">d", obj)
    elif isinstance(obj, (dict, Pairs)):
        pairs = obj if isinstance(obj, Pairs) else obj.items()
        out += head(MAP, len(pairs), width)
        for key, value in pairs:
            _put(out, key, 0)
            _put(out, value, 0)
    elif isinstance(obj, (list, tuple)):
        out += head(ARRAY, len(obj), width)
        for value in obj:
            _put(out, value, 0)
    elif isinstance(obj, Wide):
        _put(out, obj.value, obj.width)
    elif isinstance(obj, Indef):
        _put_indefinite(out, obj.value)
    elif isinstance(obj, Claim):
        out += head(obj.major, obj.length) + obj.body
    elif isinstance(obj, Tag):
        out += head(TAG, obj.number, width)
        _put(out, obj.value, 0)
    elif isinstance(obj, Simple):
        out += head(SIMPLE, obj.number, 1 if obj.number >= 24 else width)
    else:
        raise CBORError(f"no CBOR form for {type(obj).__name__}")


def _put_indefinite(out: bytearray, value: Any) -> None:
    if isinstance(value, (dict, Pairs)):
        pairs = value if isinstance(value, Pairs) else value.items()
        major, items = MAP, [item for pair in pairs for item in pair]
    elif isinstance(value, (list, tuple)) and not (value and all(isinstance(v, (bytes, str)) for v in value)):
        major, items = ARRAY, list(value)
    else:                                            # a string, or a list of its chunks
        items = list(value) if isinstance(value, (list, tuple)) else [value]
        major = TEXT if isinstance(items[0], (str, BadText)) else BYTES
    out.append(major << 5 | 31)
    for item in items:
        _put(out, item, 0)
    out.append(0xFF)


# --- decoding ----------------------------------------------------------------------------------------

@dataclass(frozen=True)
class Rules:
    """What a decoder insists on; `pairs` gives maps as Pairs instead of dict."""
    shortest: bool = True
    definite: bool = True
    utf8: bool = True
    unique_keys: bool = True
    max_depth: int = 32
    pairs: bool = False


STRICT = Rules()
GO = Rules(shortest=False, definite=False, unique_keys=False)
LAX = Rules(shortest=False, definite=False, utf8=False, unique_keys=False, max_depth=100)

_BREAK = object()


class _Decoder:
    def __init__(self, data: bytes, offset: int, rules: Rules):
        self.data, self.pos, self.rules = data, offset, rules

    def take(self, count: int) -> bytes:
        if count > len(self.data) - self.pos:
            raise Truncated(f"{count} bytes wanted at {self.pos}, {len(self.data) - self.pos} left")
        self.pos += count
        return bytes(self.data[self.pos - count:self.pos])

    def read_head(self) -> tuple[int, int, int]:
        """(major, additional information, number); the number is 0 for an indefinite length."""
        start = self.pos
        first = self.take(1)[0]
        major, info = first >> 5, first & 31
        if info < 24:
            return major, info, info
        if info == 31:
            if major in (UINT, NINT, TAG):
                raise CBORError(f"{_NAMES[major]} of indefinite length at {start}")
            return major, info, 0
        if info > 27:
            raise CBORError(f"reserved head {first:#04x} at {start}")
        number = int.from_bytes(self.take(1 << (info - 24)), "big")
        least = (24, 1 << 8, 1 << 16, 1 << 32)[info - 24]
        if self.rules.shortest and major != SIMPLE and number < least:
            raise CBORError(f"{number} in more bytes than it needs at {start}")
        return major, info, number

    def item(self, depth: int, allow_break: bool = False) -> Any:
        start = self.pos
        major, info, number = self.read_head()
        indefinite = info == 31
        if major == SIMPLE:
            if indefinite and not allow_break:
                raise CBORError(f"break outside an indefinite item at {start}")
            return _BREAK if indefinite else self.simple(info, number, start)
        if indefinite and self.rules.definite:
            raise CBORError(f"{_NAMES[major]} of indefinite length at {start}")
        if major == UINT:
            return number
        if major == NINT:
            return -1 - number
        if major in (BYTES, TEXT):
            return self.chunks(major) if indefinite else self.string(major, number)
        if depth >= self.rules.max_depth:
            raise CBORError(f"nested deeper than {self.rules.max_depth} at {start}")
        if major == TAG:
            return Tag(number, self.item(depth + 1))
        need = number * (2 if major == MAP else 1)
        if need > len(self.data) - self.pos:
            raise Truncated(f"{_NAMES[major]} of {number} at {start}, {len(self.data) - self.pos} bytes left")
        if major == ARRAY:
            return self.array(depth + 1, None if indefinite else number)
        return self.map(depth + 1, None if indefinite else number)

    def simple(self, info: int, number: int, start: int) -> Any:
        if info in (20, 21):
            return info == 21
        if info == 22:
            return None
        if info >= 25:
            size, form = {25: (2, ">e"), 26: (4, ">f"), 27: (8, ">d")}[info]
            return struct.unpack(form, number.to_bytes(size, "big"))[0]
        if info == 24 and number < 32:
            raise CBORError(f"simple value {number} in two bytes at {start}")
        return Simple(number)

    def string(self, major: int, length: int) -> bytes | str:
        start = self.pos
        raw = self.take(length)
        if major == BYTES:
            return raw
        try:
            return raw.decode("utf-8", "strict" if self.rules.utf8 else "surrogateescape")
        except UnicodeDecodeError as error:
            raise CBORError(f"text at {start} is not UTF-8: {error.reason}") from None

    def chunks(self, major: int) -> bytes | str:
        parts = []
        while True:
            start = self.pos
            kind, info, number = self.read_head()
            if (kind, info) == (SIMPLE, 31):
                return (b"" if major == BYTES else "").join(parts)
            if kind != major or info == 31:
                raise CBORError(f"chunk at {start} is not a definite {_NAMES[major]}")
            parts.append(self.string(major, number))

    def array(self, depth: int, count: int | None) -> list:
        if count is not None:
            return [self.item(depth) for _ in range(count)]
        items = []
        while (value := self.item(depth, True)) is not _BREAK:
            items.append(value)
        return items

    def map(self, depth: int, count: int | None) -> dict | Pairs:
        pairs, seen = Pairs(), set()
        while count is None or len(pairs) < count:
            start = self.pos
            key = self.item(depth, allow_break=count is None)
            if key is _BREAK:
                break
            try:
                again = key in seen
                seen.add(key)
            except TypeError:
                raise CBORError(f"map key at {start} is itself a container") from None
            if again and self.rules.unique_keys:
                raise CBORError(f"key {key!r} repeated at {start}")
            pairs.append((key, self.item(depth)))
        return pairs if self.rules.pairs else dict(pairs)


def decode_prefix(data: bytes, offset: int = 0, rules: Rules = STRICT) -> tuple[Any, int]:
    """The item that begins at `offset`, and the offset behind it."""
    decoder = _Decoder(data, offset, rules)
    value = decoder.item(0)
    return value, decoder.pos


def decode(data: bytes, rules: Rules = STRICT) -> Any:
    """The one item that `data` consists of."""
    value, end = decode_prefix(data, 0, rules)
    if end != len(data):
        raise CBORError(f"{len(data) - end} bytes after the item")
    return value
