"""Serves the page: one session a tab, until it is stopped."""

import contextlib
import errno
import io
import socket
import tempfile
import threading
import warnings
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from partrm.errors import PartRMError
from partrm.viewer.display import MovableGaussians, light_evenly
from partrm.viewer.engine import Engine
from partrm.viewer.gallery import load_examples
from partrm.viewer.geometry import DISTANCE, FOVY_RAD
from partrm.viewer.security import (
    LOOPBACK,
    LocalServer,
    Refusals,
    connection_headers,
    limit_uploads,
    may_connect,
    strange_messages_told,
)
from partrm.viewer.session import Session
from partrm.viewer.sources import MAX_UPLOAD_BYTES, OpenedPicture

MAX_TABS = 16
"""Tabs served at a time; each keeps its own prediction."""

PORTS_TRIED = 100
"""Ports tried from the one asked for."""

NOT_OURS = "the server was not told that it goes by this page's name: its output says more"

TOO_LARGE = f"a picture may have at most {MAX_UPLOAD_BYTES // 10**6} MB"


def address(host: str, port: int) -> str:
    """What to type into a browser on this machine."""
    name = "127.0.0.1" if host in ("0.0.0.0", "::") else host
    return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"


class ServerError(PartRMError):
    """A page that cannot be served; the message says where and why."""


def free_port(host: str, port: int) -> int:
    """The first port of ``host`` from ``port`` on that nothing listens on; for 0 any.

    Raises:
        ServerError: no such address on this machine, no permission, or no free port among :data:`PORTS_TRIED`.
    """
    try:
        family, *_, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except OSError as error:
        raise ServerError(f"--host {host}: no such address ({error.strerror})") from error
    last = min(port + PORTS_TRIED - 1, 65535) if port else 0
    for candidate in range(port, last + 1):
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((place[0], candidate, *place[2:]))
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    continue
                raise ServerError(f"{host}, port {candidate}: cannot listen there ({error.strerror})") from error
            return int(probe.getsockname()[1])
    raise ServerError(f"--port {port}: nothing free from there to {last}")


@contextlib.contextmanager
def serving(
    start: OpenedPicture | MovableGaussians | None,
    engine: Engine,
    host: str = "127.0.0.1",
    port: int = 8080,
    public_hosts: Collection[str] = (),
) -> Iterator[str]:
    """Serve the page while the block runs, and give its address.

    Args:
        start: what each new tab opens; None for the gallery of examples.
        engine: the network.
        host: address to listen on; loopback alone unless told otherwise.
        port: the first free one from here is taken; 0 for any.
        public_hosts: names of a proxy before it (:func:`may_connect`).

    Raises:
        ServerError: the page cannot be served there.
    """
    # What is told to a tab that has just been closed; for the rest of the process, as other threads warn too.
    warnings.filterwarnings("ignore", message=r"Queued a \w+ on a closed connection", category=UserWarning)
    port = free_port(host, port)  # viser's thread would die of a port that is none, and be waited for without end
    sessions: dict[int, Session] = {}
    lock = threading.Lock()
    refusals = Refusals()
    examples = load_examples()
    with strange_messages_told(refusals), tempfile.TemporaryDirectory(prefix="partrm-view-") as folder:
        with contextlib.redirect_stdout(io.StringIO()):  # viser's banner
            server = LocalServer(host=host, port=port, verbose=False)
        server.scene.set_up_direction("+y")
        server.scene.set_background_image(np.full((4, 4, 3), 255, dtype=np.uint8), format="png")
        server.scene.configure_default_lights(cast_shadow=False)  # nothing casts one, but each frame would look
        light_evenly(server.scene)
        server.gui.configure_theme(show_share_button=False, show_logo=False)
        server.initial_camera.position = (0.0, 0.0, 2 * DISTANCE)
        server.initial_camera.look_at = (0.0, 0.0, 0.0)
        server.initial_camera.fov = FOVY_RAD

        @server.on_client_disconnect
        def forget(client: Any) -> None:
            with lock:
                session = sessions.pop(client.client_id, None)
            if session is not None:
                session.close()

        @server.on_client_connect
        def _(client: Any) -> None:
            headers = connection_headers(server, client)
            if not may_connect(headers, host in LOOPBACK, public_hosts):
                refusals.tell(headers)
                client.add_notification("No session", NOT_OURS, color="red")
                return
            limit_uploads(client, lambda: client.add_notification("Upload refused", TOO_LARGE, color="red"))
            with lock:
                if len(sessions) >= MAX_TABS:
                    client.add_notification("Too many tabs", f"{MAX_TABS} are open already; close one and reload")
                    return
                session = sessions[client.client_id] = Session(client, engine, examples, Path(folder))
            session.start(start)
            if client.client_id not in server.get_clients():
                forget(client)  # gone before it was listed here

        try:
            yield address(host, server.get_port())
        finally:
            with contextlib.redirect_stdout(io.StringIO()):
                server.stop()
            with lock:
                left = list(sessions.values())
            for session in left:
                session.close()
