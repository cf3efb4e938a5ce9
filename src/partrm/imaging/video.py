"""Pictures as a video."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from jaxtyping import UInt8


def save_video(
    pictures: Iterable[UInt8[np.ndarray, "h w 3"]], size_px: tuple[int, int], frames_per_second: int, path: str | Path
) -> None:
    """Write an H.264 video; one row or column of white more where the sides are odd, since the codec wants even ones.

    Args:
        pictures: all of one size.
        size_px: their width and height.
        frames_per_second: pictures shown a second.
        path: of the file.
    """
    import imageio_ffmpeg

    width, height = size_px[0] + size_px[0] % 2, size_px[1] + size_px[1] % 2
    video = imageio_ffmpeg.write_frames(
        str(path), (width, height), fps=frames_per_second, codec="libx264", quality=7, macro_block_size=2
    )
    video.send(None)
    try:
        for picture in pictures:
            padding = (0, height - picture.shape[0]), (0, width - picture.shape[1]), (0, 0)
            video.send(np.pad(picture, padding, constant_values=255))
    finally:
        video.close()
