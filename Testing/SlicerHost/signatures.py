"""Signatures as the inventory writes them: `ret(type name=default,...)`, `name(type,type)`."""

import functools
import re
from typing import NamedTuple


class Argument(NamedTuple):
    kind: str
    optional: bool


class Signature(NamedTuple):
    returns: str
    arguments: tuple

    def takes(self, count):
        return sum(not one.optional for one in self.arguments) <= count <= len(self.arguments)


def split_arguments(text):
    """Split at the commas that stand outside brackets."""
    parts, depth, current = [], 0, ""
    for letter in text:
        if letter in "<(":
            depth += 1
        elif letter in ">)":
            depth -= 1
        if letter == "," and depth == 0:
            parts.append(current)
            current = ""
        else:
            current += letter
    return [part for part in [*parts, current] if part.strip()]


def plain_kind(text):
    """A C++ type without const, reference, ownership marks and argument name; a pointer keeps its star."""
    text = re.sub(r"\^\w+", " ", text)
    text = re.sub(r"\bconst\b|&", " ", text).strip()
    words = re.match(r"((?:unsigned |signed |long |short )*[\w:]+\s*(?:<.*>)?)\s*(\**)", text)
    if not words:
        return text
    return re.sub(r"\s+", " ", words.group(1)).strip().replace(" <", "<") + words.group(2)


@functools.cache
def parsed(text):
    """Signature of `ret(type name=default,...)`; constructors have no `ret`."""
    opening = text.index("(")
    arguments = tuple(
        Argument(plain_kind(part.split("=")[0]), "=" in part) for part in split_arguments(text[opening + 1 : -1])
    )
    return Signature(plain_kind(text[:opening]) if text[:opening] else "", arguments)


@functools.cache
def signal_types(signature):
    """Normalised types of a signal's arguments."""
    opening = signature.index("(")
    return tuple(plain_kind(part) for part in split_arguments(signature[opening + 1 : -1]))


def normalised(signature):
    """`clicked( const bool & )` as `clicked(bool)`."""
    if "(" not in signature:
        return signature.strip()
    name = signature[: signature.index("(")].strip().lstrip("012")
    inside = signature[signature.index("(") + 1 : signature.rindex(")")]
    return f"{name}({','.join(plain_kind(part) for part in split_arguments(inside))})"
