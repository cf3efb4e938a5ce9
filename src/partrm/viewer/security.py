"""What a page may do to the server: who may connect, how much may be uploaded, nothing that leaves this machine."""

import logging
import math
import sys
import time
import warnings
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import viser
from viser import _messages

from partrm.viewer.sources import MAX_UPLOAD_BYTES

LOOPBACK = ("127.0.0.1", "localhost", "::1")
"""Names under which this machine alone is reached."""


class LocalServer(viser.ViserServer):
    """viser's server without its public tunnel, which any page could ask for."""

    def request_share_url(self, verbose: bool = True) -> str | None:
        """Refused: nothing here leaves the machine."""
        return None


def may_connect(headers: Mapping[str, str], loopback_only: bool, public_hosts: Collection[str] = ()) -> bool:
    """Whether a page may have a session: one that this server served, asked for under a name that it goes by.

    A page of any other site could reach a server on loopback from the user's browser, directly or by a name of its own
    that resolves here; the browser gives both away in ``Origin`` and ``Host``.

    Args:
        headers: of the request for a session.
        loopback_only: only this machine's own names are the server's.
        public_hosts: names, with a port unless it is the scheme's own, that a proxy goes by: their pages may connect
            whatever ``Host`` the proxy passes on.
    """
    host = headers.get("Host", "").lower()
    known = {name.lower() for name in public_hosts}
    try:
        origin = urlsplit(headers["Origin"]).netloc.lower() if "Origin" in headers else host
        name = urlsplit(f"//{host}").hostname
    except ValueError:
        return False
    return (origin == host or origin in known) and (not loopback_only or name in LOOPBACK or host in known)


class Refusals:
    """Tells whoever runs the server of pages that got no session, each once and few in all: they may be hostile."""

    MOST = 10

    def __init__(self) -> None:
        self.told: set[str] = set()

    def tell(self, headers: Mapping[str, str]) -> None:
        """Print a line for a refused request, with its names in ASCII; nothing for one that is gone already."""
        if not headers:
            return
        host, origin = (ascii(headers.get(name, "")) for name in ("Host", "Origin"))
        self._say(
            f"a page of {origin} that asked for {host} got no session; of a proxy of yours? Then give --public-host"
        )

    def tell_of_message(self, error: BaseException | None) -> None:
        """Print a line for a message that cannot be handled."""
        words = f"{type(error).__name__}: {ascii(str(error))[1:-1][:80]}"
        self._say(f"a page sent what no page of ours sends ({words})")

    def _say(self, line: str) -> None:
        if line not in self.told and len(self.told) < self.MOST:
            self.told.add(line)
            print(f"partrm view: {line}", file=sys.stderr, flush=True)


class StrangeMessages(logging.Handler):
    """Takes the place of what websockets and asyncio print, a traceback each, of messages that viser cannot read."""

    def __init__(self, refusals: Refusals) -> None:
        super().__init__(logging.ERROR)
        self._refusals = refusals

    def emit(self, record: logging.LogRecord) -> None:
        """Tell of a connection, or of the handling of a message, that failed."""
        self._refusals.tell_of_message(record.exc_info[1] if record.exc_info else None)


@contextmanager
def strange_messages_told(refusals: Refusals) -> Iterator[None]:
    """While it lasts pages that send what is no message of theirs cost a line, and print nothing else."""
    handler = StrangeMessages(refusals)
    loggers = [logging.getLogger(name) for name in ("websockets.server", "asyncio")]
    propagate = [logger.propagate for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.propagate = False
    # For the rest of the process, as other threads warn too.
    warnings.filterwarnings("ignore", message=r"\[viser\] .* does not match annotation", category=UserWarning)
    try:
        yield
    finally:
        for logger, before in zip(loggers, propagate, strict=True):
            logger.removeHandler(handler)
            logger.propagate = before


def connection_headers(server: viser.ViserServer, client: viser.ClientHandle) -> Mapping[str, str]:
    """Headers of the request that opened a client's connection; empty if it is gone."""
    connection = server._websock_server._live_connections.get(client.client_id)
    return {} if connection is None or connection.request is None else connection.request.headers


UPLOAD_PATIENCE_S = 30.0
"""An upload is given up when nothing of it comes for so long."""


def limit_uploads(client: viser.ClientHandle, refused: Any) -> None:
    """Drop an upload that says, or turns out, to be larger than allowed before it is gathered in memory.

    One of which nothing comes for :data:`UPLOAD_PATIENCE_S` gives its place to the next. The page, which waits for the
    end of each and lets no other begin, is told of it.

    Args:
        refused: called without arguments for each upload dropped.
    """
    gui, connection = client.gui, client._websock_connection
    start, part = gui._handle_file_transfer_start, gui._handle_file_transfer_part
    connection.unregister_handler(_messages.FileTransferStartUpload, start)
    connection.unregister_handler(_messages.FileTransferPart, part)

    heard_s: dict[str, float] = {}

    def end_in_page(button: str | None, transfer: str, size_bytes: int) -> None:
        """Viser's page has no word for a refusal: say that all has come, and take away the notice that says so."""
        gui._websock_interface.queue_message(
            _messages.FileTransferPartAck(button, transfer, transferred_bytes=size_bytes, total_bytes=size_bytes)
        )
        gui._websock_interface.queue_message(_messages.RemoveNotificationMessage(f"upload-{transfer}"))

    def drop_stale() -> None:
        for transfer in list(gui._current_file_upload_states):
            if time.monotonic() - heard_s.get(transfer, -math.inf) > UPLOAD_PATIENCE_S:
                gui._current_file_upload_states.pop(transfer)
        for transfer in set(heard_s) - set(gui._current_file_upload_states):
            del heard_s[transfer]

    def limited_start(client_id: Any, message: _messages.FileTransferStartUpload) -> None:
        drop_stale()
        under_way = len(gui._current_file_upload_states)
        if message.size_bytes > MAX_UPLOAD_BYTES or message.part_count > MAX_UPLOAD_BYTES // 1000 or under_way >= 2:
            refused()
            end_in_page(message.source_component_uuid, message.transfer_uuid, message.size_bytes)
            return
        heard_s[message.transfer_uuid] = time.monotonic()
        start(client_id, message)

    def limited_part(client_id: Any, message: _messages.FileTransferPart) -> None:
        heard_s[message.transfer_uuid] = time.monotonic()
        state = gui._current_file_upload_states.get(message.transfer_uuid)
        if state is not None and state["transferred_bytes"] + len(message.content) > state["total_bytes"]:
            gui._current_file_upload_states.pop(message.transfer_uuid)
            refused()
            end_in_page(message.source_component_uuid, message.transfer_uuid, state["total_bytes"])
            return
        part(client_id, message)

    connection.register_handler(_messages.FileTransferStartUpload, limited_start)
    connection.register_handler(_messages.FileTransferPart, limited_part)
