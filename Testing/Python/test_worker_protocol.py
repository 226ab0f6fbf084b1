"""The messages between worker and client: one object a line, within a size, whatever comes."""

import io
import json
import math

import pytest
from SSLFewShotLib.worker import protocol
from SSLFewShotLib.worker.protocol import ProtocolError, TooLong, decode, encode, read_lines


def test_a_message_is_one_line_of_ascii_and_reads_back_the_same():
    name = "Müller 张\n\udcff.nii.gz"
    for message in (
        protocol.request(7, "segment", {"targets": [name]}),
        protocol.request("a", "shutdown"),
        protocol.notification("progress", {"fraction": 0.5}),
        protocol.result(7, {"name": name}),
        protocol.result(7, None),
        protocol.error(None, protocol.PARSE_ERROR, name, {"type": "InputError"}),
    ):
        line = encode(message)
        assert line.isascii() and line.endswith(b"\n") and line.count(b"\n") == 1
        assert decode(line) == message


def test_numbers_that_json_lacks_are_sent_as_null():
    line = encode(
        protocol.result(1, {"dice": math.nan, "all": [1.5, (math.inf, "NaN")], "deep": {"x": -math.inf}})
    )
    assert json.loads(line)["result"] == {"dice": None, "all": [1.5, [None, "NaN"]], "deep": {"x": None}}


def test_a_message_longer_than_is_allowed_is_not_sent(monkeypatch):
    monkeypatch.setattr(protocol, "LONGEST_LINE", 200)
    assert encode(protocol.result(1, "x" * 150))
    with pytest.raises(ProtocolError, match=r"longer than the 200") as caught:
        encode(protocol.result(5, "x" * 200))
    assert caught.value.id == 5


@pytest.mark.parametrize(
    ("line", "code", "id"),
    [
        (b"", protocol.PARSE_ERROR, None),
        (b"hello", protocol.PARSE_ERROR, None),
        (b'{"jsonrpc": "2.0", "id": 1, "method": "x"', protocol.PARSE_ERROR, None),
        (b'{"jsonrpc": "2.0", "id": 1, "method": "\xff"}', protocol.PARSE_ERROR, None),
        (b'{"jsonrpc": "2.0", "id": 1, "result": NaN}', protocol.PARSE_ERROR, None),
        (b"[" * 200_000, protocol.PARSE_ERROR, None),
        (b"1" * 10_000, protocol.PARSE_ERROR, None),
        (b"\x00\x01", protocol.PARSE_ERROR, None),
        (b"5", protocol.INVALID_REQUEST, None),
        (b"null", protocol.INVALID_REQUEST, None),
        (b'"segment"', protocol.INVALID_REQUEST, None),
        (b'[{"jsonrpc": "2.0", "id": 1, "method": "x"}]', protocol.INVALID_REQUEST, None),
        (b"{}", protocol.INVALID_REQUEST, None),
        (b'{"id": 4, "method": "x"}', protocol.INVALID_REQUEST, 4),
        (b'{"jsonrpc": "1.0", "id": "a", "method": "x"}', protocol.INVALID_REQUEST, "a"),
        (b'{"jsonrpc": "2.0", "id": true, "method": "x"}', protocol.INVALID_REQUEST, None),
        (b'{"jsonrpc": "2.0", "id": {}, "method": "x"}', protocol.INVALID_REQUEST, None),
        (b'{"jsonrpc": "2.0", "id": 4, "method": 5}', protocol.INVALID_REQUEST, 4),
        (b'{"jsonrpc": "2.0", "id": 4, "method": "x", "params": [1]}', protocol.INVALID_PARAMS, 4),
        (b'{"jsonrpc": "2.0", "id": 4, "error": "bad"}', protocol.INVALID_REQUEST, 4),
        (b'{"jsonrpc": "2.0", "id": 4, "error": {"code": "1", "message": "x"}}', protocol.INVALID_REQUEST, 4),
        (b'{"jsonrpc": "2.0", "id": 4}', protocol.INVALID_REQUEST, 4),
    ],
)
def test_what_is_no_message_is_refused_with_its_code_and_the_id_where_there_is_one(line, code, id):
    with pytest.raises(ProtocolError) as caught:
        decode(line)
    assert (caught.value.code, caught.value.id) == (code, id)
    assert caught.value.message and "\n" not in caught.value.message[:80]


def test_params_that_are_left_out_are_none():
    assert decode(b'{"jsonrpc": "2.0", "method": "x"}')["params"] == {}


def test_a_notification_is_told_from_a_request_by_its_lack_of_an_id():
    assert protocol.is_request(protocol.request(0, "x")) and not protocol.is_request(protocol.notification("x"))
    assert not protocol.is_request(protocol.result(1, None))


def test_lines_are_read_to_the_end_without_empty_ones():
    assert list(read_lines(io.BytesIO(b"a\n\n \r\nb c\r\nlast"))) == [b"a", b"b c", b"last"]


@pytest.mark.parametrize("length", [1000, 5000, 5001, 3_000_000])
def test_a_line_that_is_too_long_is_passed_over_and_the_next_one_read(monkeypatch, length):
    monkeypatch.setattr(protocol, "LONGEST_LINE", 100)
    first, second, third = read_lines(io.BytesIO(b"x" * 99 + b"\n" + b"y" * length + b"\nz\n"))
    assert first == b"x" * 99 and third == b"z"
    assert isinstance(second, TooLong) and second.length == length + 1


def test_a_line_of_exactly_the_longest_length_is_read(monkeypatch):
    monkeypatch.setattr(protocol, "LONGEST_LINE", 100)
    assert list(read_lines(io.BytesIO(b"x" * 99 + b"\n" + b"y" * 100 + b"\nz"))) == [b"x" * 99, b"y" * 100, b"z"]


def test_an_endless_line_takes_no_memory_of_its_length():
    class Endless(io.RawIOBase):
        left = 300 * 1024 * 1024

        def readable(self):
            return True

        def readinto(self, buffer):
            size = min(len(buffer), self.left)
            self.left -= size
            buffer[:size] = b"x" * size
            return size

    import tracemalloc

    tracemalloc.start()
    (only,) = read_lines(io.BufferedReader(Endless(), 1 << 20))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert only.length == 300 * 1024 * 1024
    assert peak < 3 * protocol.LONGEST_LINE
