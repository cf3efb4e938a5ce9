"""Who may have a session, and what a hostile page cannot make the server keep."""

import asyncio
import contextlib
import dataclasses
import inspect
import io
import urllib.error
import urllib.request
from types import SimpleNamespace

import msgspec
import pytest
import viser
from viser import _messages
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from partrm.viewer.security import UPLOAD_PATIENCE_S, LocalServer, Refusals, limit_uploads, may_connect
from partrm.viewer.server import address, serving
from partrm.viewer.sources import MAX_UPLOAD_BYTES


@pytest.mark.parametrize(
    ("headers", "loopback_only", "allowed"),
    [
        ({"Host": "127.0.0.1:8080", "Origin": "http://127.0.0.1:8080"}, True, True),
        ({"Host": "localhost:8080", "Origin": "http://localhost:8080"}, True, True),
        ({"Host": "[::1]:8080", "Origin": "http://[::1]:8080"}, True, True),
        ({"Host": "localhost:8080"}, True, True),
        ({"Host": "127.0.0.1:8080", "Origin": "https://elsewhere.example"}, True, False),
        ({"Host": "127.0.0.1:8080", "Origin": "http://127.0.0.1:9000"}, True, False),
        ({"Host": "rebound.example:8080", "Origin": "http://rebound.example:8080"}, True, False),
        ({"Host": "workstation:8080", "Origin": "http://workstation:8080"}, False, True),
        ({"Host": "workstation:8080", "Origin": "http://elsewhere.example"}, False, False),
        ({"Host": "127.0.0.1:8080", "Origin": "http://[::1"}, True, False),
        ({}, True, False),
    ],
)
def test_only_our_own_pages_get_a_session(headers, loopback_only, allowed):
    assert may_connect(headers, loopback_only) is allowed


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ({"Host": "parts.example.org", "Origin": "https://parts.example.org"}, True),
        ({"Host": "127.0.0.1:8080", "Origin": "https://Parts.example.org"}, True),
        ({"Host": "127.0.0.1:8080", "Origin": "http://127.0.0.1:8080"}, True),
        ({"Host": "parts.example.org", "Origin": "https://elsewhere.example"}, False),
        ({"Host": "127.0.0.1:8080", "Origin": "https://elsewhere.example"}, False),
        ({"Host": "127.0.0.1:8080", "Origin": "https://parts.example.org.elsewhere.example"}, False),
        ({"Host": "127.0.0.1:8080", "Origin": "https://parts.example.org:8443"}, False),
        ({"Host": "127.0.0.1:8080", "Origin": "null"}, False),
        ({"Host": "rebound.example", "Origin": "http://rebound.example"}, False),
    ],
)
def test_a_proxy_s_pages_get_a_session_if_its_name_was_told(headers, allowed):
    assert may_connect(headers, True, ("parts.example.org",)) is allowed


def test_refused_pages_are_told_once_few_and_in_ascii(capsys):
    refusals = Refusals()
    refusals.tell({})
    for number in (1, 1, *range(2 * Refusals.MOST)):
        refusals.tell({"Host": "127.0.0.1:8080", "Origin": f"http://a\x1b{number}"})
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == len(set(lines)) == Refusals.MOST
    assert all(line.isascii() and "\x1b" not in line and "--public-host" in line for line in lines)


def test_no_page_can_open_a_tunnel():
    with contextlib.redirect_stdout(io.StringIO()):
        server = LocalServer(host="127.0.0.1", port=0, verbose=False)
        try:
            handlers = server._websock_server._incoming_handlers[_messages.ShareUrlRequest]
            for handler in handlers:
                handler(0, _messages.ShareUrlRequest())
            assert server.request_share_url() is None
            assert server._share_tunnel is None
        finally:
            server.stop()


def test_viser_has_the_private_names_that_the_limits_rest_on():
    with contextlib.redirect_stdout(io.StringIO()):
        server = LocalServer(host="127.0.0.1", port=0, verbose=False)
    try:
        assert server._websock_server._live_connections == {}
        assert server.gui._current_file_upload_states == {}
        for name in ("_handle_file_transfer_start", "_handle_file_transfer_part"):
            assert list(inspect.signature(getattr(server.gui, name)).parameters) == ["client_id", "message"]
        kinds = (_messages.FileTransferStartUpload, _messages.FileTransferPart)
        assert set(kinds) <= set(server._websock_server._incoming_handlers)
        sent = {field.name for kind in kinds for field in dataclasses.fields(kind)}
        assert {"size_bytes", "part_count", "transfer_uuid", "content"} <= sent
        assert "_websock_connection" in viser.ClientHandle.__init__.__code__.co_names
    finally:
        server.stop()


def test_messages_that_no_page_sends_cost_a_line_and_the_server_goes_on(engine, capfd):
    def send(content):
        with connect(where.replace("http", "ws"), subprotocols=[f"viser-v{viser.__version__}"]) as page:
            page.send(content)
            with contextlib.suppress(ConnectionClosed, TimeoutError):
                while True:
                    page.recv(timeout=0.5)

    with serving(None, engine, port=0) as where:
        for content in (b"junk", "text", msgspec.msgpack.encode({"type": "GuiUpdateMessage"})):
            send(content)
        with connect(where.replace("http", "ws"), subprotocols=[f"viser-v{viser.__version__}"]) as page:
            assert page.recv(timeout=20)
    said = capfd.readouterr().err.splitlines()
    assert len(said) == 3
    assert all(line.startswith("partrm view: a page sent what no page of ours sends (") for line in said), said


def test_binds_to_loopback_and_serves_no_path_of_the_disk(engine):
    with serving(None, engine, port=0) as where:
        assert where.startswith("http://127.0.0.1:")
        assert urllib.request.urlopen(where, timeout=10).status == 200
        for path in ("/../../../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "//etc/passwd", "/..\\..\\etc\\passwd"):
            with pytest.raises(urllib.error.HTTPError, match="404"):
                urllib.request.urlopen(where + path, timeout=10)


def test_addresses():
    assert address("0.0.0.0", 80) == "http://127.0.0.1:80"
    assert address("::1", 80) == "http://[::1]:80"
    assert address("workstation", 81) == "http://workstation:81"


class Connection:
    """The part of viser's connection that uploads go through."""

    def __init__(self):
        self.handlers = {}
        self.sent = []

    def register_handler(self, kind, handler):
        self.handlers.setdefault(kind, []).append(handler)

    def unregister_handler(self, kind, handler):
        self.handlers[kind].remove(handler)

    def queue_message(self, message):
        self.sent.append(message)

    def get(self, message):
        for handler in self.handlers[type(message)]:
            handler(0, message)


@pytest.fixture
def uploading():
    """A viser panel with one upload button, its connection, its button and the refusals counted."""
    connection = Connection()
    owner = viser.ClientHandle.__new__(viser.ClientHandle)
    object.__setattr__(owner, "_websock_connection", connection)
    executor = SimpleNamespace(submit=lambda *a: SimpleNamespace(add_done_callback=lambda f: None))
    loop = asyncio.new_event_loop()
    gui = viser.GuiApi(owner, executor, loop)
    object.__setattr__(owner, "gui", gui)
    refused = []
    limit_uploads(owner, lambda: refused.append(1))
    button = SimpleNamespace(_impl=SimpleNamespace(removed=False, value=None, update_cb=[], update_timestamp=0.0))
    gui._gui_input_handle_from_uuid["button"] = button
    yield gui, connection, button, refused
    loop.close()


def start(uuid, size, parts):
    return _messages.FileTransferStartUpload("button", uuid, "a.png", "image/png", parts, size)


def part(uuid, index, content):
    return _messages.FileTransferPart("button", uuid, index, content)


def test_uploads_within_the_limit_arrive(uploading):
    _, connection, button, refused = uploading
    connection.get(start("a", 6, 2))
    connection.get(part("a", 0, b"abc"))
    connection.get(part("a", 1, b"def"))
    assert button._impl.value.content == b"abcdef"
    assert not refused


def test_what_is_too_large_is_dropped_before_it_is_kept(uploading):
    gui, connection, button, refused = uploading
    connection.get(start("large", MAX_UPLOAD_BYTES + 1, 30))
    connection.get(part("large", 0, b"x"))
    assert gui._current_file_upload_states == {}
    connection.get(start("liar", 10, 2))
    connection.get(part("liar", 0, bytes(11)))
    assert gui._current_file_upload_states == {}
    for uuid in ("one", "two", "three"):
        connection.get(start(uuid, MAX_UPLOAD_BYTES, 20))
    assert len(gui._current_file_upload_states) == 2
    assert len(refused) == 3
    assert button._impl.value is None


def test_the_page_is_told_that_a_refused_upload_has_ended(uploading):
    _, connection, _, _ = uploading
    connection.get(start("large", MAX_UPLOAD_BYTES + 1, 30))
    connection.get(start("liar", 10, 2))
    connection.get(part("liar", 0, bytes(11)))
    ends, notices = connection.sent[::2], connection.sent[1::2]
    wanted = [("large", MAX_UPLOAD_BYTES + 1), ("liar", 10)]
    assert [(end.transfer_uuid, end.transferred_bytes) for end in ends] == wanted
    assert all(end.total_bytes == end.transferred_bytes and end.source_component_uuid == "button" for end in ends)
    assert [notice.uuid for notice in notices] == ["upload-large", "upload-liar"]


def test_an_upload_of_which_nothing_comes_gives_its_place_to_the_next(uploading, monkeypatch):
    gui, connection, button, refused = uploading
    now = [0.0]
    monkeypatch.setattr("partrm.viewer.security.time.monotonic", lambda: now[0])
    for uuid in ("one", "two"):
        connection.get(start(uuid, 6, 2))
    now[0] = UPLOAD_PATIENCE_S - 1
    connection.get(part("two", 0, b"abc"))
    connection.get(start("three", 6, 2))
    assert refused == [1]
    now[0] = UPLOAD_PATIENCE_S + 1
    connection.get(start("four", 3, 1))
    assert set(gui._current_file_upload_states) == {"two", "four"}
    connection.get(part("four", 0, b"xyz"))
    assert button._impl.value.content == b"xyz"
