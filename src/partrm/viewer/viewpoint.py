"""Where the camera of a tab stands."""

from collections.abc import Callable
from typing import Any

from partrm.viewer.geometry import FOVY_RAD, CameraPlace


class Viewpoint:
    """Puts a tab's camera at places, also at those that depend on the shape of its window."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._fit: Callable[[float], CameraPlace] | None = None
        self._fitted_aspect = 0.0
        client.camera.fov = FOVY_RAD
        client.camera.on_update(self._refit)

    def stand(self, place: CameraPlace) -> None:
        """Stand at a place."""
        self._fit = None
        self._put(place)

    def stand_fitting(self, fit: Callable[[float], CameraPlace]) -> None:
        """Stand where everything fits the window, also when the window changes its shape.

        Args:
            fit: the place for an aspect ratio (width over height).
        """
        self._fit, self._fitted_aspect = fit, self._client.camera.aspect
        self._put(fit(self._fitted_aspect))

    def _refit(self, camera: Any) -> None:
        if self._fit is not None and abs(camera.aspect - self._fitted_aspect) > 0.01:
            self.stand_fitting(self._fit)

    def _put(self, place: CameraPlace) -> None:
        with self._client.atomic():
            self._client.camera.position = place.position
            self._client.camera.look_at = place.look_at
