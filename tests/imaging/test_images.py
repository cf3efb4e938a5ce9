import io

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage
from torch.testing import assert_close

from partrm.geometry.cameras import CANONICAL_FOVY_RAD, MASK_BOX_FILL, Cameras, orbit_poses
from partrm.imaging import cutout
from partrm.imaging.cutout import ImageError
from partrm.imaging.decoding import decode
from partrm.imaging.images import (
    CANONICAL_BOX_DIAGONAL,
    crop_square,
    frame_canonical,
    frame_diagonal,
    frame_object,
    frame_view,
    load_image,
    save_image,
)


def disc_image(width=200, height=160, centre=(120.0, 70.0), radius=30.0, samples=8):
    """An anti-aliased coloured disc [4, h, w] (its colour varies over x) and its exact coverage."""
    step = (np.arange(samples) + 0.5) / samples
    x = (np.arange(width)[:, None] + step).ravel()
    y = (np.arange(height)[:, None] + step).ravel()
    inside = (x[None] - centre[0]) ** 2 + (y[:, None] - centre[1]) ** 2 <= radius**2
    alpha = inside.reshape(height, samples, width, samples).mean((1, 3))
    red = np.linspace(0.2, 0.9, width)[None].repeat(height, 0)
    return torch.tensor(np.stack([red, 0 * red + 0.1, 0 * red + 0.5, alpha]), dtype=torch.float32)


def composite(rgba, background):
    return rgba[:3] * rgba[3:] + background * (1 - rgba[3:])


def test_save_and_load_are_inverses(tmp_path):
    image = (disc_image() * 255).round() / 255
    save_image(image, tmp_path / "a.png")
    assert_close(load_image(tmp_path / "a.png"), image, atol=1e-6, rtol=0)


def write_broken(kind, path):
    rgba = (disc_image() * 255).round().byte().permute(1, 2, 0).numpy()
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "corrupt":
        Image.fromarray(rgba).save(path)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif kind == "text":
        path.write_text("this is no image")
    elif kind == "tiny":
        Image.new("RGBA", (1, 1), (255, 0, 0, 255)).save(path)
    elif kind == "transparent":
        Image.new("RGBA", (64, 64), (255, 0, 0, 0)).save(path)
    elif kind == "animated":
        frames = [Image.new("RGB", (64, 64), (i, 0, 0)) for i in (0, 100, 200)]
        frames[0].save(path, save_all=True, append_images=frames[1:], format="GIF")
    elif kind == "huge":
        Image.new("1", (20_000, 20_000)).save(path)
    elif kind == "large":
        Image.new("1", (9_000, 9_000)).save(path)
    elif kind == "blank":
        Image.new("RGB", (64, 64), (250, 250, 250)).save(path)
    elif kind == "noise":
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(path)
    elif kind == "int32":
        Image.fromarray(np.full((64, 64), 2**20, dtype=np.int32)).save(path, format="TIFF")
    elif kind == "float":
        Image.fromarray(np.zeros((64, 64), dtype=np.float32)).save(path, format="TIFF")


@pytest.mark.parametrize(
    ("kind", "words"),
    {
        "missing": "no such image file",
        "empty": "the file is empty",
        "corrupt": "damaged",
        "text": "not a readable image",
        "tiny": "1x1 pixels are too few",
        "transparent": "fully transparent",
        "animated": "animated",
        "huge": "at most 64 megapixels",
        "large": "at most 64 megapixels",
        "blank": "no object stands out",
        "noise": "not plain",
        "int32": "no fixed range",
        "float": "no fixed range",
    }.items(),
)
def test_unusable_files_are_refused_with_one_line(kind, words, tmp_path):
    path = tmp_path / "image.png"
    write_broken(kind, path)
    with pytest.raises(ImageError, match=words) as caught:
        load_image(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_grey_16_bit_equals_its_8_bit_twin(tmp_path):
    grey = composite(disc_image(), 1.0).mean(0).numpy()
    Image.fromarray((grey * 65535).round().astype(np.uint16)).save(tmp_path / "deep.png")
    Image.fromarray((grey * 255).round().astype(np.uint8)).save(tmp_path / "shallow.png")
    deep, shallow = load_image(tmp_path / "deep.png"), load_image(tmp_path / "shallow.png")
    inside = (deep[3] == 1) & (shallow[3] == 1)
    assert inside.sum() > 2000
    assert_close(deep[0], deep[2])
    assert_close(deep[:3, inside], shallow[:3, inside], atol=0.003, rtol=0)
    assert_close(deep[0, inside], torch.from_numpy(grey)[inside].float(), atol=2e-5, rtol=0)


def test_exif_orientation_is_applied(tmp_path):
    upright = disc_image()
    rows = (composite(upright, 1.0) * 255).round().byte().permute(1, 2, 0)
    exif = Image.Exif()
    exif[0x0112] = 6  # the stored rows are to be turned by 90 degrees clockwise
    Image.fromarray(rows.rot90(1, (0, 1)).contiguous().numpy()).save(tmp_path / "a.png", exif=exif)
    loaded = load_image(tmp_path / "a.png")
    assert loaded.shape == upright.shape
    assert (loaded[3] - upright[3]).abs().mean() < 0.01


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
@pytest.mark.parametrize("orientation", [1, 3, 5, 6, 7, 8])
def test_exif_orientation_is_applied_to_tiff_files_too(orientation, mode, tmp_path):
    """Pillow would map some of them into memory with their sides exchanged."""
    rows = np.random.default_rng(0).integers(0, 256, (20, 30, 4), dtype=np.uint8)
    picture, exif = Image.fromarray(rows).convert(mode), Image.Exif()
    exif[0x0112] = orientation
    for suffix in ("png", "tif"):
        picture.save(tmp_path / f"a.{suffix}", exif=exif)
    expected, found = (decode(tmp_path / f"a.{suffix}") for suffix in ("png", "tif"))
    assert (found.width, found.height) == (expected.width, expected.height)
    np.testing.assert_array_equal(found.pixels, expected.pixels)


def test_a_tiff_file_that_is_cut_short_is_refused_silently(tmp_path, recwarn):
    Image.new("RGB", (64, 48), (200, 20, 20)).save(tmp_path / "a.tif", compression="jpeg")
    content = (tmp_path / "a.tif").read_bytes()
    for tenth in range(1, 10):
        (tmp_path / "a.tif").write_bytes(content[: len(content) * tenth // 10])
        with pytest.raises(ImageError, match=r"a\.tif"):
            decode(tmp_path / "a.tif")
    assert [str(w.message) for w in recwarn] == []


def test_a_phones_photo_with_a_second_picture_behind_it_is_taken(tmp_path):
    rows = (composite(disc_image(), 1.0) * 255).round().byte().permute(1, 2, 0).numpy()
    photo, behind = Image.fromarray(rows), Image.new("RGB", (16, 16))
    photo.save(tmp_path / "photo.jpg", format="MPO", save_all=True, append_images=[behind])
    with Image.open(tmp_path / "photo.jpg") as image:
        assert (image.format, image.n_frames) == ("MPO", 2)
    loaded = load_image(tmp_path / "photo.jpg")
    assert (loaded[3] - disc_image()[3]).abs().mean() < 0.01


@pytest.mark.parametrize("orientation", [1, 2, 6])
def test_sizes_are_those_of_the_file_however_a_jpeg_is_reduced(orientation, tmp_path):
    """Half of 102 x 101 pixels is 51 x 51: not to be taken for a picture that was turned."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", (102, 101)).save(tmp_path / "a.jpg", exif=exif)
    decoded = decode(tmp_path / "a.jpg", max_side_px=50)
    assert (decoded.width, decoded.height) == ((101, 102) if orientation == 6 else (102, 101))
    assert decoded.pixels.shape == (50, 50, 4)


def test_a_png_with_damaged_exif_data_is_upright(tmp_path):
    picture = Image.fromarray(np.tile(np.uint8([[[200, 20, 20, 255]] * 31 + [[0, 0, 0, 0]]]), (32, 1, 1)))
    picture.save(tmp_path / "a.png", exif=b"no TIFF header")
    assert load_image(tmp_path / "a.png").shape == (4, 32, 32)


def test_a_png_without_its_palette_is_damaged(tmp_path):
    Image.new("P", (32, 32)).save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    at = content.index(b"PLTE") - 4
    (tmp_path / "a.png").write_bytes(content[:at] + content[at + 12 + int.from_bytes(content[at : at + 4], "big") :])
    with pytest.raises(ImageError, match=r"a\.png: not a readable image, or damaged \(AssertionError"):
        load_image(tmp_path / "a.png")


def test_damaged_exif_data_are_passed_over_silently(tmp_path, recwarn):
    Image.new("RGBA", (32, 32), (200, 20, 20, 255)).convert("RGB").save(tmp_path / "a.webp", exif=b"Exif\0\0MM\0*junk")
    rows = (composite(disc_image(), 1.0) * 255).round().byte().permute(1, 2, 0).numpy()
    Image.fromarray(rows).save(tmp_path / "a.jpg", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x05junk")
    load_image(tmp_path / "a.jpg")
    assert [str(w.message) for w in recwarn] == []


@pytest.mark.parametrize("suffix", ["png", "jpg"])
@pytest.mark.parametrize("gradient", [0.0, 0.2])
def test_plain_background_is_removed(suffix, gradient, tmp_path):
    truth = disc_image(640, 480, (330, 220), 120)
    background = 0.95 - gradient * torch.linspace(0, 1, 640).expand(3, 480, 640)
    picture = (composite(truth, background) * 255).round().byte().permute(1, 2, 0).numpy()
    Image.fromarray(picture).save(tmp_path / f"a.{suffix}", quality=90)
    found = load_image(tmp_path / f"a.{suffix}")
    mask, true_mask = found[3] > 0.5, truth[3] > 0.5
    assert (mask & true_mask).sum() / (mask | true_mask).sum() > 0.99
    assert (found[3] - truth[3]).abs().mean() < 0.004
    # No fringe of the background's colour is left in the object's own colours.
    solid = found[3] > 0.3
    assert (found[:3] - truth[:3])[:, solid & true_mask].abs().mean() < (0.01 if suffix == "png" else 0.03)


def cut_out(rgb):
    return torch.from_numpy(cutout.cut_out(rgb.numpy()))


def test_a_hole_of_the_background_colour_stays_inside():
    """A white panel inside of an object on white belongs to the object: only what the border reaches is background."""
    rgb = torch.ones(3, 100, 100)
    rgb[:, 20:80, 20:80] = 0.3
    rgb[:, 40:60, 40:60] = 1.0
    assert cut_out(rgb)[3, 50, 50] == 1


def test_specks_of_dirt_are_background_but_a_second_piece_is_not():
    rgb = torch.ones(3, 200, 200)
    rgb[:, 40:140, 40:140] = 0.3
    rgb[:, 160:180, 20:60] = 0.3  # a twelfth of the object
    rgb[:, 150:153, 150:153] = 0.3
    alpha = cut_out(rgb)[3]
    assert (alpha[45:135, 45:135] == 1).all()
    assert (alpha[162:178, 22:58] == 1).all()
    assert (alpha[145:160, 145:160] == 0).all()


@pytest.mark.parametrize(("gap", "alpha"), [(0, 1.0), (16, 0.0)])
def test_background_flows_in_through_gaps(gap, alpha):
    rgb = torch.ones(3, 100, 100)
    rgb[:, 20:80, 20:80] = 0.3
    rgb[:, 30:70, 30:70] = 1.0
    rgb[:, 20:30, 50 : 50 + gap] = 1.0
    assert cut_out(rgb)[3, 50, 50] == alpha


def photo(truth, light, shadow=0.0, jpeg_quality=None):
    """An object before a background of that light, with a soft shadow down and to the right, maybe as JPEG decodes."""
    alpha = truth[3].numpy()
    cast = ndimage.shift(ndimage.gaussian_filter(alpha, 10), (6, 8))
    rgb = composite(truth, light * torch.from_numpy(1 - shadow * cast).float())
    if jpeg_quality is None:
        return rgb
    file = io.BytesIO()
    Image.fromarray((rgb * 255).round().byte().permute(1, 2, 0).numpy()).save(file, "JPEG", quality=jpeg_quality)
    return torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1).float() / 255


def box_image():
    """A grey box of three shades and its mask, [4, 300, 400]: a background in shadow may look as its sides do."""
    image = torch.zeros(4, 300, 400)
    for shade, rows, columns in (
        (0.82, slice(80, 120), slice(120, 280)),
        (0.72, slice(120, 240), slice(120, 230)),
        (0.48, slice(120, 240), slice(230, 280)),
    ):
        image[:3, rows, columns], image[3, rows, columns] = shade, 1.0
    return image


@pytest.mark.parametrize("brightness", [1.0, 0.7])
@pytest.mark.parametrize("vignette", [0.0, 0.15])
@pytest.mark.parametrize("shadow", [0.0, 0.12])
def test_shadows_and_uneven_light_are_background_and_pale_objects_are_not(brightness, vignette, shadow):
    truth = box_image()
    truth[:3] *= brightness
    x, y = torch.meshgrid(torch.linspace(-1, 1, 400), torch.linspace(-1, 1, 300), indexing="xy")
    light = brightness * (1 - vignette * (x**2 + y**2) / 2).expand(3, 300, 400)
    found = cut_out(photo(truth, light, shadow, jpeg_quality=88))[3] > 0.5
    mask = truth[3] > 0.5
    assert (found & mask).sum() / (found | mask).sum() > 0.97


def test_the_edge_beside_a_shadow_is_freed_of_the_shadow():
    truth = disc_image(640, 480, (330, 220), 120)
    found = cut_out(photo(truth, torch.full((3, 480, 640), 0.95), shadow=0.3))
    assert (found[3] - truth[3]).abs().mean() < 0.004
    rim = (truth[3] > 0.3) & (truth[3] < 1)
    assert (found[:3] - truth[:3])[:, rim & (found[3] > 0.3)].abs().mean() < 0.1


@pytest.mark.parametrize("frame", [frame_object, frame_canonical, frame_diagonal])
def test_framing_maps_pixels_both_ways(frame):
    framed = frame(disc_image(160, 160, (100, 70), 20), 256)
    points = torch.tensor([[100.0, 70.0], [0.0, 0.0], [33.3, 159.0]])
    assert_close(framed.to_source_px(framed.to_framed_px(points)), points)
    # What the map says about the disc is what the picture shows.
    y, x = torch.meshgrid(torch.arange(256) + 0.5, torch.arange(256) + 0.5, indexing="ij")
    seen = torch.stack([(x * framed.image[3]).sum(), (y * framed.image[3]).sum()]) / framed.image[3].sum()
    assert_close(framed.to_framed_px(points[0]), seen, atol=0.05, rtol=0)


def test_a_view_of_known_camera_is_what_the_turned_camera_sees():
    """A disc on the sphere about the camera stays one: its middle comes to the middle, its rim where rays say."""
    camera = Cameras(torch.eye(4), torch.tensor(1.1), 400, 300)
    image = disc_image(400, 300, (310.0, 80.0), 30.0)
    framed, crop = frame_view(image, camera, 256)
    assert crop.width == 256
    local = torch.tensor([[310.0, 80.0], [330.0, 95.0], [290.0, 60.0]])
    rays = torch.cat([(local - torch.tensor([200.0, 150.0])) / camera.focal_px, torch.ones(3, 1)], 1)
    pixels, _ = crop.project(rays)
    assert_close(framed.to_framed_px(local), pixels, atol=1e-2, rtol=0)
    y, x = torch.meshgrid(torch.arange(256) + 0.5, torch.arange(256) + 0.5, indexing="ij")
    seen = torch.stack([(x * framed.image[3]).sum(), (y * framed.image[3]).sum()]) / framed.image[3].sum()
    assert (seen - 128).abs().max() < 6, "its middle, but for the perspective within the disc"
    seen = framed.image[3] > 0.5
    longer = max(int(seen.any(0).sum()), int(seen.any(1).sum()))
    assert 0.7 < longer / 256 <= MASK_BOX_FILL + 0.01, "a disc within its box, which is turned"


def test_canonical_framing_of_the_right_size_is_the_identity():
    image = disc_image(256, 256, (90, 130), 50)
    framed = frame_canonical(image, 256)
    on_white = framed.image[:3] * framed.image[3:]
    assert_close(on_white, image[:3] * image[3:])
    assert_close(framed.to_framed_px(torch.tensor([3.0, 5.0])), torch.tensor([3.0, 5.0]))
    with pytest.raises(ImageError, match="square"):
        frame_canonical(disc_image(), 256)


@pytest.mark.parametrize("centre", [(120.0, 70.0), (25.0, 30.0)])
def test_framing_ignores_where_and_how_large_the_object_was(centre):
    """Also where the canonical square reaches beyond the image."""
    one = frame_object(disc_image(centre=centre, radius=25.0), 256)
    two = frame_object(disc_image(800, 640, (400.0, 320.0), 100.0), 256)
    assert (one.image[3] - two.image[3]).abs().mean() < 0.02, "squares of whole pixels"
    rows = (one.image[3] > 0.5).any(1).sum()
    assert abs(int(rows) / 256 - MASK_BOX_FILL) < 0.02


def test_colours_do_not_bleed_from_transparent_pixels():
    image = disc_image()
    image[:3, image[3] == 0] = torch.tensor([0.0, 1.0, 0.0])[:, None]
    framed = frame_object(image, 256)
    assert framed.image[1, framed.image[3] > 0.05].max() < 0.11


def test_constant_is_what_canonical_objects_fill():
    g = torch.Generator().manual_seed(0)
    sides = torch.rand(2000, 3, generator=g) * 0.8 + 0.2
    sides = sides / sides.norm(dim=-1, keepdim=True)
    corners = torch.cartesian_prod(*[torch.tensor([-0.5, 0.5])] * 3) * sides[:, None]
    azimuth, elevation = (torch.rand(2000, generator=g) * 2 - 1) * 1.05, torch.rand(2000, generator=g) * 0.785
    cameras = Cameras(orbit_poses(azimuth, elevation), torch.full((2000,), CANONICAL_FOVY_RAD), 1, 1)
    pixels, _ = cameras.project(corners)
    diagonal = (pixels.amax(1) - pixels.amin(1)).norm(dim=-1)
    assert abs(float(diagonal.median()) - CANONICAL_BOX_DIAGONAL) < 0.01


def test_map_to_source_puts_values_back():
    image = disc_image(300, 200, (210.0, 60.0), 40.0)
    framed = frame_object(image, 256)
    back = framed.map_to_source(framed.image[3])
    assert back.shape == (200, 300)
    assert (back - image[3]).abs().mean() < 0.003
    assert framed.map_to_source(torch.ones(8, 8))[-1, 0] == 0


@pytest.mark.parametrize("corner", [(-40, 5), (3, -60), (90, 5), (3, 80), (-5, -5), (10, 7)])
def test_squares_may_lie_anywhere(corner):
    image = torch.rand(4, 30, 40, generator=torch.Generator().manual_seed(0))
    side = 32
    framed = crop_square(image, corner, side, side)
    pixels = torch.arange(side) + 0.5
    x, y = torch.meshgrid(pixels, pixels, indexing="xy")
    source = framed.to_source_px(torch.stack([x, y], -1)).floor().long()
    within = (source >= 0).all(-1) & (source[..., 0] < 40) & (source[..., 1] < 30)
    assert bool((framed.image[3][~within] == 0).all())
    expected = image[:, source[..., 1][within], source[..., 0][within]]
    assert_close(framed.image[:, within], expected)


def test_specks_of_a_cut_out_do_not_change_its_frame(tmp_path):
    pixels = np.zeros((200, 200, 4), np.uint8)
    pixels[60:140, 60:140] = (90, 120, 200, 255)
    Image.fromarray(pixels).save(tmp_path / "clean.png")
    pixels[3, 190] = 255
    Image.fromarray(pixels).save(tmp_path / "speck.png")
    clean, speck = (frame_object(load_image(tmp_path / name), 64) for name in ("clean.png", "speck.png"))
    assert clean.scale == speck.scale
    assert_close(clean.image, speck.image)


def test_a_matte_that_is_nowhere_sure_is_the_object(tmp_path):
    pixels = np.zeros((100, 100, 4), np.uint8)
    pixels[20:80, 30:70] = (90, 120, 200, 115)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert int((load_image(tmp_path / "a.png")[3] > 0.5).sum()) == 60 * 40
    pixels[..., 3] //= 12
    Image.fromarray(pixels).save(tmp_path / "a.png")
    with pytest.raises(ImageError, match="fully transparent"):
        load_image(tmp_path / "a.png")


@pytest.mark.parametrize("corner", [(-130, -20), (-17, 5), (40, -300)])
def test_large_squares_are_reduced_without_a_shift(monkeypatch, corner):
    image = disc_image(400, 300, (200.0, 150.0), 90.0)
    plain = crop_square(image, corner, 480, 32)
    monkeypatch.setattr("partrm.imaging.images.LARGE_SIDE_PX", 100)
    reduced = crop_square(image, corner, 480, 32)
    assert reduced.H_source_framed.tolist() == plain.H_source_framed.tolist()
    assert float((reduced.image[3] - plain.image[3]).abs().max()) < 0.05


def test_a_narrow_image_is_not_filled_up_to_a_huge_square(tmp_path):
    pixels = np.zeros((16, 20_000, 4), np.uint8)
    pixels[4:12, 100:19_900] = (90, 120, 200, 255)
    Image.fromarray(pixels).save(tmp_path / "narrow.png")
    framed = frame_object(load_image(tmp_path / "narrow.png"), 64)
    assert framed.image.shape == (4, 64, 64)
    assert framed.scale == pytest.approx(64 / 22_000, rel=0.01)


def test_a_plain_background_is_removed_alike_at_any_working_size(monkeypatch):
    rgba = disc_image(400, 320, (200.0, 160.0), 90.0)
    photo = composite(rgba, torch.full((3, 1, 1), 0.9))
    whole = cut_out(photo)
    monkeypatch.setattr("partrm.imaging.cutout.WORK_SIDE_PX", 200)
    half = cut_out(photo)
    assert float((whole[3] - half[3]).abs().mean()) < 0.01
