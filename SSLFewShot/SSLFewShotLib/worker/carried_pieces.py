"""Pieces of files as they travel between client and worker: compressed by zlib, in base64 (its alphabet for
URLs, so that a piece never looks like the path of a file whose name a log must hide).

Pure standard library of Python 3.9.
"""

from __future__ import annotations

import base64
import binascii
import zlib

from SSLFewShotLib.errors import InputError

LARGEST_PIECE = 8 << 20
"""Bytes of a file in one message, before compression."""


def packed(piece: bytes, level: int = 1) -> str:
    """The text of a piece; level: of compression, 0 for what is compressed already."""
    return base64.urlsafe_b64encode(zlib.compress(piece, level)).decode("ascii") if piece else ""


def unpacked(text: str) -> bytes:
    """The piece of a text; never more than `LARGEST_PIECE` bytes, whatever the text claims to hold.

    Raises InputError for a text that was damaged, cut short or made too large.
    """
    if not text:
        return b""
    stream = zlib.decompressobj()
    try:
        piece = stream.decompress(base64.b64decode(text, b"-_", validate=True), LARGEST_PIECE + 1)
    except (binascii.Error, ValueError, zlib.error):
        raise InputError("a piece of the file was damaged on its way; send the file again") from None
    if len(piece) > LARGEST_PIECE:
        raise InputError(f"a piece of the file holds more than {LARGEST_PIECE} bytes; send smaller ones")
    if not stream.eof or stream.unused_data:
        raise InputError("a piece of the file was damaged or cut short on its way; send the file again")
    return piece
