"""Industry identifiers of recordings, works, releases and parties: cleaned, checked, in their compact form.

ISRC (ISO 3901), ISWC (ISO 15707), UPC/EAN (GS1), IPI name number (CISAC) and ISNI (ISO 27729). Every function takes
what a person typed (separators and case do not matter), returns the compact form that is stored, and raises ValueError
with a message for that person.
"""

import re

from stdnum import ean as stdnum_ean
from stdnum import isni as stdnum_isni
from stdnum import isrc as stdnum_isrc
from stdnum.exceptions import InvalidComponent, ValidationError

_SEPARATORS = re.compile(r"[\s.\-]")
_ISWC = re.compile(r"T[0-9]{10}")
_IPI = re.compile(r"[0-9]{6,11}")


def isrc(text: str) -> str:
    """Return a recording's code as 12 characters; a prefix that is on no list is accepted (see `isrc_warning`)."""
    try:
        return str(stdnum_isrc.validate(text))
    except InvalidComponent:
        return str(stdnum_isrc.compact(text))
    except ValidationError as error:
        raise ValueError("an ISRC is two letters, three letters or digits, and seven digits") from error


def isrc_warning(code: str) -> str | None:
    """Say what is doubtful about a stored code: the published list of prefixes lags behind the registrants."""
    try:
        stdnum_isrc.validate(code)
    except InvalidComponent:
        return f"the ISRC prefix {code[:2]} is not on the list of known prefixes"
    return None


def iswc(text: str) -> str:
    """Return a work's code as T and ten digits, the last of which closes 1 + Σ i·dᵢ to a multiple of ten."""
    code = _SEPARATORS.sub("", text).upper()
    if not _ISWC.fullmatch(code):
        raise ValueError("an ISWC is the letter T and ten digits")
    digits = [int(digit) for digit in code[1:]]
    if (1 + sum(place * digit for place, digit in enumerate(digits[:9], 1)) + digits[9]) % 10:
        raise ValueError("the ISWC's check digit is wrong")
    return code


def upc(text: str) -> str:
    """Return a release's UPC or EAN as its digits."""
    try:
        return str(stdnum_ean.validate(_SEPARATORS.sub("", text)))
    except ValidationError as error:
        raise ValueError("a UPC or EAN is 8, 12, 13 or 14 digits of which the last is a check digit") from error


def ipi(text: str) -> str:
    """Return a party's IPI name number as 11 digits, the last two closing the sum weighted 10…2 modulo 101."""
    code = _SEPARATORS.sub("", text)
    if not _IPI.fullmatch(code):
        raise ValueError("an IPI name number is 11 digits, of which leading zeros may be left out")
    code = code.zfill(11)
    weighted = sum(weight * int(digit) for weight, digit in zip(range(10, 1, -1), code[:9], strict=True))
    if int(code[9:]) != -weighted % 101 % 100:
        raise ValueError("the IPI name number's check digits are wrong")
    return code


def isni(text: str) -> str:
    """Return a party's ISNI as 16 characters."""
    try:
        return str(stdnum_isni.validate(text))
    except ValidationError as error:
        raise ValueError("an ISNI is 15 digits and a check character") from error
