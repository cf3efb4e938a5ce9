"""One browser tab: what is open in it, its drags and predictions; nothing is shared with other tabs but the network."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch

from partrm.errors import PartRMError
from partrm.geometry.drag_numbers import MIN_DRAG_PX, DragError
from partrm.geometry.joints import JointMotion
from partrm.imaging.images import FramedImage
from partrm.inference.part_search import FoundPart
from partrm.inference.prediction import ADVICE, Prediction
from partrm.viewer.display import MovableGaussians, ObjectDisplay
from partrm.viewer.drag_3d import Pull
from partrm.viewer.engine import Engine, Generation, Request
from partrm.viewer.exports import Result, export
from partrm.viewer.frame_rate import Pace
from partrm.viewer.gallery import Example, Gallery
from partrm.viewer.geometry import PRESETS, Pixel, overview
from partrm.viewer.masking import MaskGesture, boxed, brushed
from partrm.viewer.panel import ADD, BOTH, BOX, DRAGS, Actions, Panel, counts_text, joint_text, parts_text
from partrm.viewer.picture import PictureDisplay, shows
from partrm.viewer.playback import Player
from partrm.viewer.sources import OpenedPicture, open_picture, open_upload, recrop
from partrm.viewer.viewpoint import Viewpoint

Drag = tuple[float, float, float, float]
"""x0, y0, x1, y1 in pixels of the user's picture."""

EMPTY = "Drag a part in the picture."

FARTHEST = 2.0
"""Shares of the joint's motion that the slider reaches, beyond the drag too."""

NOTHING = "No object stands out: let the mouse draw a box about it (*Object in the picture*)."

logger = logging.getLogger(__name__)


class Session:
    """State and behaviour of one tab. Work that takes time runs in order on a thread of the tab's own."""

    def __init__(self, client: Any, engine: Engine, examples: Sequence[Example], folder: Path) -> None:
        self._client, self._engine, self._examples, self._folder = client, engine, examples, folder
        self._worker = ThreadPoolExecutor(1, thread_name_prefix=f"tab-{client.client_id}")
        self._object = ObjectDisplay(client.scene)
        self._picture = PictureDisplay(client.scene)
        self._player = Player(self._step)
        self._gallery: Gallery | None = None
        self._opened: OpenedPicture | None = None
        self._base_frame: FramedImage | None = None
        self._result: Result | None = None
        self._drags: list[Drag] = []
        self._history: list[list[Drag]] = []
        self._pressed_px: tuple[float, float] | None = None
        self._gesture = MaskGesture(self._picture)
        self._masks: list[OpenedPicture] = []
        """The picture before each correction of its mask."""
        self._parts: tuple[FoundPart, ...] = ()
        """Those that are numbered in the picture."""
        self._choices: tuple[JointMotion, ...] = ()
        """Joints in the order of their buttons."""
        self._pull = Pull(client, self._object)
        self._predictions, self._previews, self._releases = Generation(), Generation(), Generation()
        self._closing, self._closed = threading.Lock(), False
        self._tint = self._show_crop = self._pull_freely = False
        self._panel = Panel(client.gui, self._actions(), "PartRM")
        client.gui.main_panel.dock_right()
        self._viewpoint = Viewpoint(client)
        self._waiting = 0
        self._pace = Pace(client, self._object, lambda: self._waiting > 0 or self._closed)

    def start(self, source: OpenedPicture | MovableGaussians | None) -> None:
        """Show what the server was started with; None is the wall of examples."""
        self._do("Opening", self.show_gallery if source is None else lambda: self.show_source(source))

    def close(self) -> None:
        """The tab is gone: stop its motion and drop its work."""
        self._player.stop()
        self._predictions.next()
        with self._closing:
            self._closed = True
            self._worker.shutdown(wait=False, cancel_futures=True)
        self._object.leave()
        self._opened = self._result = None

    def _actions(self) -> Actions:
        return Actions(
            open_gallery=lambda: self._do("Examples", self.show_gallery),
            open_upload=self._upload,
            undo=lambda: self._do("Undo", self._undo),
            clear=lambda: self._do("Clear", self._clear_drags),
            find_parts=lambda: self._do("Find parts", self._find_parts),
            pull_freely=self._set_pull_freely,
            seek=self._seek,
            jump=self._jump,
            play=self._play,
            tint=self._set_tint,
            axis=self._object.set_axis_visible,
            look_from=self._look_from,
            background=self._set_background,
            crop=lambda *numbers: self._do("Crop", lambda: self._crop(*numbers)),
            show_crop=self._set_show_crop,
            export=lambda kind: self._do("Export", lambda: self._export(kind)),
            undo_mask=lambda: self._do("Undo mask", self._undo_mask),
            choose_joint=lambda number: self._do("Joint", lambda: self._choose_joint(number)),
        )

    def _do(self, what: str, job: Callable[[], None]) -> None:
        """Run a job after those before it; its failure becomes a notice, and the tab lives on."""
        with self._closing:
            if not self._closed:
                self._waiting += 1
                self._worker.submit(self._guarded, what, job)

    def _guarded(self, what: str, job: Callable[[], None]) -> None:
        with self._closing:
            self._waiting -= 1
        try:
            job()
        except Exception as error:
            if not isinstance(error, ValueError | ImportError):
                logger.exception("%s failed", what)
            self.notice(f"{what} failed", str(error) or type(error).__name__)

    def notice(self, title: str, text: str) -> None:
        """A message in the corner of the page."""
        self._client.add_notification(title, text, auto_close_seconds=12, color="red")

    # What is open.

    def show_gallery(self) -> None:
        """The wall of examples."""
        self._close_source()
        self._gallery = Gallery(self._client.scene, self._examples, self._pick)
        self._panel.say("Examples", "Click one, or upload a picture of your own.")
        self._viewpoint.stand_fitting(lambda aspect: Gallery.place(len(self._examples), aspect))

    def _pick(self, index: int) -> None:
        self._do("Opening", lambda: self.open_example(index))

    def open_example(self, index: int) -> None:
        """Open a bundled example and show what its drag does."""
        example = self._examples[index]
        self.show_source(open_picture(example.path, self._engine.size_px, example.framing, example.title))
        self._set_drags(list(example.drags_px))

    def _upload(self, name: str, content: bytes) -> None:
        self._do("Upload", lambda: self.show_source(open_upload(name, content, self._folder, self._engine.size_px)))

    def show_source(self, source: OpenedPicture | MovableGaussians) -> None:
        """Put a picture, or Gaussians, on the page in place of what was there."""
        self._close_source()
        if isinstance(source, MovableGaussians):
            self._panel.reset_crop(False)
            self._show(Result(source, None), "Gaussians", [])
            self._do("Opening", self._pace.measure)
        else:
            self._opened, self._base_frame = source, source.views.framed[0]
            self._picture.show(source.rgba, self._on_picture_drag, source.is_photo)
            self._picture.on_click(lambda pixel: self._do("Part", lambda: self._choose_part(pixel)))
            self._panel.reset_crop(source.adjustable)
            self._draw_crop()
            nothing = source.cut_by == "nothing"
            self._panel.say(source.title, NOTHING if nothing else EMPTY)
        self._look_from(BOTH)

    @property
    def _title(self) -> str:
        return "PartRM" if self._opened is None else self._opened.title

    def _close_source(self) -> None:
        self._player.stop()
        self._panel.show_playing(False)
        self._predictions.next()
        self._releases.next()
        if self._gallery is not None:
            self._gallery.remove()
            self._gallery = None
        self._object.clear()
        self._picture.clear()
        self._panel.draw_drags()
        self._panel.reset_crop(False)
        self._opened = self._base_frame = self._result = None
        self._drags, self._history, self._masks, self._pressed_px, self._parts = [], [], [], None, ()
        self._offer_joints(())

    # Drags and predictions.

    async def _on_picture_drag(self, event: Any) -> None:
        plane = self._picture.plane
        if plane is None:
            return
        eye = np.asarray(event.client.camera.position)
        if event.phase == "start" or self._pressed_px is None:
            self._pressed_px = plane.hit(eye, np.asarray(event.start_position))
        end = plane.hit(eye, np.asarray(event.end_position))
        if self._pressed_px is None or end is None:
            return
        start, released = self._pressed_px, event.phase == "end"
        if released:
            self._pressed_px = None
        if self._panel.draws == DRAGS:
            self._follow((*start, *end), released)
        else:
            self._follow_mask(start, end, released)

    async def _on_pull(self, event: Any) -> None:
        drag = None if self._opened is None else self._pull.follow(event, self._opened.views)
        if drag is not None:
            self._follow(drag, released=event.phase == "end")

    def _follow(self, drag: Drag, released: bool) -> None:
        """A drag under way or released: draw it, and ask the network where that is due."""
        drags = [*(self._drags if self._panel.several else []), drag]
        if released:
            self._releases.next()
        if not released:
            self._picture.draw_drags(drags)
            if self._engine.fast:
                self._ask_preview(drags)
        elif np.hypot(drag[2] - drag[0], drag[3] - drag[1]) >= MIN_DRAG_PX:
            self._do("Prediction", lambda: self._set_drags(drags))
        else:
            self._do("Drag", self._drop_drag)

    def _drop_drag(self) -> None:
        """Show what there was before a drag that came to nothing."""
        self._picture.draw_drags(self._drags)
        self._tint_picture()

    def _set_drags(self, drags: list[Drag], remember: bool = True) -> None:
        if remember:
            self._history.append(self._drags)
        self._drags, self._parts = drags, ()
        self._picture.draw_drags(drags)
        if drags:
            self._ask(drags)
        else:
            self._predictions.next()
            self._player.stop()
            self._object.clear()
            self._picture.tint(None)
            self._result = None
            self._offer_joints(())
            self._panel.show_fraction(0.0)
            self._panel.say(self._title, EMPTY)

    def _undo(self) -> None:
        if self._history:
            self._set_drags(self._history.pop(), remember=False)

    def _clear_drags(self) -> None:
        if self._drags:
            self._set_drags([])

    def _ask(self, drags: list[Drag]) -> None:
        """Ask for a prediction; those asked for before and not yet begun are skipped."""
        request, asked_s = self._predictions.next(), time.perf_counter()
        self._do("Prediction", lambda: self._predict(request, drags, asked_s))

    def _predict(self, request: Request, drags: list[Drag], asked_s: float) -> None:
        opened = self._opened
        if request.outdated or opened is None:
            return
        try:
            prediction = self._engine.predict(opened.views, drags, lambda: not (request.outdated or self._closed))
        except Exception:
            self._drags = self._history.pop() if self._history else []
            self._drop_drag()
            raise
        if prediction is not None and not (request.outdated or self._closed):
            self._offer_joints((prediction.joint, *prediction.alternatives))
            self._show_prediction(prediction, opened.title, asked_s)

    def _find_parts(self) -> None:
        """Number what seems to move in the picture."""
        opened, request = self._opened, self._predictions.next()
        if opened is None:
            return
        found = self._engine.find_parts(
            opened.views,
            lambda: not (request.outdated or self._closed),
            lambda done, total: self._panel.say(opened.title, f"Looking for parts: {done} of {total} places."),
        )
        if found and not (request.outdated or self._closed):
            self._parts = found
            self._picture.draw_drags([])
            self._picture.number([part.prediction.part_mask for part in found])
            self._panel.say(opened.title, parts_text(found))

    def _choose_part(self, pixel: Pixel) -> None:
        """Move the part that a click is on, of those that are numbered the smallest."""
        at = [part for part in self._parts if shows(part.prediction.part_mask, pixel)]
        if at and self._opened is not None:
            part = min(at, key=lambda p: float(p.prediction.part_mask.sum())).prediction
            self._history.append(self._drags)
            self._drags = [(x, y, u, v) for x, y, u, v in torch.cat([part.drags.start, part.drags.end], 1).tolist()]
            self._picture.draw_drags(self._drags)
            self._offer_joints((part.joint, *part.alternatives))
            self._show_prediction(part, self._opened.title, None)

    def _ask_preview(self, drags: list[Drag]) -> None:
        """Ask which part a drag under way would move; only the newest such question is put to the network."""
        newest, under_way = self._previews.next(), self._releases.current
        self._do("Preview", lambda: self._preview(newest, under_way, drags))

    def _preview(self, newest: Request, under_way: Request, drags: list[Drag]) -> None:
        opened = self._opened
        if newest.outdated or under_way.outdated or opened is None:
            return
        try:
            found = self._engine.predict(
                opened.views, drags, lambda: not (newest.outdated or under_way.outdated or self._closed), ensemble=False
            )
        except DragError:
            return  # a drag under way may well pass where none may end
        except Exception:
            logger.exception("preview failed")  # the release will tell the user, once
            return
        if found is not None and not (under_way.outdated or self._closed):
            self._picture.tint(found.part_mask)

    def _show_prediction(self, prediction: Prediction, title: str, asked_s: float | None) -> None:
        """Show a prediction and play it; ``asked_s`` is when its drag was released, None of one chosen by its joint."""
        self._player.stop()
        shown = MovableGaussians(prediction.before, prediction.moving, prediction.joint)
        times = [("network", 1000 * prediction.timings_s["network"])]
        self._show(Result(shown, prediction), title, times)
        self._tint_picture()
        if asked_s is not None:
            times.append(("drag to splats", 1000 * (time.perf_counter() - asked_s)))
        self._describe(title, times)
        if bool(prediction.moving.any()):
            self._panel.show_playing(False)
            self._player.play_once()
        else:
            self.notice("Nothing moves", "the network found no part under the drag")
        self._object.on_pull(self._on_pull, self._pull_freely)
        self._pace.measure()

    def _show(self, result: Result, title: str, times: list[tuple[str, float]]) -> None:
        self._result = result
        with self._client.atomic():
            self._object.show(result.shown)
            self._panel.show_fraction(0.0)
        self._client.flush()
        self._describe(title, times)

    def _describe(self, title: str, times: list[tuple[str, float]]) -> None:
        assert self._result is not None
        shown = self._result.shown
        lines = [counts_text(len(shown.before), int(shown.moving.sum()), times)]
        if shown.joint is not None:
            joint = shown.joint
            lines.insert(0, joint_text(joint.type.name.lower(), joint.amount, joint.confidence))
        if self._result.prediction is not None and self._result.prediction.uncertain:
            lines.insert(1, f"**{ADVICE}**")
        self._panel.say(title, "\n\n".join(lines))

    # Motion and look.

    def _step(self, fraction: float, in_motion: bool = True) -> None:
        with self._client.atomic():
            self._object.set_fraction(fraction, in_motion)
            self._panel.show_fraction(fraction)

    def _seek(self, fraction: float) -> None:
        if not abs(fraction) <= FARTHEST:
            return  # no page of ours sends such a place
        self._stop_playing()
        self._object.set_fraction(fraction, in_motion=True)

    def _jump(self, fraction: float) -> None:
        self._stop_playing()
        self._step(fraction, in_motion=False)

    def _stop_playing(self) -> None:
        self._player.stop()
        if self._panel.playing:
            self._panel.show_playing(False)

    def _play(self, playing: bool) -> None:
        if playing and self._object.shown is not None and self._object.shown.joint is not None:
            self._player.play(self._object.fraction)
        else:
            playing = False
            self._player.stop()
        self._panel.show_playing(playing)

    def _set_tint(self, tinted: bool) -> None:
        self._tint = tinted
        self._object.set_tinted(tinted)
        self._tint_picture()

    def _tint_picture(self) -> None:
        prediction = None if self._result is None else self._result.prediction
        if self._parts and not self._tint:
            self._picture.number([part.prediction.part_mask for part in self._parts])
        else:
            self._picture.tint(prediction.part_mask if self._tint and prediction is not None else None)

    def _set_pull_freely(self, freely: bool) -> None:
        self._pull_freely = freely
        if self._opened is not None:
            self._object.on_pull(self._on_pull, freely)

    def _set_background(self, rgb: Sequence[int]) -> None:
        if len(rgb) != 3 or not all(isinstance(value, int) and 0 <= value <= 255 for value in rgb):
            return  # no page of ours sends such a colour
        self._client.scene.set_background_image(np.full((4, 4, 3), rgb, dtype=np.uint8), format="png")

    def _look_from(self, name: str) -> None:
        if name in PRESETS:
            self._viewpoint.stand(PRESETS[name])
        else:
            self._viewpoint.stand_fitting(lambda aspect: overview(self._picture.plane, aspect))

    # The object's mask, the crop and exports.

    def _follow_mask(self, start: Pixel, end: Pixel, released: bool) -> None:
        """A box or a stroke of a brush under way or released."""
        opened, draws = self._opened, self._panel.draws
        if opened is None or not opened.adjustable:
            return
        if draws == BOX:
            box = self._gesture.box(start, end, released)
            if released:
                self._panel.draw_drags()
                self._do("Box", lambda: self._remask(lambda picture: boxed(picture, box)))
        else:
            radius = self._panel.brush * max(opened.rgba.shape[1:])
            stroke = self._gesture.stroke(start, end, released, radius, draws == ADD)
            if released:
                self._do("Brush", lambda: self._remask(lambda picture: brushed(picture, stroke)))

    def _remask(self, correct: Callable[[OpenedPicture], OpenedPicture]) -> None:
        if self._opened is not None:
            corrected = correct(self._opened)
            self._masks.append(self._opened)
            self._show_mask(corrected)

    def _undo_mask(self) -> None:
        if self._masks:
            self._show_mask(self._masks.pop())

    def _show_mask(self, picture: OpenedPicture) -> None:
        """Another mask of the picture that is open, the crop about it; the drags are asked again."""
        self._opened, self._base_frame, self._parts = picture, picture.views.framed[0], ()
        self._picture.recolor(picture.rgba, picture.is_photo)
        self._panel.reset_crop(picture.adjustable)
        self._draw_crop()
        if self._drags:
            self._ask(self._drags)
        else:
            self._panel.say(picture.title, EMPTY)

    def _offer_joints(self, joints: tuple[JointMotion, ...]) -> None:
        self._choices = joints
        self._panel.offer_joints([joint_text(j.type.name.lower(), j.amount, j.confidence) for j in joints])

    def _choose_joint(self, number: int) -> None:
        """Let another of the ensemble's joints move the part."""
        prediction = None if self._result is None else self._result.prediction
        if prediction is None or not number < len(self._choices):
            return
        chosen = self._choices[number]
        if chosen is not prediction.joint:
            alternatives = [joint is chosen for joint in prediction.alternatives]
            self._show_prediction(prediction.with_alternative(alternatives.index(True)), self._title, None)

    def _crop(self, scale: float, right: float, down: float) -> None:
        if self._opened is None or self._base_frame is None:
            return
        self._opened = recrop(self._opened, self._base_frame, scale, right, down)
        self._draw_crop()
        if self._drags:
            self._ask(self._drags)

    def _set_show_crop(self, shown: bool) -> None:
        self._show_crop = shown
        self._draw_crop()

    def _draw_crop(self) -> None:
        wanted = self._show_crop and self._opened is not None
        self._picture.draw_crop(self._opened.views.framed[0] if wanted and self._opened is not None else None)

    def _export(self, kind: str) -> None:
        if self._result is None:
            raise PartRMError("there is nothing to export yet: draw a drag first")
        name, content = export(kind, self._result)
        self._client.send_file_download(name, content, save_immediately=True)
