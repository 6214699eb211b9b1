"""Bytes, rates and times as a person says them."""

from __future__ import annotations


def nbytes_in_words(nbytes: float) -> str:
    """Return a number of bytes with three digits and a unit.

    Examples
    --------
    >>> [nbytes_in_words(n) for n in (0, 999, 16_777_216, 3.2e12)]
    ['0 B', '999 B', '16.8 MB', '3.20 TB']
    """
    return _scaled(nbytes, "B")


def count_in_words(count: float) -> str:
    """Return a large number with three digits and a prefix.

    Examples
    --------
    >>> count_in_words(2.5e9), count_in_words(0)
    ('2.50 G', '0')
    """
    return _scaled(count, "").rstrip()


def _scaled(number: float, unit: str) -> str:
    prefixes = iter("kMGTP")
    prefix = ""
    while number >= 999.5 and (larger := next(prefixes, "")):
        number, prefix = number / 1000, larger
    digits = 0 if not prefix or number >= 99.95 else 1 if number >= 9.995 else 2
    return f"{number:.{digits}f} {prefix}{unit}"


def seconds_in_words(seconds: float) -> str:
    """Return a time in the units that fit it.

    Examples
    --------
    >>> [seconds_in_words(s) for s in (0.004, 1.26, 59.99, 75, 7300, 200_000)]
    ['< 0.1 s', '1.3 s', '1 min 00 s', '1 min 15 s', '2 h 02 min', '2 d 08 h']
    """
    if seconds < 0.05:
        return "< 0.1 s"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    if seconds < 3599.5:
        return "{} min {:02d} s".format(*divmod(round(seconds), 60))
    if seconds < 86_370:
        return "{} h {:02d} min".format(*divmod(round(seconds / 60), 60))
    return "{} d {:02d} h".format(*divmod(round(seconds / 3600), 24))
