"""``partrm view``: the interactive page."""

import re
import signal
import threading
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import tyro

from partrm.commands import UsageError

HOST_NAME = re.compile(r"(?:[A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\])(?::\d+)?")

DESCRIPTION = """Drag parts of objects by mouse and watch them move in 3D, in the browser.

SOURCE is a picture of one object, a folder of 1 to 4 posed views, an articulated object (.urdf or a MuJoCo .xml file,
of which a picture is rendered), a 3D Gaussian .ply file, or the folder of a prediction. Without SOURCE the page opens
on bundled examples. Pictures can also be uploaded on the page.

Serves on this machine alone unless --host says otherwise, prints the address, and runs until Ctrl+C. A proxy that makes
the page public under a name of its own needs --public-host.

Examples:
  partrm view
  partrm view photo.jpg --model my_checkpoint
  partrm view cabinet.urdf --port 8081
  partrm view result
  partrm view --public-host parts.example.org
"""


def view(
    source: Annotated[Path | None, tyro.conf.Positional] = None,
    /,
    port: int = 8080,
    host: str = "127.0.0.1",
    public_host: Annotated[tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="NAME")] = (),
    model: str = "base",
    device: Literal["auto", "cpu", "cuda"] = "auto",
    precision: Literal["float32", "bfloat16"] = "float32",
) -> None:
    """Serve the page.

    Args:
        source: what the page opens; the bundled examples if left out.
        port: the first free port from here on is taken; 0 for any.
        host: address to listen on; 127.0.0.1 is reached from this machine alone, 0.0.0.0 from the network.
        public_host: name that a proxy before it goes by, with its port unless that is 80 or 443: its pages may connect.
            May be given several times.
        model: name of the bundled weights, or a checkpoint folder; Gaussians alone need none.
        device: auto takes a CUDA device if there is one.
        precision: of the network's numbers; bfloat16 takes half the time on CPUs with AMX.
    """
    if not 0 <= port <= 65535:
        raise UsageError(f"--port {port}: give 0 to 65535")
    for name in public_host:
        if not HOST_NAME.fullmatch(name):
            raise UsageError(f"--public-host {name}: give a name as parts.example.org or parts.example.org:8443")

    from partrm.model.checkpoints import load_model
    from partrm.model.devices import select_device
    from partrm.viewer.engine import Engine
    from partrm.viewer.server import serving
    from partrm.viewer.sources import needs_model, open_path

    device_name = select_device(device)
    at_once = needs_model(source)  # else only once something that can be dragged is opened on the page
    load = partial(load_model, model, device_name, precision)
    engine = Engine(load() if at_once else load)
    start = None if source is None else open_path(source, engine.size_px if at_once else None)
    told = threading.Event()
    with serving(start, engine, host, port, public_host) as address:
        for stop in (signal.SIGINT, signal.SIGTERM):  # also where a shell has told its background jobs to ignore them
            signal.signal(stop, lambda *_: told.set())
        print(f"partrm view: {address} (Ctrl+C stops it)", flush=True)
        told.wait()
    print("partrm view: stopped")
