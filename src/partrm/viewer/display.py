"""The object on the page: Gaussians that stand and Gaussians that move as two nodes, joint axis, and handles to pull.

The moving Gaussians are sent once, as they stand before the motion, under a node of their own; a fraction of the motion
only sets that node's pose. On a page that draws slowly, few merged Gaussians stand in while that pose changes.
"""

import math
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from partrm.geometry.gaussians import Gaussians
from partrm.geometry.joints import JointMotion, JointType
from partrm.geometry.transforms import quaternion_from_matrix
from partrm.inference.decode import apply_joint_motion
from partrm.viewer.geometry import voxel_shell
from partrm.viewer.splats import SplatNode

AXIS_COLOR = (25, 110, 230)

AXIS_REACH = 0.55
"""Half the length of a shown revolute axis."""

FEW = 800
"""Gaussians, merged, of an object in motion on a page that draws slowly."""

REST_S = 1.0
"""After so long without a pose of a motion the object rests; a page that draws slowly asks for poses slowly."""


@dataclass(frozen=True)
class MovableGaussians:
    """What is on show: an object before a motion, and the motion."""

    before: Gaussians
    """[n], world frame."""
    moving: Bool[Tensor, " n"]
    joint: JointMotion | None
    """None: a thing that cannot move."""

    def at(self, fraction: float) -> Gaussians:
        """The object after a fraction of the motion."""
        if self.joint is None:
            return self.before
        return apply_joint_motion(self.before, self.moving, self.joint.motion(fraction))


def light_evenly(scene: Any) -> None:
    """Light the arrows, all that is lit in a viser scene here, from everywhere.

    viser's own environment map would be filtered before the first arrow: ten seconds where no GPU draws the page.
    """
    scene.configure_environment_map(None)
    scene.add_light_ambient("/light", intensity=math.pi)


class ObjectDisplay:
    """Draws one :class:`MovableGaussians` into a viser scene; calls may come from any thread."""

    def __init__(self, scene: Any) -> None:
        self._scene = scene
        self._lock = threading.RLock()
        self._root = scene.add_frame("/object", show_axes=False)
        self._part = scene.add_frame("/object/part", show_axes=False)
        self._splats: list[SplatNode] = []
        self._axis: Any = None
        self._handles: list[Any] = []
        self.shown: MovableGaussians | None = None
        self.fraction = 0.0
        self._tinted = False
        self._axis_wanted = True
        self.draws_slowly = False
        """Whether an object in motion is to be shown with few Gaussians."""
        self._coarse = False
        self._moved_s = 0.0

    def clear(self) -> None:
        """Take the object off the page."""
        with self._lock:
            for node in (*self._splats, *self._handles, *([] if self._axis is None else [self._axis])):
                node.remove()
            self._splats, self._handles, self._axis, self.shown = [], [], None, None
            self._coarse = False

    def leave(self) -> None:
        """The page is gone: send nothing more to it."""
        with self._lock:
            self._splats, self._handles, self._axis, self.shown, self._coarse = [], [], None, None, False

    def show(self, shown: MovableGaussians, fraction: float = 0.0) -> None:
        """Put an object on the page in place of the last one."""
        with self._lock:
            self.clear()
            self.shown = shown
            self.set_fraction(fraction)
            self._send_splats()
            self._send_axis()

    def set_fraction(self, fraction: float, in_motion: bool = False) -> None:
        """Move the part to a fraction of its motion (0: before, 1: after; beyond is allowed).

        Args:
            in_motion: more are to follow, by the slider or while playing.
        """
        with self._lock:
            self.fraction = fraction
            if self.shown is None or self.shown.joint is None:
                return
            T = self.shown.joint.motion(fraction)
            self._part.wxyz = quaternion_from_matrix(T[:3, :3]).double().numpy()
            self._part.position = T[:3, 3].double().numpy()
            if in_motion and self.draws_slowly and self._splats:
                self._moved_s = time.monotonic()
                if not self._coarse:
                    self.show_few(True)
                    self._look_again(REST_S)

    @property
    def many(self) -> bool:
        """Whether there are more Gaussians than few."""
        return self.shown is not None and len(self.shown.before) > FEW

    def show_few(self, few: bool) -> None:
        """Put few merged Gaussians in place of all, or all again."""
        with self._lock:
            if self.shown is None or few == self._coarse:
                return
            self._coarse = few
            for handle in self._handles:  # drawn in vain, and dearly: each of their fragments is shaded, then dropped
                handle.visible = not few
            for node in self._splats:
                if few:
                    node.show_few(max(1, FEW * len(node) // len(self.shown.before)))
                else:
                    node.show_all()

    def _look_again(self, seconds: float) -> None:
        timer = threading.Timer(seconds, self._rest)
        timer.daemon = True
        timer.start()

    def _rest(self) -> None:
        """Show all Gaussians again if the object has rested for long enough, else look again later."""
        with self._lock:
            left = self._moved_s + REST_S - time.monotonic()
            if self._coarse and left > 0:
                self._look_again(left)
            else:
                self.show_few(False)

    def set_tinted(self, tinted: bool) -> None:
        """Show the moving part in a colour of its own."""
        with self._lock:
            if tinted != self._tinted:
                self._tinted = tinted
                if self.shown is not None:
                    self.show_few(False)
                    self._send_splats()

    def set_axis_visible(self, visible: bool) -> None:
        """Show the joint's axis."""
        with self._lock:
            self._axis_wanted = visible
            if self._axis is not None:
                self._axis.visible = visible

    def on_pull(self, callback: Callable[[Any], Awaitable[None]], without_shift: bool) -> None:
        """Let drags that start on the object call ``callback``: those with Shift held, or all of them.

        Splats take no mouse events in viser, so an invisible coarse surface around them does.
        """
        with self._lock:
            for handle in self._handles:
                handle.remove()
            self._handles = []
            if self.shown is None or self.shown.joint is None:
                return
            for path, chosen in (("/object/body", ~self.shown.moving), ("/object/part", self.shown.moving)):
                seen = chosen & (self.shown.before.opacities > 0.2)
                if bool(seen.any()):
                    content = invisible_surface(self.shown.before.means[seen].numpy())
                    handle = self._scene.add_glb(
                        f"{path}/handle",
                        content,
                        cast_shadow=False,
                        receive_shadow=False,
                        visible=not self._coarse,
                    )
                    handle.on_drag("left", modifier="shift")(callback)
                    if without_shift:
                        handle.on_drag("left")(callback)
                    self._handles.append(handle)

    def _send_splats(self) -> None:
        assert self.shown is not None
        for node in self._splats:
            node.remove()
        self._splats = []
        for path, chosen in (("/object/body", ~self.shown.moving), ("/object/part", self.shown.moving)):
            if bool(chosen.any()):
                tinted = self._tinted and path == "/object/part"
                self._splats.append(SplatNode(self._scene, f"{path}/splats", self.shown.before[chosen], tinted))

    def _send_axis(self) -> None:
        assert self.shown is not None
        joint, moving = self.shown.joint, self.shown.moving
        if joint is None or not bool(moving.any()):
            return
        center = self.shown.before.means[moving].median(0).values
        self._axis = self._scene.add_arrows(
            "/object/axis",
            axis_arrow(joint, center)[None].numpy(),
            AXIS_COLOR,
            shaft_radius=0.006,
            head_radius=0.018,
            head_length=0.05,
            visible=self._axis_wanted,
        )


def axis_arrow(joint: JointMotion, center: Float[Tensor, "3"]) -> Float[Tensor, "2 3"]:
    """Start and end of the arrow that shows a joint: along a revolute axis, or how far a prismatic part goes."""
    if joint.type == JointType.PRISMATIC:
        return torch.stack([center, center + joint.axis * (joint.amount if abs(joint.amount) > 0.05 else 0.05)])
    middle = joint.pivot + joint.axis * (joint.axis @ (center - joint.pivot))
    return torch.stack([middle - AXIS_REACH * joint.axis, middle + AXIS_REACH * joint.axis])


def invisible_surface(means: Float[np.ndarray, "n 3"]) -> bytes:
    """A GLB file of the coarse surface around points that takes mouse rays but draws nothing, not even depth."""
    import trimesh
    from trimesh.visual import TextureVisuals
    from trimesh.visual.material import PBRMaterial

    vertices, faces = voxel_shell(means)
    material = PBRMaterial(alphaMode="MASK", alphaCutoff=0.5, baseColorFactor=[255, 255, 255, 0], doubleSided=True)
    mesh = trimesh.Trimesh(vertices, faces, process=False)
    mesh.visual = TextureVisuals(uv=np.zeros((len(vertices), 2)), material=material)
    return mesh.export(file_type="glb")  # pyright: ignore[reportReturnType]
