"""Zero123++ on a tiny model with random weights, made here in the layout of the public one."""

import json
import math
from dataclasses import replace
from importlib.util import find_spec

import pytest
import torch

from partrm.cli import main
from partrm.geometry.cameras import CANONICAL_DISTANCE
from partrm.imaging.cutout import ImageError
from partrm.imaging.images import save_image
from partrm.inference.pipeline import network_input, predict
from partrm.inference.source import check_drags, load_source
from partrm.model.checkpoints import CheckpointError, load_model, save_checkpoint
from partrm.model.network import TINY, PartRMNetwork
from partrm.paper.novel_views import PARTDRAG_ELEVATION_DEG, PARTDRAG_PLAN, ZERO123_PLAN, plan_cameras
from partrm.paper.pipeline import with_drawn_views
from partrm.paper.zero123 import REPOSITORY, Zero123Error, load_zero123, prepared

# Imported where they are used: that takes seconds, and every worker collects this file.
pytestmark = pytest.mark.skipif(
    not (find_spec("diffusers") and find_spec("transformers")), reason="partrm[zero123] is not installed"
)

TOKENS, WIDTH = 7, 32


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model of every part, saved as the public one is."""
    import diffusers
    import transformers

    torch.manual_seed(0)
    root = tmp_path_factory.mktemp("zero123")
    clip = {"hidden_size": WIDTH, "intermediate_size": WIDTH, "num_hidden_layers": 1, "num_attention_heads": 2}
    ids = {"bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 0}
    text = transformers.CLIPTextConfig(vocab_size=4, max_position_embeddings=TOKENS, **clip, **ids)
    transformers.CLIPTextModel(text).save_pretrained(root / "text_encoder")
    vision = transformers.CLIPVisionConfig(projection_dim=WIDTH, image_size=16, patch_size=8, **clip)
    transformers.CLIPVisionModelWithProjection(vision).save_pretrained(root / "vision_encoder")
    diffusers.AutoencoderKL(
        block_out_channels=(32, 32),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        layers_per_block=1,
    ).save_pretrained(root / "vae")
    diffusers.UNet2DConditionModel(
        sample_size=16,
        layers_per_block=1,
        block_out_channels=(32, 32),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=WIDTH,
        attention_head_dim=2,
    ).save_pretrained(root / "unet")
    schedule = {"beta_schedule": "linear", "beta_start": 0.00085, "beta_end": 0.012, "prediction_type": "v_prediction"}
    diffusers.EulerAncestralDiscreteScheduler(**schedule).save_pretrained(root / "scheduler")
    special = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}
    files = {
        "tokenizer/vocab.json": {"!": 0, "a</w>": 1, "<|startoftext|>": 2, "<|endoftext|>": 3},
        "tokenizer/special_tokens_map.json": special | {"pad_token": "!"},
        "tokenizer/tokenizer_config.json": special | {"pad_token": "!", "model_max_length": TOKENS},
        "feature_extractor_clip/preprocessor_config.json": look(16, 0.5, 0.5),
        "feature_extractor_vae/preprocessor_config.json": look(16, 0.5, 0.8),
        "model_index.json": {"ramping_coefficients": [i / TOKENS for i in range(TOKENS)]},
    }
    for name, content in files.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(json.dumps(content))
    (root / "tokenizer" / "merges.txt").write_text("#version: 0.2\n")
    return root


def look(side: int, mean: float, std: float) -> dict:
    sizes = {"size": {"shortest_edge": side}, "crop_size": {"height": side, "width": side}}
    return sizes | {"image_mean": [mean] * 3, "image_std": [std] * 3}


@pytest.fixture(scope="module")
def artist(folder):
    return replace(load_zero123(folder), tile_px=16)


def picture(seed: int = 0) -> torch.Tensor:
    return torch.rand(3, 40, 40, generator=torch.Generator().manual_seed(seed))


def test_drawing_repeats_with_its_seed_and_follows_the_image(artist) -> None:
    views = artist.draw(picture(), steps=2, seed=1)
    assert views.shape == (6, 3, 16, 16)
    assert ((views >= 0) & (views <= 1)).all()
    assert views.std() > 0
    assert torch.equal(views, artist.draw(picture(), steps=2, seed=1))
    assert not torch.equal(views, artist.draw(picture(), steps=2, seed=2))
    assert not torch.equal(views, artist.draw(picture(1), steps=2, seed=1))
    assert artist.notes.tokens == {}, "every note is read"


def test_self_attention_of_the_sheet_sees_the_input_too(artist, generator) -> None:
    """Against attention written out: keys and values from the sheet's tokens and the input's."""
    attention = artist.unet.down_blocks[0].attentions[0].transformer_blocks[0].attn1
    sheet, given = (torch.randn(2, n, WIDTH, generator=generator) for n in (5, 3))
    with torch.inference_mode():
        artist.notes.write = True
        attention(given)
        artist.notes.write = False
        answer = attention(sheet)
        context = torch.cat([sheet, given], 1)
        q, k, v = attention.to_q(sheet), attention.to_k(context), attention.to_v(context)
        heads = [x.unflatten(-1, (attention.heads, -1)).transpose(1, 2) for x in (q, k, v)]
        weights = torch.softmax(heads[0] @ heads[1].mT / math.sqrt(heads[0].shape[-1]), -1)
        expected = attention.to_out[0]((weights @ heads[2]).transpose(1, 2).flatten(2))
    torch.testing.assert_close(answer, expected)


def test_one_step_is_the_formula(artist) -> None:
    """With one step from pure noise the sampler's answer can be written down."""
    calls = []

    def unet(sample, time, encoder_hidden_states):
        calls.append((sample, encoder_hidden_states))
        zero, one = torch.zeros_like(sample[:1]), torch.ones_like(sample[:1])
        return type("Out", (), {"sample": torch.cat([zero, one])})

    double = type("UNet", (), {"__call__": staticmethod(unet), "device": torch.device("cpu"), "dtype": torch.float32})()
    decoded = []

    def decode(latents):
        decoded.append(latents)
        return type("Out", (), {"sample": torch.zeros(1, 3, 48, 32)})

    vae = type("VAE", (), {"encode": artist.vae.encode, "decode": staticmethod(decode), "config": artist.vae.config})()
    views = replace(artist, unet=double, vae=vae).draw(picture(), steps=1, guidance=3.0, seed=0)
    assert (views == 0.5).all()
    (noised, prompts), (both, _) = calls
    assert torch.equal(both[0], both[1])
    sigma = float(artist.scheduler.sigmas[0])
    assert noised.std() == pytest.approx(1, abs=0.1), f"noise of sigma {sigma} over sqrt(sigma² + 1)"
    ramp = torch.arange(TOKENS) / TOKENS
    vector = artist.vision(prepared(picture(), artist.looks["vision"])[None]).image_embeds
    torch.testing.assert_close(prompts[1] - prompts[0], ramp[:, None] * vector, rtol=0, atol=1e-5)
    # v-prediction to sigma 0: x0 = (x - sigma v sqrt(sigma² + 1)) / (sigma² + 1), v = guidance · 1.
    x = both[:1] * math.sqrt(sigma**2 + 1)
    clean = (x - sigma * 3.0 * math.sqrt(sigma**2 + 1)) / (sigma**2 + 1)
    expected = (clean / 0.75 + 0.22) / artist.vae.config.scaling_factor
    torch.testing.assert_close(decoded[0], expected, rtol=1e-4, atol=1e-3)


def fine_tuned(folder, change=0.1) -> dict[str, torch.Tensor]:
    import diffusers

    state = diffusers.UNet2DConditionModel.from_pretrained(folder / "unet").state_dict()
    return {name: value + change for name, value in state.items()}


def test_fine_tuned_weights_in_every_wrapping(folder, tmp_path) -> None:
    weights = fine_tuned(folder)
    training = {f"unet.unet.{k}": v for k, v in weights.items()} | {"betas": torch.ones(3), "sqrt_x": torch.ones(3)}
    files = {"plain.bin": weights, "run.ckpt": {"state_dict": training, "step": 5000}}
    for name, content in files.items():
        torch.save(content, tmp_path / name)
        loaded = load_zero123(folder, tmp_path / name)
        assert loaded.fine_tuned
        assert loaded.background == 1.0
        state = loaded.unet.state_dict()
        assert all(torch.equal(state[k], v) for k, v in weights.items())


def test_weights_that_do_not_fit_are_refused(folder, tmp_path) -> None:
    good = fine_tuned(folder)
    cases = {
        "1 missing": {k: v for k, v in good.items() if k != "conv_in.weight"},
        r"1 unexpected \(extra\)": good | {"extra": torch.ones(1)},
        "1 of another shape": good | {"conv_in.bias": torch.ones(1)},
        r"1 missing \(conv_in\.weight\); 1 unexpected \(conv_im": {
            k.replace("conv_in.weight", "conv_im.weight"): v for k, v in good.items()
        },
    }
    for message, content in cases.items():
        torch.save(content, tmp_path / "bad.ckpt")
        with pytest.raises(CheckpointError, match=message) as caught:
            load_zero123(folder, tmp_path / "bad.ckpt")
        assert "\n" not in str(caught.value)


def test_models_that_cannot_be_read_give_one_line(folder, tmp_path, monkeypatch) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(Zero123Error, match="not a Zero123"):
        load_zero123(tmp_path / "empty")

    def fail(*_args, **_kwargs):
        raise OSError("no network\nmore")

    monkeypatch.setattr("huggingface_hub.snapshot_download", fail)
    with pytest.raises(Zero123Error, match=r"cannot be fetched \(no network\)"):
        load_zero123(REPOSITORY)
    monkeypatch.setitem(__import__("sys").modules, "diffusers", None)
    with pytest.raises(Zero123Error, match=r"pip install 'partrm\[zero123\]'"):
        load_zero123(folder)


def test_cameras_of_the_plans() -> None:
    for plan, elevation in ((ZERO123_PLAN, 20.0), (PARTDRAG_PLAN, PARTDRAG_ELEVATION_DEG)):
        cameras = plan_cameras(plan, 64, elevation)
        assert cameras.positions[0].tolist() == pytest.approx([0, 0, CANONICAL_DISTANCE], abs=1e-5)
        torch.testing.assert_close(cameras.positions.norm(dim=-1), torch.full((4,), CANONICAL_DISTANCE))
        # The object's vertical in the canonical frame, tilted towards the camera by its elevation.
        e = math.radians(elevation)
        up = torch.tensor([0.0, math.cos(e), math.sin(e)])
        heights = torch.asin((cameras.positions @ up) / CANONICAL_DISTANCE)
        wanted = [elevation, *(elevation if x is None else x for x in plan.elevation_deg)]
        assert torch.rad2deg(heights).tolist() == pytest.approx(wanted, abs=1e-3)
        flat = torch.nn.functional.normalize(cameras.positions - (cameras.positions @ up)[:, None] * up, dim=-1)
        turned = torch.atan2(torch.linalg.cross(flat[0].expand_as(flat), flat) @ up, flat @ flat[0])
        assert (torch.rad2deg(turned)[1:] % 360).tolist() == pytest.approx(list(plan.azimuth_deg), abs=1e-3)


def drawn_boxes(condition: torch.Tensor) -> torch.Tensor:
    """A diffusion model that draws a box on white, another in each view."""
    assert condition.shape == (3, 512, 512)
    views = torch.ones(6, 3, 64, 64)
    for index in range(6):
        views[index, :, 16 : 40 + index, 20:44] = torch.tensor([0.1 * index, 0.4, 0.2])[:, None, None]
    return views


def test_drawn_views_enter_the_prediction(tmp_path) -> None:
    image = torch.zeros(4, 80, 100)
    image[:, 20:60, 30:70] = 0.6
    image[3, 20:60, 30:70] = 1
    save_image(image, tmp_path / "a.png")
    source = load_source(tmp_path / "a.png", 64, crop=False)
    condition = load_source(tmp_path / "a.png", 512, crop=False)
    drags = check_drags([(50, 40, 60, 40)], source)
    full = with_drawn_views(source, condition, drawn_boxes, PARTDRAG_PLAN, PARTDRAG_ELEVATION_DEG, 1.0)
    shown_px = [view.image for view in full.framed]
    assert network_input(full, drags).view_valid.all()
    # Views 1 to 3 are the sheet's first three, their white cut away, where PartDrag-4D's cameras stand.
    for index in range(3):
        shown = shown_px[1 + index]
        assert shown[3, 20:38, 22:42].min() > 0.99
        assert shown[3, :14].max() == 0
        torch.testing.assert_close(shown[:3, 30, 30], torch.tensor([0.1 * index, 0.4, 0.2]), atol=0.01, rtol=0)
    expected = plan_cameras(PARTDRAG_PLAN, 64, PARTDRAG_ELEVATION_DEG)
    torch.testing.assert_close(full.cameras.T_world_camera, expected.T_world_camera)
    # For a network that sees crops each drawn view is cropped, by a camera at the same place.
    cropped = with_drawn_views(
        load_source(tmp_path / "a.png", 64), condition, drawn_boxes, PARTDRAG_PLAN, PARTDRAG_ELEVATION_DEG, 1.0
    )
    torch.testing.assert_close(cropped.cameras.positions[1:], expected.positions[1:])
    assert (cropped.cameras.fovy_rad[1:] < expected.fovy_rad[1:]).all()
    torch.manual_seed(0)
    save_checkpoint(PartRMNetwork(TINY).state_dict(), TINY, tmp_path / "m")
    model = load_model(tmp_path / "m")
    one, four = predict(source, drags, model), predict(full, drags, model)
    assert not torch.equal(one.before.means[:5], four.before.means[:5])
    with pytest.raises(ImageError, match="4 posed views are given"):
        with_drawn_views(full, condition, drawn_boxes, PARTDRAG_PLAN, 20.0, 1.0)
    with pytest.raises(ImageError, match="view 1 that the diffusion model drew"):
        with_drawn_views(source, condition, lambda _: torch.rand(6, 3, 64, 64), ZERO123_PLAN, 20.0, 0.5)


def test_command_checks_its_options(tmp_path, capsys) -> None:
    (tmp_path / "views").mkdir()
    given = ["predict", str(tmp_path / "views"), "--drag", "1,1,9,9", "--out", str(tmp_path / "out")]
    for options, message in (
        (["--multiview", "zero123"], "a single image"),
        (["--zero123-unet", "a.ckpt"], "go with --multiview zero123"),
        (["--multiview", "zero123", "--elevation-deg", "95"], "give -80 to 80"),
    ):
        assert main([*given, *options]) == 2
        assert message in capsys.readouterr().err
