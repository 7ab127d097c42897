"""Unit tests of minicbor: python3 -m unittest discover -s tests/support -p 'test_minicbor.py'"""
import math
import os
import random
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import minicbor as cbor
from minicbor import (GO, LAX, STRICT, BadText, CBORError, Claim, Indef, Pairs, Raw, Rules, Simple, Tag,
                      Truncated, Wide, decode, decode_prefix, encode)

# RFC 8949 appendix A: what has one shortest, definite form.
EXAMPLES = [
    (0, "00"), (1, "01"), (10, "0a"), (23, "17"), (24, "1818"), (25, "1819"), (100, "1864"), (255, "18ff"),
    (256, "190100"), (1000, "1903e8"), (65535, "19ffff"), (65536, "1a00010000"), (1000000, "1a000f4240"),
    (1000000000000, "1b000000e8d4a51000"), (2**64 - 1, "1bffffffffffffffff"),
    (-2**64, "3bffffffffffffffff"), (-1, "20"), (-10, "29"), (-100, "3863"), (-1000, "3903e7"),
    (False, "f4"), (True, "f5"), (None, "f6"), (cbor.UNDEFINED, "f7"), (Simple(16), "f0"),
    (Simple(255), "f8ff"), (1.1, "fb3ff199999999999a"), (-4.1, "fbc010666666666666"),
    (Tag(1, 1363896240), "c11a514b67b0"), (b"", "40"), (b"\1\2\3\4", "4401020304"), ("", "60"), ("a", "6161"),
    ("IETF", "6449455446"), ("\u00fc", "62c3bc"), ("\u6c34", "63e6b0b4"), ("\U00010151", "64f0908591"),
    ([], "80"), ([1, [2, 3], [4, 5]], "8301820203820405"), ({}, "a0"), ({1: 2, 3: 4}, "a201020304"),
    ({"a": 1, "b": [2, 3]}, "a26161016162820203"), (["a", {"b": "c"}], "826161a161626163"),
    (list(range(1, 26)), "98190102030405060708090a0b0c0d0e0f101112131415161718181819"),
]
# What STRICT refuses and LAX understands.
TOLERATED = [
    ("1800", 0), ("1817", 23), ("1900ff", 255), ("1a0000ffff", 65535), ("1b00000000ffffffff", 2**32 - 1),
    ("3800", -1), ("580161", b"a"), ("7900016161"[:6] + "61", "a"), ("980101", [1]), ("b8010102", {1: 2}),
    ("5f42010243030405ff", b"\1\2\3\4\5"), ("7f657374726561646d696e67ff", "streaming"), ("5fff", b""),
    ("7fff", ""), ("9fff", []), ("9f018202039f0405ffff", [1, [2, 3], [4, 5]]), ("bfff", {}),
    ("bf61610161629f0203ffff", {"a": 1, "b": [2, 3]}), ("a201020103", {1: 3}), ("61ff", "\udcff"),
]
# What nobody may accept.
BROKEN = ["", "18", "19ff", "1c", "1d", "1e", "3f", "1f", "df", "fc", "ff", "f800", "f818", "41", "4201", "61",
          "7bffffffffffffffff61", "5bffffffffffffffff", "9bffffffffffffffff00", "bbffffffffffffffff0000",
          "81", "8201", "a1", "a101", "a20102", "81ff", "a1ff00", "a100ff", "bf00ff", "5f00ff", "5f6161ff",
          "7f4161ff", "5f5f4100ffff", "7f7f6161ffff", "5f41", "9f", "9f01", "bf0001", "c1", "0000", "a18001"]


class Encoding(unittest.TestCase):
    def test_examples(self):
        for value, text in EXAMPLES:
            self.assertEqual(encode(value).hex(), text, value)

    def test_order_is_kept(self):
        self.assertEqual(encode({"op": 1, "a": 2}).hex(), "a2626f7001616102")

    def test_wrappers(self):
        cases = [
            (Raw(b"\xff\x00"), "ff00"), ([Raw(b"\x01")], "8101"), (BadText(b"\xff\xfe"), "62fffe"),
            (Pairs([("a", 1), ("a", 2)]), "a2616101616102"), (Wide(1, 1), "1801"), (Wide(1, 2), "190001"),
            (Wide(1), "1b0000000000000001"), (Wide(-1, 1), "3800"), (Wide(b"a", 4), "5a0000000161"),
            (Wide("a", 1), "780161"), (Wide([1], 1), "980101"), (Wide({1: 2}, 2), "b900010102"),
            (Indef([1]), "9f01ff"), (Indef([]), "9fff"), (Indef({1: 2}), "bf0102ff"), (Indef({}), "bfff"),
            (Indef(b"ab"), "5f426162ff"), (Indef([b"a", b"b"]), "5f41614162ff"), (Indef("a"), "7f6161ff"),
            (Indef(["a", "b"]), "7f61616162ff"), (Indef(Pairs([(1, 2), (1, 3)])), "bf01020103ff"),
            (Claim(cbor.ARRAY, 2**64 - 1), "9bffffffffffffffff"), (Claim(cbor.BYTES, 5, b"ab"), "456162"),
            ({"d": Claim(cbor.TEXT, 3, b"")}, "a1616463"),
        ]
        for value, text in cases:
            self.assertEqual(encode(value).hex(), text, value)

    def test_no_form(self):
        for value in (2**64, -2**64 - 1, object(), {1, 2}):
            with self.assertRaises(CBORError):
                encode(value)

    def test_nested(self):
        self.assertEqual(cbor.nested(3).hex(), "818181f6")
        self.assertEqual(cbor.nested(2, cbor.MAP, 7).hex(), "a100a10007")
        self.assertEqual(len(cbor.nested(1000000)), 1000001)


class Decoding(unittest.TestCase):
    def test_examples(self):
        for value, text in EXAMPLES:
            got = decode(bytes.fromhex(text))
            self.assertEqual(got, value)
            self.assertIs(type(got), type(value))

    def test_floats(self):
        for text, value in (("f93c00", 1.0), ("fa47c35000", 100000.0), ("f97c00", math.inf), ("f90000", 0.0)):
            self.assertEqual(decode(bytes.fromhex(text)), value)
        self.assertTrue(math.isnan(decode(bytes.fromhex("f97e00"))))

    def test_tolerated_only_when_asked(self):
        for text, value in TOLERATED:
            with self.assertRaises(CBORError, msg=text):
                decode(bytes.fromhex(text), STRICT)
            self.assertEqual(decode(bytes.fromhex(text), LAX), value, text)

    def test_each_rule_alone(self):
        for rule, text in (("shortest", "1800"), ("definite", "9fff"), ("utf8", "61ff"),
                           ("unique_keys", "a201020103")):
            for other in ("shortest", "definite", "utf8", "unique_keys"):
                rules = Rules(**{other: False})
                if other == rule:
                    decode(bytes.fromhex(text), rules)
                else:
                    with self.assertRaises(CBORError, msg=f"{text} without {other}"):
                        decode(bytes.fromhex(text), rules)

    def test_broken_for_all(self):
        for text in BROKEN:
            for rules in (STRICT, GO, LAX):
                with self.assertRaises(CBORError, msg=text):
                    decode(bytes.fromhex(text), rules)

    def test_truncated_is_told_apart(self):
        whole = encode({"op": 3, "path": "/workspace/a", "data": b"x" * 300, "l": [1, 2, {"k": None}]})
        for end in range(len(whole)):
            with self.assertRaises(Truncated):
                decode(whole[:end])
        with self.assertRaises(CBORError) as caught:
            decode(whole + b"\0")
        self.assertNotIsInstance(caught.exception, Truncated)

    def test_depth(self):
        for kind in (cbor.ARRAY, cbor.MAP, cbor.TAG):
            decode(cbor.nested(8, kind), Rules(max_depth=8))
            with self.assertRaises(CBORError):
                decode(cbor.nested(9, kind), Rules(max_depth=8))
            with self.assertRaises(CBORError):
                decode(cbor.nested(100000, kind))

    def test_utf8(self):
        for raw in (b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82", b"\x80"):
            with self.assertRaises(CBORError):
                decode(encode(BadText(raw)))
            self.assertEqual(decode(encode(BadText(raw)), LAX).encode("utf-8", "surrogateescape"), raw)
        # Each chunk of an indefinite text must be UTF-8 by itself.
        with self.assertRaises(CBORError):
            decode(bytes.fromhex("7f61c361bcff"), GO)

    def test_pairs_keep_repeats(self):
        rules = Rules(unique_keys=False, pairs=True)
        self.assertEqual(decode(bytes.fromhex("a201020103"), rules), Pairs([(1, 2), (1, 3)]))

    def test_prefix(self):
        data = encode(1) + encode("two") + encode([3])
        values, offset = [], 0
        while offset < len(data):
            value, offset = decode_prefix(data, offset)
            values.append(value)
        self.assertEqual(values, [1, "two", [3]])

    def test_round_trip(self):
        rng = random.Random(1)

        def make(depth):
            kind = rng.randrange(8 if depth < 4 else 6)
            if kind == 0:
                return rng.getrandbits(rng.choice((4, 5, 8, 16, 32, 64)))
            if kind == 1:
                return -1 - rng.getrandbits(rng.choice((4, 5, 8, 16, 32, 64)))
            if kind == 2:
                return rng.randbytes(rng.randrange(300))
            if kind == 3:
                return "".join(chr(rng.choice((0x41, 0xE9, 0x6C34, 0x1F600))) for _ in range(rng.randrange(40)))
            if kind == 4:
                return rng.choice((True, False, None))
            if kind == 5:
                return rng.random()
            if kind == 6:
                return [make(depth + 1) for _ in range(rng.randrange(6))]
            return {rng.choice("abcdefgh") + str(i): make(depth + 1) for i in range(rng.randrange(6))}

        for _ in range(500):
            value = make(0)
            self.assertEqual(decode(encode(value)), value)

    def test_random_bytes_never_escape(self):
        rng = random.Random(2)
        for _ in range(5000):
            data = rng.randbytes(rng.randrange(1, 40))
            for rules in (STRICT, GO, LAX):
                try:
                    decode(data, rules)
                except CBORError:
                    pass


if __name__ == "__main__":
    unittest.main()
