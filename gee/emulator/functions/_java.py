"""What the service, written in Java, does with text: numbers as text, formats, expressions.

Sources: the documentation of the Java platform, version 11 (``java.util.Formatter``,
``java.lang.Double.toString`` and ``toHexString``, ``java.util.regex.Pattern`` and ``Matcher``),
to which the description of ``Number.format`` refers.
"""

from __future__ import annotations

import math
import re
import sys
import unicodedata
from collections.abc import Iterator
from decimal import ROUND_HALF_UP, Context, Decimal
from fractions import Fraction
from functools import lru_cache
from typing import Any

from ..budget import reserve
from ..errors import EngineError
from ..patterns import Pattern, pattern

__all__ = [
    "formatted", "from_units", "java_text", "key", "pattern_of", "replaced", "split", "units",
]  # fmt: skip

# Enough digits for every double, written out.
_WIDE = Context(prec=800)


# ------------------------------------------------------------------ numbers


def java_text(value: Any) -> str:
    """Write a number as ``Double.toString`` or ``Long.toString`` does.

    Examples
    --------
    >>> [java_text(v) for v in (1, 1.0, 1e7, 1.5e-5, True)]
    ['1', '1.0', '1.0E7', '1.5E-5', 'true']
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, float):
        return str(value)
    if not math.isfinite(value):
        return _not_finite(value)
    if value == 0 or 1e-3 <= abs(value) < 1e7:
        return format(_exact(value), "f") if not value.is_integer() else f"{value:.1f}"
    sign, digits, exponent = _exact(value).normalize().as_tuple()
    assert isinstance(exponent, int)
    text = "".join(map(str, digits))
    return f"{'-' * sign}{text[0]}.{text[1:] or '0'}E{exponent + len(text) - 1}"


def _exact(value: float) -> Decimal:
    """Return the shortest decimal number that reads back as a double."""
    # 4.9E-324, not 5E-324: of two digits the nearest.
    return Decimal(repr(value) if abs(value) > 1e-320 or not value else f"{value:.1e}")


def _not_finite(value: float) -> str:
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


_FORMAT = re.compile(r"([^%]*)%([-#+ 0,(.\d]*)([sdoxXeEfgGaA])([^%]*)", re.DOTALL)
_SPEC = re.compile(r"([-#+ 0,(]*)([1-9]\d*)?(?:\.(\d+))?")
# Flags that the formatter takes, by conversion.
_FLAGS = {"s": "-", "d": "-+ 0,(", "o": "-#0", "x": "-#0", "e": "-#+ 0(", "f": "-#+ 0,(",
          "g": "-+ 0,(", "a": "-#+ 0"}  # fmt: skip
_MOST_WIDTH = 10_000
_HEX_DIGITS = 13


def formatted(value: int | float, pattern: str) -> str:
    """Write a number with a format of ``java.util.Formatter``.

    Parameters
    ----------
    value : int or float
        Integers are written as doubles by the conversions of doubles, and doubles, without
        their fraction, as integers by those of integers.
    pattern : str
        One conversion between other characters.

    Raises
    ------
    EngineError
        The format is none, or Java's formatter refuses its flags.

    Examples
    --------
    >>> formatted(2.345, "%.2f"), formatted(42, "%05d"), formatted(-1234.5, "%(,.1f")
    ('2.35', '00042', '(1,234.5)')
    """
    found = _FORMAT.fullmatch(pattern)
    if found is None:
        raise EngineError(f"Invalid format string: '{pattern}'.")
    before, modifiers, conversion, after = found.groups()
    parts = _SPEC.fullmatch(modifiers)
    if parts is None:
        raise EngineError(f"Invalid format string: '{pattern}'.")
    flags = parts[1]
    width = int(parts[2]) if parts[2] else None
    precision = None if parts[3] is None else int(parts[3])
    lower = conversion.lower()
    wrong = [f for f in flags if f not in _FLAGS[lower] or flags.count(f) > 1]
    if (
        wrong
        or ({"-", "0"} <= set(flags))
        or ({"+", " "} <= set(flags))
        or (width is None and ("-" in flags or "0" in flags))
        or (precision is not None and lower in "dox")
        or max(width or 0, precision or 0) > _MOST_WIDTH
    ):
        raise EngineError(f"Invalid format string: '{pattern}'.")
    if lower == "s":
        text = java_text(value)[:precision]
    elif lower in "dox":
        text = _integer(value, lower, flags, width)
    else:
        text = _real(float(value), lower, flags, width, precision)
    if conversion.isupper():
        text = text.upper()
    if width is not None:
        text = text.ljust(width) if "-" in flags else text.rjust(width)
    return before + text + after


def _integer(value: int | float, conversion: str, flags: str, width: int | None) -> str:
    if isinstance(value, float) and math.isnan(value):
        value = 0
    low, high = -(2**63), 2**63 - 1
    whole = int(min(max(value, low), high))
    if conversion == "d":
        digits = f"{abs(whole):,}" if "," in flags else str(abs(whole))
        return _signed(whole < 0, digits, flags, width)
    # Two's complement, in 64 bits.
    digits = f"{whole & (2**64 - 1):{conversion}}"
    prefix = {"o": "0", "x": "0x"}[conversion] if "#" in flags else ""
    if "0" in flags and width is not None:
        digits = digits.rjust(width - len(prefix), "0")
    return prefix + digits


def _signed(negative: bool, digits: str, flags: str, width: int | None, prefix: str = "") -> str:
    before = "(" if negative and "(" in flags else "-" if negative else ""
    if not negative:
        before = "+" if "+" in flags else " " if " " in flags else ""
    after = ")" if before == "(" else ""
    before += prefix
    if "0" in flags and width is not None:
        digits = digits.rjust(width - len(before) - len(after), "0")
    return before + digits + after


def _real(
    value: float, conversion: str, flags: str, width: int | None, precision: int | None
) -> str:
    if math.isnan(value):
        return "NaN"
    negative = math.copysign(1, value) < 0
    size = abs(value)
    if math.isinf(value):
        return _signed(negative, "Infinity", flags.replace("0", ""), None)
    if conversion == "a":
        mark, _, digits = _hexadecimal(size, precision).partition("x")
        return _signed(negative, digits, flags, width, f"{mark}x")
    places = 6 if precision is None else precision
    if conversion == "g":
        places = max(places, 1)
        rounded = _to_digits(size, places)
        top = rounded.adjusted() if size else 0
        # Java: scientific from 10^precision on and below 10^-4, after rounding.
        if size and not -4 <= top < places:
            digits = _scientific(size, places - 1)
        else:
            digits = _fixed(rounded, places - 1 - top)
    elif conversion == "e":
        digits = _scientific(size, places)
    else:
        digits = _fixed(_exact(size), places)
    if "#" in flags and "." not in digits:
        mantissa, mark, exponent = digits.partition("e")
        digits = f"{mantissa}.{mark}{exponent}"
    if "," in flags and "e" not in digits:
        whole, mark, fraction = digits.partition(".")
        digits = f"{int(whole):,}{mark}{fraction}"
    return _signed(negative, digits, flags, width)


def _to_digits(size: float, digits: int) -> Decimal:
    exact = _exact(size)
    if not size:
        return exact
    last = exact.adjusted() - digits + 1
    return exact.quantize(Decimal(1).scaleb(last), ROUND_HALF_UP, _WIDE)


def _fixed(value: Decimal, places: int) -> str:
    return format(value.quantize(Decimal(1).scaleb(-places), ROUND_HALF_UP, _wide(places)), "f")


def _wide(places: int) -> Context:
    return Context(prec=_WIDE.prec + places)


def _scientific(size: float, places: int) -> str:
    if not size:
        return f"{'0.' + '0' * places if places else '0'}e+00"
    exact = _exact(size)
    rounded = exact.quantize(
        Decimal(1).scaleb(exact.adjusted() - places), ROUND_HALF_UP, _wide(places)
    )
    top = rounded.adjusted()
    digits = "".join(map(str, rounded.as_tuple().digits)).ljust(places + 1, "0")[: places + 1]
    mantissa = f"{digits[0]}.{digits[1:]}" if places else digits[0]
    return f"{mantissa}e{'-' if top < 0 else '+'}{abs(top):02d}"


def _hexadecimal(size: float, precision: int | None) -> str:
    """Write as ``Double.toHexString``: ``0x1.8p1``."""
    mantissa, _, exponent = size.hex().removeprefix("0x").partition("p")
    lead, _, fraction = mantissa.partition(".")
    power, places = int(exponent), 1 if precision is None else max(precision, 1)
    if precision is not None and size and places < _HEX_DIGITS:
        if lead == "0":
            # Below the normal numbers: with a leading 1, to be rounded.
            shift = _HEX_DIGITS * 4 + 1 - int(fraction, 16).bit_length()
            power -= shift
            fraction = f"{(int(fraction, 16) << shift) & (16**_HEX_DIGITS - 1):0{_HEX_DIGITS}x}"
        # To the nearest, halves to even, as IEEE 754 rounds.
        rounded = round(Fraction(int(f"1{fraction}", 16), 16 ** (_HEX_DIGITS - places)))
        lead = "1"
        if rounded >= 2 * 16**places:
            rounded, power = rounded // 2, power + 1
        fraction = f"{rounded - 16**places:0{places}x}"
    return f"0x{lead}.{fraction.rstrip('0').ljust(places, '0')}p{power}"


# ------------------------------------------------------------------ characters


def units(text: str) -> str:
    """Return text with one character per UTF-16 unit, which is what Java counts."""
    if text.isascii() or all(ord(c) < 0x10000 for c in text):
        return text
    raw = text.encode("utf-16-be", "surrogatepass")
    return "".join(chr(raw[i] << 8 | raw[i + 1]) for i in range(0, len(raw), 2))


def from_units(text: str) -> str:
    """Put pairs of UTF-16 units together again."""
    if text.isascii():
        return text
    return text.encode("utf-16-be", "surrogatepass").decode("utf-16-be", "surrogatepass")


def key(text: str) -> str:
    """Return what to order text by: its UTF-16 units."""
    return units(text)


# ------------------------------------------------------------------ regular expressions

_POSIX = {
    "alpha": "a-zA-Z", "digit": "0-9", "alnum": "a-zA-Z0-9", "upper": "A-Z", "lower": "a-z",
    "space": r"\s", "blank": r" \t", "punct": r"!-/:-@\[-`{-~", "xdigit": "0-9a-fA-F",
    "cntrl": r"\x00-\x1f\x7f", "graph": "!-~", "print": " -~", "word": r"\w", "ascii": r"\x00-\x7f",
}  # fmt: skip
_FLAG_BITS = {"i": re.IGNORECASE, "g": re.NOFLAG}


@lru_cache(maxsize=256)
def pattern_of(regex: str, flags: str = "") -> Pattern:
    """Return a regular expression of Java or RE2 as one of Python.

    Named groups, ``\\z``, quotations, POSIX classes and Unicode categories are written anew;
    the classes ``\\d``, ``\\s`` and ``\\w`` are those of ASCII.

    Raises
    ------
    EngineError
        It is no regular expression, or a flag is neither ``g`` nor ``i``.
    """
    bits = int(re.ASCII)
    for flag in flags:
        if flag not in _FLAG_BITS:
            raise EngineError(
                f"Invalid regular expression flag '{flag}': 'g' (global match) and 'i' "
                "(ignore case) are known."
            )
        bits |= _FLAG_BITS[flag]
    return pattern("".join(_translated(regex)), bits)


def _translated(regex: str) -> Iterator[str]:
    at, depth = 0, 0
    while at < len(regex):
        two, three = regex[at : at + 2], regex[at : at + 3]
        if two == r"\Q":
            end = regex.find(r"\E", at + 2)
            yield re.escape(regex[at + 2 :] if end < 0 else regex[at + 2 : end])
            at = len(regex) if end < 0 else end + 2
            continue
        if two in (r"\p", r"\P"):
            name, at = _category_name(regex, at + 2)
            ranges = _category(name.removeprefix("^"))
            outside = (two == r"\P") != name.startswith("^")
            if depth and outside:
                ranges, outside = _complement(ranges), False
            yield ranges if depth else f"[{'^' * outside}{ranges}]"
            continue
        if two == r"\z":
            yield r"\Z"
        elif two == r"\Z":
            yield r"(?=\n?\Z)"
        elif two == r"\h":
            yield r" \t" if depth else r"[ \t]"
        elif two.startswith("\\"):
            yield two
        elif regex.startswith("[:", at) and depth and (end := regex.find(":]", at)) > 0:
            name = regex[at + 2 : end]
            if name.removeprefix("^") not in _POSIX:
                raise EngineError(f"Invalid regular expression '{regex}': [:{name}:] is no class.")
            ranges = _POSIX[name.removeprefix("^")]
            yield _complement(ranges) if name.startswith("^") else ranges
            at = end + 2
            continue
        elif three == "(?<" and regex[at + 3 : at + 4] not in ("=", "!") and not depth:
            yield "(?P<"
            at += 3
            continue
        else:
            character = regex[at]
            if character == "[":
                # An inner bracket stands for itself in RE2, for a union in Java.
                yield r"\[" if depth else "["
                depth = 1
                # A bracket right after the opening one is part of the class.
                after = at + 1 + (regex[at + 1 : at + 2] == "^")
                if depth and regex[after : after + 1] == "]":
                    yield regex[at + 1 : after] + r"\]"
                    at = after + 1
                    continue
            elif character == "]":
                depth = 0
                yield "]"
            else:
                yield character
            at += 1
            continue
        at += 2


def _category_name(regex: str, at: int) -> tuple[str, int]:
    if regex[at : at + 1] == "{":
        end = regex.find("}", at)
        if end < 0:
            raise EngineError(f"Invalid regular expression '{regex}': a category is not closed.")
        return regex[at + 1 : end], end + 1
    return regex[at : at + 1], at + 1


@lru_cache(maxsize=32)
def _category(name: str) -> str:
    known = {"Alpha": "alpha", "Digit": "digit", "Alnum": "alnum", "Upper": "upper",
             "Lower": "lower", "Space": "space", "Punct": "punct", "XDigit": "xdigit"}  # fmt: skip
    if name in known:
        return _POSIX[known[name]]
    name = name.removeprefix("Is")
    found = [c for c in range(sys.maxunicode + 1) if unicodedata.category(chr(c)).startswith(name)]
    if not found or not name:
        raise EngineError(f"Invalid regular expression: there is no category '{name}'.")
    return _ranges(found)


def _ranges(codes: list[int]) -> str:
    out, start = [], codes[0]
    for one, other in zip(codes, [*codes[1:], -1], strict=True):
        if other != one + 1:
            out.append(f"{re.escape(chr(start))}-{re.escape(chr(one))}")
            start = other
    return "".join(out)


def _complement(ranges: str) -> str:
    inside = re.compile(f"[{ranges}]", re.ASCII)
    return _ranges([c for c in range(sys.maxunicode + 1) if not inside.match(chr(c))])


def replaced(compiled: Pattern, text: str, replacement: str, every: bool) -> str:
    """Replace matches as ``Matcher.replaceAll`` and ``replaceFirst`` do.

    ``$1`` is the first group, as many digits as make a group; ``${name}`` one by name; a
    backslash takes the meaning from what follows.

    Examples
    --------
    >>> replaced(pattern_of("(a)(b)"), "abab", "$2-$1", False)
    'b-aab'
    """
    found = compiled.spans(text, 0 if every else 1)
    if not found:
        return text
    pieces = _replacement(compiled, replacement)
    reserve(len(found) * sum(len(p) if isinstance(p, str) else 1 for p in pieces), 4)
    out, at = [], 0
    for start, end, *groups in found:
        out.append(text[at:start])
        out += [p if isinstance(p, str) else groups[p] or "" for p in pieces]
        at = end
    out.append(text[at:])
    reserve(sum(map(len, out)), 4)
    return "".join(out)


def _replacement(compiled: Pattern, text: str) -> list[str | int]:
    """Return the texts and group numbers that a replacement is made of."""
    out: list[str | int] = []
    at = 0
    while at < len(text):
        character = text[at]
        if character == "\\":
            if at + 1 == len(text):
                raise EngineError("The replacement ends with a backslash.")
            out.append(text[at + 1])
            at += 2
        elif character == "$":
            named = re.compile(r"\$\{([A-Za-z][A-Za-z0-9]*)\}").match(text, at)
            if named:
                if named[1] not in compiled.names:
                    raise EngineError(f"No group with name {{{named[1]}}}.")
                out.append(compiled.names[named[1]])
                at = named.end()
                continue
            digits = re.compile(r"\$([0-9]{1,9})").match(text, at)
            if not digits:
                raise EngineError(f"Illegal group reference in replacement '{text}'.")
            taken = 1
            if int(digits[1][0]) > compiled.groups:
                raise EngineError(f"No group {digits[1][0]}.")
            while taken < len(digits[1]) and int(digits[1][: taken + 1]) <= compiled.groups:
                taken += 1
            out.append(int(digits[1][:taken]))
            at += 1 + taken
        else:
            out.append(character)
            at += 1
    return out


def split(compiled: Pattern, text: str) -> list[str]:
    """Split as ``Pattern.split`` does: empty text at the end is left out.

    Examples
    --------
    >>> split(pattern_of(","), ",a,,b,,")
    ['', 'a', '', 'b']
    """
    out, at = [], 0
    for start, end, *_ in compiled.spans(text):
        if end == 0 or start == end == len(text):
            # No empty text before an empty match at the beginning, nor after one at the end.
            continue
        out.append(text[at:start])
        at = end
    if not out:
        return [text]
    out.append(text[at:])
    while out and not out[-1]:
        out.pop()
    return out
