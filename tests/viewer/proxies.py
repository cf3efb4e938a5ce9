"""A reverse proxy for tests: one connection a request, WebSockets passed on."""

import contextlib
import re
import socket
import socketserver
import threading


def pump(source: socket.socket, target: socket.socket) -> None:
    """Pass bytes on until there are no more, then end both directions."""
    with contextlib.suppress(OSError):
        while piece := source.recv(1 << 16):
            target.sendall(piece)
    for end in (source, target):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


def rewritten(head: str, prefix: str, host: str | None) -> str:
    """The request as the server behind gets it."""
    first, rest = head.split("\r\n", 1)
    method, path, version = first.split(" ")
    assert path.startswith(prefix), path
    if host is not None:
        rest = re.sub(r"(?im)^host:[^\r]*", f"Host: {host}", rest)
    if not re.search(r"(?im)^upgrade:", rest):
        rest = re.sub(r"(?im)^connection:[^\r]*", "Connection: close", rest)
    return f"{method} /{path.removeprefix(prefix).lstrip('/')} {version}\r\n{rest}"


class Proxy(socketserver.ThreadingTCPServer):
    """Stands on loopback before a server there, whose port is set once it is known.

    Args:
        prefix: path below which the proxy has the server.
        host: what the server gets as ``Host``; None for what the browser asked for.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self, prefix: str = "", host: str | None = None):
        self.server_port = 0
        self.prefix, self.host = prefix, host
        super().__init__(("127.0.0.1", 0), Passing)
        self.port = self.server_address[1]

    def __enter__(self) -> "Proxy":
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()


class Passing(socketserver.BaseRequestHandler):
    """One connection of a browser."""

    server: Proxy

    def handle(self) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            if not (piece := self.request.recv(1 << 16)):
                return  # a connection that the browser opened ahead and did not need
            head += piece
        head, mark, body = head.partition(b"\r\n\r\n")
        asked = rewritten((head + mark).decode("latin-1"), self.server.prefix, self.server.host).encode("latin-1")
        with socket.create_connection(("127.0.0.1", self.server.server_port)) as behind:
            behind.sendall(asked + body)
            back = threading.Thread(target=pump, args=(behind, self.request), daemon=True)
            back.start()
            pump(self.request, behind)
            back.join()
