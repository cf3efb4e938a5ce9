"""Moving pictures of a simulation, rendered off screen by MuJoCo."""

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from partrm.imaging.video import save_video
from partrm.robotics.simulated_object import SimulationError, mujoco_package


class Film:
    """Watches an arm (see :data:`partrm.robotics.arm.Watcher`) from one camera.

    Without a screen, MuJoCo renders where the environment says ``MUJOCO_GL=egl`` (or ``osmesa``).
    """

    def __init__(
        self,
        middle: Float[np.ndarray, "3"],
        seen_from: Float[np.ndarray, "3"],
        size_px: tuple[int, int] = (480, 360),
        every_s: float = 0.1,
        distance_m: float = 1.5,
    ) -> None:
        """Look at a point.

        Args:
            middle: of the pictures, metres.
            seen_from: direction in which the camera stands is from there towards this point.
            size_px: width and height, at most 640 and 480.
            every_s: simulated time between pictures.
            distance_m: of the camera.
        """
        self._middle, self._seen_from = middle, seen_from
        self._size_px, self._every_s, self._distance_m = size_px, every_s, distance_m
        self._renderer: Any = None
        self._model: Any = None
        self._next_s = 0.0
        self.pictures: list[UInt8[np.ndarray, "h w 3"]] = []

    def __call__(self, model: Any, data: Any) -> None:
        """Take a picture if it is time.

        Raises:
            SimulationError: MuJoCo cannot render here.
        """
        if model is not self._model and self._renderer is not None:  # the same arm at another place
            self._renderer.close()
            self._renderer, self._next_s = None, 0.0
        if data.time < self._next_s:
            return
        mujoco = mujoco_package()
        if self._renderer is None:
            self._model = model
            width, height = self._size_px
            try:
                self._renderer = mujoco.Renderer(model, height, width)
            except Exception as error:  # each of its backends has errors of its own
                raise SimulationError(f"MuJoCo cannot render here ({error}): set MUJOCO_GL=egl or osmesa") from error
        camera, away = mujoco.MjvCamera(), self._seen_from - self._middle
        camera.lookat[:], camera.distance = self._middle, self._distance_m
        camera.azimuth = np.degrees(np.arctan2(-away[1], -away[0]))
        camera.elevation = -np.degrees(np.arctan2(away[2], np.hypot(away[0], away[1])))
        self._renderer.update_scene(data, camera)
        self._renderer.scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = False
        self.pictures.append(self._renderer.render().copy())
        self._next_s = data.time + self._every_s

    def save(self, path: str | Path) -> None:
        """Write the pictures as an H.264 video in the simulation's own time."""
        save_video(self.pictures, self._size_px, round(1 / self._every_s), path)
