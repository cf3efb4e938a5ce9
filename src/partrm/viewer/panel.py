"""The controls beside the 3D view: what they are called, and which action each calls."""

import itertools
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from partrm.inference.part_search import FoundPart
from partrm.viewer.exports import KINDS
from partrm.viewer.geometry import PRESETS
from partrm.viewer.sources import MAX_UPLOAD_BYTES, UPLOAD_FORMATS

HELP = (
    "Press on a part in the picture, pull, release: the part moves in 3D. "
    "**Shift** + drag does the same on the 3D object; without Shift the camera turns."
)

DRAGS, BOX, ADD, REMOVE = "Drags", "A box about the object", "What belongs to the object", "What does not"
"""What the mouse draws on the picture."""

MAX_JOINTS = 3
"""Joints to choose from."""

BOTH = "Both"
"""The camera place that shows picture and object."""


@dataclass(frozen=True)
class Actions:
    """What the controls do; each returns at once."""

    open_gallery: Callable[[], None]
    open_upload: Callable[[str, bytes], None]
    undo: Callable[[], None]
    clear: Callable[[], None]
    find_parts: Callable[[], None]
    pull_freely: Callable[[bool], None]
    """Whether drags on the 3D object pull it without Shift."""
    seek: Callable[[float], None]
    """Fraction of the motion, from the slider, which stands there already."""
    jump: Callable[[float], None]
    """Fraction of the motion, from elsewhere."""
    play: Callable[[bool], None]
    tint: Callable[[bool], None]
    axis: Callable[[bool], None]
    look_from: Callable[[str], None]
    """Name of a camera place."""
    background: Callable[[tuple[int, int, int]], None]
    crop: Callable[[float, float, float], None]
    """Scale, and shift right and down in sides of the square."""
    show_crop: Callable[[bool], None]
    export: Callable[[str], None]
    undo_mask: Callable[[], None]
    choose_joint: Callable[[int], None]
    """Number of a joint, in the order of the buttons."""


class Panel:
    """Builds the controls of one tab and keeps those whose values change by themselves."""

    def __init__(self, gui: Any, actions: Actions, title: str) -> None:
        self._actions = actions
        self.playing = False
        """What the button says."""
        self._sliding = threading.Lock()
        gui.set_panel_label("PartRM")
        self._status: Any = gui.add_markdown(f"### {title}\n{HELP}")
        self._source_controls(gui)
        self._motion_controls(gui)
        self._mask_controls(gui)
        self._look_controls(gui)
        self._export_controls(gui)

    @property
    def several(self) -> bool:
        """Whether a new drag joins those before instead of replacing them."""
        return bool(self._several.value)

    @property
    def draws(self) -> str:
        """What the mouse draws on the picture: :data:`DRAGS`, :data:`BOX`, :data:`ADD` or :data:`REMOVE`."""
        return self._draws.value

    def draw_drags(self) -> None:
        """Let the mouse draw drags again."""
        self._draws.value = DRAGS

    @property
    def brush(self) -> float:
        """Radius of the brushes, as a share of the picture's longer side."""
        return float(self._brush.value) / 200

    def offer_joints(self, texts: Sequence[str]) -> None:
        """Show a button for each joint to choose from; one alone is no choice."""
        self._joint_folder.visible = len(texts) > 1
        for button, text in itertools.zip_longest(self._joints, texts[:MAX_JOINTS]):
            button.visible = text is not None
            if text is not None:
                button.label = text

    def say(self, title: str, text: str) -> None:
        """Show what is open and what is known about it."""
        self._status.content = f"### {title}\n{text}\n\n{HELP}"

    def show_fraction(self, fraction: float) -> None:
        """Move the slider without seeking."""
        self._slider.value = round(100 * min(max(fraction, self._slider.min / 100), self._slider.max / 100), 1)

    def show_playing(self, playing: bool) -> None:
        """Name the button after what it does next."""
        self.playing = playing
        self._play.label = "Pause" if playing else "Play"

    def reset_crop(self, adjustable: bool) -> None:
        """Controls of the mask and the crop for a picture just opened, or cut out anew."""
        self._crop_folder.visible = self._mask_folder.visible = adjustable
        for slider, value in zip(self._crop_sliders, (1.0, 0.0, 0.0), strict=True):
            slider.value = value

    def _source_controls(self, gui: Any) -> None:
        actions = self._actions
        gui.add_button("Examples").on_click(lambda _: actions.open_gallery())
        upload = gui.add_upload_button(
            "Upload a picture",
            hint=f"{', '.join(UPLOAD_FORMATS)}, at most {MAX_UPLOAD_BYTES // 10**6} MB",
            mime_type="image/png,image/jpeg,image/webp,image/bmp,image/tiff",
        )
        upload.on_upload(lambda event: actions.open_upload(event.target.value.name, event.target.value.content))
        drags = gui.add_button_group("Drags", ("Undo", "Clear"))
        drags.on_click(lambda event: actions.undo() if event.target.value == "Undo" else actions.clear())
        find = gui.add_button("Find parts", hint="Number what seems to move; click on a number to move it")
        find.on_click(lambda _: actions.find_parts())
        self._several = gui.add_checkbox("Several drags", False, hint="A new drag joins those before")
        freely = gui.add_checkbox("Pull in 3D", False, hint="Drags on the 3D object pull it without Shift")
        freely.on_update(lambda event: actions.pull_freely(bool(event.target.value)))

    def _mask_controls(self, gui: Any) -> None:
        self._mask_folder = gui.add_folder("Object in the picture", visible=False)
        with self._mask_folder:
            self._draws = gui.add_dropdown("Mouse draws", (DRAGS, BOX, ADD, REMOVE), initial_value=DRAGS)
            self._brush = gui.add_slider("Brush", 1.0, 20.0, 0.5, 5.0, hint="Percent of the picture's longer side")
            gui.add_button("Undo mask").on_click(lambda _: self._actions.undo_mask())

    def _motion_controls(self, gui: Any) -> None:
        actions = self._actions
        self._joint_folder = gui.add_folder("Joint, if it is another", visible=False)
        with self._joint_folder:
            self._joints = [gui.add_button(f"Joint {number + 1}", visible=False) for number in range(MAX_JOINTS)]
        for number, button in enumerate(self._joints):
            button.on_click(lambda _, number=number: actions.choose_joint(number))
        with gui.add_folder("Motion"):
            self._slider = gui.add_slider("Percent", 0.0, 100.0, 0.5, 0.0)
            self._play = gui.add_button("Play")
            states = gui.add_button_group("State", ("Before", "After"))
            beyond = gui.add_checkbox("Beyond the drag", False, hint="Play the joint on both sides of the drag's ends")

        @self._slider.on_update
        def _(event: Any) -> None:
            if event.client is not None:  # moved by the user, not by us
                with self._sliding:  # updates come in several threads: the last one through sees the newest value
                    actions.seek(float(self._slider.value) / 100)

        @beyond.on_update
        def _(_event: Any) -> None:
            self._slider.min, self._slider.max = (-100.0, 200.0) if beyond.value else (0.0, 100.0)
            if not beyond.value and not 0 <= self._slider.value <= 100:
                actions.jump(1.0 if self._slider.value > 100 else 0.0)

        self._play.on_click(lambda _: actions.play(not self.playing))
        states.on_click(lambda event: actions.jump(1.0 if event.target.value == "After" else 0.0))

    def _look_controls(self, gui: Any) -> None:
        actions = self._actions
        with gui.add_folder("Look"):
            tint = gui.add_checkbox("Tint the part", False)
            axis = gui.add_checkbox("Joint axis", True)
            places = gui.add_dropdown("Camera", (BOTH, *PRESETS), initial_value=BOTH)
            background = gui.add_rgb("Background", (255, 255, 255))
        tint.on_update(lambda event: actions.tint(bool(event.target.value)))
        axis.on_update(lambda event: actions.axis(bool(event.target.value)))
        places.on_update(lambda event: actions.look_from(event.target.value))
        background.on_update(lambda event: actions.background(event.target.value))
        self._crop_folder = gui.add_folder("Crop", expand_by_default=False)
        with self._crop_folder:
            shown = gui.add_checkbox("Show the crop", False, hint="The square that the network sees")
            self._crop_sliders = (
                gui.add_slider("Size", 0.5, 2.0, 0.02, 1.0),
                gui.add_slider("Right", -0.5, 0.5, 0.01, 0.0),
                gui.add_slider("Down", -0.5, 0.5, 0.01, 0.0),
            )
        shown.on_update(lambda event: actions.show_crop(bool(event.target.value)))
        for slider in self._crop_sliders:
            slider.on_update(self._crop_moved)

    def _crop_moved(self, event: Any) -> None:
        if event.client is not None:
            scale, right, down = (float(slider.value) for slider in self._crop_sliders)
            self._actions.crop(scale, right, down)

    def _export_controls(self, gui: Any) -> None:
        with gui.add_folder("Export", expand_by_default=False):
            kind = gui.add_dropdown("What", tuple(KINDS))
            gui.add_button("Download").on_click(lambda _: self._actions.export(kind.value))


def joint_text(kind: str, amount: float, confidence: float) -> str:
    """A joint in words: type, how far it moved, how sure that is."""
    moved = f"{amount * 57.29577951:.0f}°" if kind == "revolute" else f"{amount:.2f} object diagonals"
    return f"{kind} joint, moved by {moved}, confidence {confidence:.2f}"


def parts_text(found: Sequence[FoundPart]) -> str:
    """The parts found, a line each."""
    lines = [f"{n}. {p.prediction.joint.type.name.lower()}, {p.confidence:.2f}" for n, p in enumerate(found, start=1)]
    return "Click on a number to move its part. Proposals, with how sure they are:\n\n" + "\n".join(lines)


def counts_text(gaussians: int, moving: int, milliseconds: Sequence[tuple[str, float]]) -> str:
    """Numbers of Gaussians and times in one line."""
    times = ", ".join(f"{name} {value:.0f} ms" for name, value in milliseconds)
    return f"{gaussians:,} Gaussians, {moving:,} of them moving" + (f"; {times}" if times else "")
