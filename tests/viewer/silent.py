"""A viser client without a browser: takes every call, keeps what the tests look at."""

import contextlib
import math
import time
from types import SimpleNamespace

import numpy as np


class Node(SimpleNamespace):
    """A scene node; remembers the callbacks it was given."""

    def __init__(self, scene, name, **properties):
        super().__init__(**properties)
        self._scene, self.name, self.callbacks = scene, name, []

    def remove(self):
        self._scene.nodes.pop(self.name, None)

    def set_gaussians(self, **arrays):
        self.__dict__.update(arrays)

    def on_drag(self, button="left", modifier=None):
        return lambda callback: self.callbacks.append((button, modifier, callback))

    def on_click(self, callback):
        self.callbacks.append(("click", None, callback))


class Scene:
    """Keeps the nodes that stand."""

    def __init__(self):
        self.nodes = {}

    def _add(self, name, *values, **properties):
        self.nodes[name] = Node(self, name, values=values, **properties)
        return self.nodes[name]

    add_frame = add_image = add_label = add_arrows = add_glb = add_line_segments = add_gaussian_splats = _add

    def set_background_image(self, image, format="auto"):
        self.background = image


class Control(SimpleNamespace):
    """Any control of the panel."""

    def __init__(self, label="", *values, **options):
        super().__init__(label=label, visible=True, value=options.get("initial_value", 0.0), min=0.0, max=100.0)
        self.content = ""

    def __enter__(self):
        return self

    def __exit__(self, *failure):
        return None

    def _listen(self, callback):
        self.callback = callback
        return callback

    on_click = on_update = on_upload = _listen


class Gui:
    """Keeps controls by their labels."""

    def __init__(self):
        self.controls = {}
        self.main_panel = SimpleNamespace(dock_right=lambda: None)

    def __getattr__(self, name):
        def add(label="", *values, **options):
            control = self.controls[label] = Control(label, *values, **options)
            return control

        return add


class SilentClient:
    """Stands in for ``viser.ClientHandle``."""

    def __init__(self):
        self.client_id, self.scene, self.gui = 0, Scene(), Gui()
        self.camera = SimpleNamespace(
            aspect=1.5, position=np.zeros(3), look_at=np.zeros(3), fov=1.0, on_update=lambda callback: None
        )
        self.notices, self.downloads = [], []
        self.splats_per_s, self.latency_s = math.inf, 0.0
        self.local_storage = SimpleNamespace(get_item=self._answer)

    def _answer(self, key, timeout):
        """As a page does: between two frames, each of which takes its time for every splat."""
        splats = [node for name, node in self.scene.nodes.items() if name.endswith("/splats")]
        time.sleep(self.latency_s + sum(len(node.centers) for node in splats) / self.splats_per_s)

    def atomic(self):
        return contextlib.nullcontext()

    def flush(self):
        return None

    def add_notification(self, title, body, **options):
        self.notices.append((title, body))

    def send_file_download(self, name, content, save_immediately=False):
        self.downloads.append((name, content))


def done(session):
    """Wait for all work of the tab, that which work itself asks for too."""
    for _ in range(3):
        session._worker.submit(lambda: None).result(timeout=60)
