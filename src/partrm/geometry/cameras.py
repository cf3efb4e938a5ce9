"""Pinhole cameras: OpenCV poses, pixel coordinates, rays, Plücker maps, orbits and the canonical framing.

Conventions (docs/conventions.md): ``T_world_camera`` is OpenCV camera-to-world (x right, y down, z forward); pixels are
x right, y down, and the centre of the first pixel is (0.5, 0.5); pixels are square and the principal point is central.
"""

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor

from partrm.errors import PartRMError
from partrm.files import atomic_write, read_json
from partrm.geometry.tensor_record import TensorRecord
from partrm.geometry.transforms import invert_rigid, pose

CANONICAL_FOVY_RAD = 2 * math.atan(36 / 2 / 50)
"""Vertical field of view of the canonical camera: Blender's 50 mm lens on a 36 mm sensor, 39.6 degrees."""

CANONICAL_DISTANCE = 2.4
"""Distance from the canonical camera to the origin, in units of the object's closed bounding-box diagonal."""

MASK_BOX_FILL = 0.9
"""Share of a square crop's side that the longer side of the object's mask fills: what the network sees."""

INPUT_HALF_WIDTH = 0.18 * CANONICAL_DISTANCE
"""Half the side of what a crop shows at the canonical origin, canonical units: the object fills the frame."""

INPUT_FOVY_RAD = 2 * math.atan(INPUT_HALF_WIDTH / CANONICAL_DISTANCE)
"""Field of view that is told of a crop whose lens is unknown, 20.4 degrees from the canonical distance."""

ABSENT_FOVY_RAD = 2 * math.atan(1.4 * INPUT_HALF_WIDTH / CANONICAL_DISTANCE)
"""Field of view of absent views: from other sides objects are longer, and parts stand out."""

MAX_SIDE_PX = 8192
"""Of the images of a ``cameras.json``."""

MAX_TOTAL_PIXELS = 2**28
"""Of all its images together."""


class CameraFileError(PartRMError):
    """A camera file that cannot be used; the message says where and why."""


@dataclass(frozen=True)
class Cameras(TensorRecord):
    """A batch of pinhole cameras that share one image size."""

    T_world_camera: Float[Tensor, "*batch 4 4"]
    """OpenCV camera-to-world poses."""
    fovy_rad: Float[Tensor, "*batch"]
    """Vertical field of view, radians."""
    width: int
    """Image width, pixels."""
    height: int
    """Image height, pixels."""

    @property
    def batch_shape(self) -> torch.Size:
        return self.fovy_rad.shape

    @property
    def device(self) -> torch.device:
        return self.fovy_rad.device

    @property
    def focal_px(self) -> Float[Tensor, "*batch"]:
        """Focal length in pixels, the same for x and y."""
        return 0.5 * self.height / torch.tan(0.5 * self.fovy_rad)

    @property
    def K(self) -> Float[Tensor, "*batch 3 3"]:
        """Intrinsic matrices in pixels."""
        K = torch.zeros(*self.batch_shape, 3, 3, dtype=self.fovy_rad.dtype, device=self.device)
        K[..., 0, 0] = K[..., 1, 1] = self.focal_px
        K[..., 0, 2] = 0.5 * self.width
        K[..., 1, 2] = 0.5 * self.height
        K[..., 2, 2] = 1.0
        return K

    @property
    def T_camera_world(self) -> Float[Tensor, "*batch 4 4"]:
        return invert_rigid(self.T_world_camera)

    @property
    def positions(self) -> Float[Tensor, "*batch 3"]:
        """Optical centres in the world frame."""
        return self.T_world_camera[..., :3, 3]

    def resized(self, width: int, height: int | None = None) -> "Cameras":
        """The same cameras with another number of pixels; the aspect ratio must stay."""
        height = width if height is None else height
        if width * self.height != height * self.width:
            raise PartRMError(f"{self.width}x{self.height} cameras cannot become {width}x{height}: other aspect ratio")
        return replace(self, width=width, height=height)

    def transformed(self, T_target_world: Float[Tensor, "*#batch 4 4"]) -> "Cameras":
        """The same cameras expressed in another (rigidly related) world frame."""
        return replace(self, T_world_camera=T_target_world @ self.T_world_camera)

    def rays(self) -> tuple[Float[Tensor, "*batch 3"], Float[Tensor, "*batch h w 3"]]:
        """Ray origins (one a camera) and unit directions through the pixel centres, in the world frame."""
        y, x = torch.meshgrid(
            torch.arange(self.height, dtype=self.fovy_rad.dtype, device=self.device) + 0.5,
            torch.arange(self.width, dtype=self.fovy_rad.dtype, device=self.device) + 0.5,
            indexing="ij",
        )
        f = self.focal_px[..., None, None]
        local = torch.stack([(x - self.width / 2) / f, (y - self.height / 2) / f, torch.ones_like(x) + 0 * f], -1)
        local = torch.nn.functional.normalize(local, dim=-1)
        return self.positions, torch.einsum("...ij,...hwj->...hwi", self.T_world_camera[..., :3, :3], local)

    def plucker(self) -> Float[Tensor, "*batch 6 h w"]:
        """Plücker ray maps (o x d, d) with unit d (LGM, Tang et al. 2024)."""
        origins, directions = self.rays()
        moments = torch.cross(origins[..., None, None, :].expand_as(directions), directions, dim=-1)
        return rearrange(torch.cat([moments, directions], -1), "... h w c -> ... c h w")

    def project(
        self, points_world: Float[Tensor, "*batch n 3"]
    ) -> tuple[Float[Tensor, "*batch n 2"], Float[Tensor, "*batch n"]]:
        """Pixel coordinates and depths (camera z) of world points; a depth <= 0 lies behind the camera."""
        T = self.T_camera_world
        local = points_world @ T[..., :3, :3].mT + T[..., None, :3, 3]
        depth = local[..., 2]
        centre = local.new_tensor([self.width / 2, self.height / 2])
        pixels = local[..., :2] / depth[..., None] * self.focal_px[..., None, None] + centre
        return pixels, depth


def look_at(
    positions: Float[Tensor, "*batch 3"], targets: Float[Tensor, "*#batch 3"], up: Float[Tensor, "*#batch 3"]
) -> Float[Tensor, "*batch 4 4"]:
    """OpenCV camera-to-world poses at ``positions``, looking at ``targets``, image-up along ``up``."""
    forward = torch.nn.functional.normalize(targets - positions, dim=-1)
    right = torch.nn.functional.normalize(torch.cross(forward, up.expand_as(forward), dim=-1), dim=-1)
    down = torch.cross(forward, right, dim=-1)
    return pose(torch.stack([right, down, forward], -1), positions)


def orbit_poses(
    azimuth_rad: Float[Tensor, "*batch"],
    elevation_rad: Float[Tensor, "*batch"],
    distance: Float[Tensor, "*batch"] | float = CANONICAL_DISTANCE,
) -> Float[Tensor, "*batch 4 4"]:
    """Cameras around a z-up object: azimuth 0 stands on +x (the object's front), positive towards +y."""
    ce = torch.cos(elevation_rad)
    direction = torch.stack([ce * torch.cos(azimuth_rad), ce * torch.sin(azimuth_rad), torch.sin(elevation_rad)], -1)
    distance = torch.as_tensor(distance, dtype=direction.dtype, device=direction.device)
    up = direction.new_tensor([0.0, 0.0, 1.0])
    return look_at(direction * distance[..., None], torch.zeros_like(direction), up)


def canonical_pose(device: torch.device | str = "cpu") -> Float[Tensor, "4 4"]:
    """``T_canonical_camera`` of the first camera: at (0, 0, 2.4), looking at the origin, y up."""
    T = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0], device=device))
    T[2, 3] = CANONICAL_DISTANCE
    return T


def canonical_orbit(
    count: int, size_px: int, device: torch.device | str = "cpu", fovy_rad: float = CANONICAL_FOVY_RAD
) -> Cameras:
    """``count`` cameras at equal azimuths about canonical y; the first is the canonical camera itself.

    These are also the cameras under which absent input views enter the network.
    """
    angle = torch.arange(count, device=device) * (2 * math.pi / count)
    turn = torch.eye(4, device=device).repeat(count, 1, 1)
    turn[:, 0, 0] = turn[:, 2, 2] = torch.cos(angle)
    turn[:, 0, 2] = torch.sin(angle)
    turn[:, 2, 0] = -torch.sin(angle)
    return Cameras(turn @ canonical_pose(device), torch.full((count,), fovy_rad, device=device), size_px, size_px)


def mask_boxes(seen: Bool[Tensor, "*batch h w"]) -> Float[Tensor, "*batch 4"]:
    """Left, top, right and bottom of what masks show, fractions of the image; all of it where nothing shows."""

    def span(shown: Bool[Tensor, "*batch n"]) -> tuple[Tensor, Tensor]:
        n, among = shown.shape[-1], shown.float()
        return among.argmax(-1) / n, 1 - among.flip(-1).argmax(-1) / n

    (left, right), (top, bottom) = span(seen.any(-2)), span(seen.any(-1))
    return torch.stack([left, top, right, bottom], -1)


def crop_cameras(cameras: Cameras, boxes: Float[Tensor, "*batch 4"]) -> Cameras:
    """Square cameras at the same places that look at the middle of boxes, whose longer sides fill the frame.

    Exact: the camera turns, so that its picture is a homography of the given one (:data:`MASK_BOX_FILL`).

    Args:
        cameras: whose images the boxes are in.
        boxes: left, top, right, bottom, fractions of the image.
    """
    tangent = torch.tan(cameras.fovy_rad / 2)
    aspect = cameras.width / cameras.height
    left, top, right, bottom = boxes.unbind(-1)
    x = torch.stack([left + right, left, right, left, right], -1) - torch.tensor([1.0, 0.5, 0.5, 0.5, 0.5]).to(boxes)
    y = torch.stack([top + bottom, top, top, bottom, bottom], -1) - torch.tensor([1.0, 0.5, 0.5, 0.5, 0.5]).to(boxes)
    half = torch.tensor([1.0, 2.0, 2.0, 2.0, 2.0]).to(boxes)  # the first is the mean of two sides
    x, y = x * half * aspect * tangent[..., None], y * half * tangent[..., None]
    rays = torch.stack([x, y, torch.ones_like(x)], -1)
    z = torch.nn.functional.normalize(rays[..., 0, :], dim=-1)
    down = torch.tensor([0.0, 1.0, 0.0]).to(z).expand_as(z)
    right_axis = torch.nn.functional.normalize(torch.cross(down, z, dim=-1), dim=-1)
    R = torch.stack([right_axis, torch.cross(z, right_axis, dim=-1), z], -1)
    corners = rays[..., 1:, :] @ R
    reach = (corners[..., :2].abs() / corners[..., 2:].clamp(min=1e-3)).amax((-2, -1))
    T = cameras.T_world_camera.clone()
    T[..., :3, :3] = T[..., :3, :3] @ R
    return Cameras(T, 2 * torch.atan(reach / MASK_BOX_FILL), cameras.height, cameras.height)


def canonicalise(cameras: Cameras) -> tuple[Cameras, Float[Tensor, "*outer 4 4"], Float[Tensor, "*outer"]]:
    """Bring posed views [..., views] into the canonical frame of their first camera.

    World units are scaled so that camera 0 stands at the canonical distance from the world origin, then the world is
    moved rigidly so that camera 0 takes the canonical pose (the reference's normalisation).

    Returns:
        cameras in the canonical frame, ``T_canonical_world`` (rigid, acts on scaled world points) and the scale, so
        that ``p_canonical = T_canonical_world @ (scale * p_world)``.
    """
    distance = cameras.positions[..., 0, :].norm(dim=-1)
    scale = CANONICAL_DISTANCE / distance
    T_world_camera = cameras.T_world_camera.clone()
    T_world_camera[..., :3, 3] *= scale[..., None, None]
    T_canonical_world = canonical_pose(cameras.device).to(scale.dtype) @ invert_rigid(T_world_camera[..., 0, :, :])
    return (
        replace(cameras, T_world_camera=T_canonical_world[..., None, :, :] @ T_world_camera),
        T_canonical_world,
        scale,
    )


def load_cameras(path: Path) -> Cameras:
    """Read ``cameras.json``: ``{"fovy_deg", "width", "height", "cameras": [4x4 OpenCV c2w, ...]}``.

    docs/conventions.md describes the file.

    Raises:
        CameraFileError: missing file, malformed JSON, or poses that are not rigid.
    """
    try:
        content = read_json(path)
    except OSError as error:
        raise CameraFileError(f"{path}: cannot be read ({error.strerror}); give a cameras.json") from error
    except ValueError as error:
        raise CameraFileError(f"{path}: not valid JSON ({error})") from error
    try:
        poses = torch.tensor(content["cameras"], dtype=torch.float32)
        fovy_deg, width, height = (float(content[key]) for key in ("fovy_deg", "width", "height"))
    except (KeyError, TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise CameraFileError(f"{path}: needs fovy_deg, width, height and cameras as 4x4 matrices ({error})") from error
    if poses.ndim != 3 or tuple(poses.shape[1:]) != (4, 4) or len(poses) == 0:
        raise CameraFileError(f"{path}: 'cameras' must be a non-empty list of 4x4 matrices")
    whole = all(side.is_integer() and 1 <= side <= MAX_SIDE_PX for side in (width, height))
    if not (0 < fovy_deg < 180 and whole):
        raise CameraFileError(f"{path}: fovy_deg must lie in (0, 180), width and height be whole, 1 to {MAX_SIDE_PX}")
    if len(poses) * width * height > MAX_TOTAL_PIXELS:
        raise CameraFileError(
            f"{path}: {len(poses)} images of {width:.0f}x{height:.0f} pixels are more than {MAX_TOTAL_PIXELS // 2**20} "
            "megapixels in all; give fewer cameras or smaller images"
        )
    try:
        check_poses(poses)
    except ValueError as error:
        raise CameraFileError(f"{path}: {error}") from error
    return Cameras(poses, torch.full((len(poses),), math.radians(fovy_deg)), int(width), int(height))


def check_poses(poses: Float[Tensor, "n 4 4"]) -> None:
    """Refuse matrices that are no poses of cameras.

    Raises:
        ValueError: not finite, or not rigid.
    """
    if not torch.allclose(poses[:, 3], torch.tensor([0.0, 0.0, 0.0, 1.0]), atol=1e-6):
        raise ValueError("a camera matrix is not rigid: its last row must be 0 0 0 1")
    R = poses[:, :3, :3]
    rigid = torch.allclose(R @ R.mT, torch.eye(3).expand_as(R), atol=1e-3) and bool((torch.linalg.det(R) > 0).all())
    if not (torch.isfinite(poses).all() and rigid):
        raise ValueError("a camera matrix is not a finite rigid camera-to-world transform")


def save_cameras(cameras: Cameras, path: Path) -> None:
    """Write cameras [views] that share one field of view as ``cameras.json`` (inverse of :func:`load_cameras`).

    Raises:
        CameraFileError: cameras of several fields of view, or in several batch dimensions.
        OutputError: the file cannot be written.
    """
    fovy = cameras.fovy_rad.double()
    if cameras.fovy_rad.ndim != 1 or not torch.allclose(fovy, fovy[:1].expand_as(fovy)):
        raise CameraFileError("cameras.json holds one list of cameras with one field of view")
    content = {
        "fovy_deg": math.degrees(float(fovy[0])),
        "width": cameras.width,
        "height": cameras.height,
        "cameras": cameras.T_world_camera.tolist(),
    }
    atomic_write(path, json.dumps(content, indent=1))
