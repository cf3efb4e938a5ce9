"""Written assets, read back by the programs that they are for."""

import json
import math
from dataclasses import replace
from importlib import import_module

import numpy as np
import pytest
from numpy.testing import assert_allclose
from support.gaussian_cabinet import cabinet

from partrm.assets import export as export_module
from partrm.assets.asset import AssetSettings
from partrm.assets.collision import convex_hulls
from partrm.assets.export import export_prediction, save_asset
from partrm.errors import ConfigError
from partrm.files import OutputError
from partrm.geometry.joints import JointType
from partrm.objects.mjcf import load_mjcf
from partrm.objects.urdf import load_urdf

WHICH = ["hinged", "sliding"]


@pytest.fixture(params=WHICH)
def written(request):
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize(("file", "load"), [("object.urdf", load_urdf), ("object.xml", load_mjcf)])
def test_our_loaders_give_the_same_object_back(written, file, load):
    asset, folder = written
    given, found = asset.object.normalised(), load(folder / file)
    assert [part.name for part in found.parts] == ["body", "part"]
    joint, back = given.parts[1].joint, found.parts[1].joint
    assert back.type == joint.type
    for name in ("axis", "pivot", "lower", "upper"):
        assert_allclose(getattr(back, name), getattr(joint, name), atol=1e-6)
    for part, again, material in zip(given.parts, found.parts, given.materials, strict=True):
        assert len(again.faces) == len(part.faces)
        assert_allclose(np.sort(again.vertices[again.faces].mean(1), 0), np.sort(part.vertices[part.faces].mean(1), 0),
                        atol=1e-5)  # fmt: skip
        assert (found.materials[int(again.face_material[0])].texture == material.texture).all()


def test_yourdfpy_moves_the_part(written):
    yourdfpy = pytest.importorskip("yourdfpy")
    asset, folder = written
    robot = yourdfpy.URDF.load(str(folder / "object.urdf"))
    assert robot.base_link == "world"
    assert robot.actuated_joint_names == ["joint"]
    upper = asset.object.parts[1].joint.upper
    robot.update_cfg([upper])
    expected = asset.object.T_object_part(np.array([0.0, upper]))[1] @ _at(asset.object.parts[1].joint.pivot)
    assert_allclose(robot.get_transform("part", "world"), expected, atol=1e-9)
    link = robot.link_map["part"]
    assert link.inertial.mass == pytest.approx(asset.bodies[1].mass.mass_kg)
    assert len(link.collisions) == len(asset.bodies[1].collision)


def _at(point) -> np.ndarray:
    T = np.eye(4)
    T[:3, 3] = point
    return T


def test_mujoco_has_the_masses_limits_and_no_contact_in_the_range(written):
    mujoco = pytest.importorskip("mujoco")
    asset, folder = written
    model = mujoco.MjModel.from_xml_path(str(folder / "object.xml"))
    joint, dynamics = asset.object.parts[1].joint, asset.bodies[1].dynamics
    assert_allclose(model.body_mass[1:], [body.mass.mass_kg for body in asset.bodies], rtol=1e-6)
    assert_allclose(model.jnt_range[0], [joint.lower, joint.upper])
    damping = float(np.ravel(model.dof_damping)[0])
    assert (damping, float(model.dof_frictionloss[0])) == pytest.approx((dynamics.damping, dynamics.friction))
    inertia = [np.sort(np.linalg.eigvalsh(body.mass.inertia)) for body in asset.bodies]
    assert_allclose(np.sort(model.body_inertia[1:], axis=1), inertia, rtol=1e-5)
    # Without what keeps the two apart, MuJoCo itself finds nothing that touches.
    spec = mujoco.MjSpec.from_file(str(folder / "object.xml"))
    (exclude,) = spec.excludes
    spec.delete(exclude)
    bare = spec.compile()
    bare.opt.disableflags = int(bare.opt.disableflags) | int(mujoco.mjtDisableBit.mjDSBL_FILTERPARENT)
    data = mujoco.MjData(bare)
    for q in np.linspace(joint.lower, joint.upper, 9):
        data.qpos[0] = q
        mujoco.mj_forward(bare, data)
        assert data.ncon == 0, q


def move(path, share: float = 0.9, seconds: float = 4.0) -> tuple[float, float]:
    """Push a part by what its drive may exert, gravity on; the joint's position and the time when it has got there."""
    import mujoco

    model = mujoco.MjModel.from_xml_path(str(path))
    assert model.opt.gravity[2] == pytest.approx(-9.81)
    data = mujoco.MjData(model)
    lower, upper = model.jnt_range[0]
    data.qpos[0] = start = lower if abs(lower) <= abs(upper) else upper
    goal = upper if start == lower else lower
    mujoco.mj_forward(model, data)
    # What gravity takes at worst, and half as much again, and the friction.
    load = max(abs(float(bias)) for bias in _gravity_along_the_range(model))
    force = math.copysign(
        1.5 * load + 2 * float(model.dof_frictionloss[0]) + 0.1 * float(model.dof_M0[0]), goal - start
    )
    while data.time < seconds and abs(data.qpos[0] - start) < share * abs(goal - start):
        data.qfrc_applied[0] = force
        mujoco.mj_step(model, data)
        assert np.isfinite(data.qpos).all()
    return abs(float(data.qpos[0]) - start) / abs(goal - start), float(data.time)


def _gravity_along_the_range(model):
    import mujoco

    data = mujoco.MjData(model)
    for q in np.linspace(*model.jnt_range[0], 7):
        data.qpos[0] = q
        mujoco.mj_forward(model, data)
        yield data.qfrc_bias[0]


def test_parts_move_under_gravity_to_their_end(written):
    pytest.importorskip("mujoco")
    reached, seconds = move(written[1] / "object.xml")
    assert reached >= 0.9
    assert seconds < 4


def test_the_laptop_as_predicted_opens_against_gravity(laptop_result, tmp_path):
    mujoco = pytest.importorskip("mujoco")
    prediction, _ = laptop_result
    prediction.export(tmp_path / "laptop", AssetSettings(texture_px=256, range="auto"))
    asset = json.loads((tmp_path / "laptop" / "asset.json").read_text())
    (joint,) = asset["predicted"]["joints"]
    assert joint["type"] == "revolute"
    assert abs(joint["axis"][2]) < 0.1, "a laptop's hinge is level"
    assert all(0.1 < part["texture_from_photo"] < 0.7 for part in asset["predicted"]["parts"])
    reached, seconds = move(tmp_path / "laptop" / "object.xml")
    assert reached >= 0.9
    assert seconds < 4
    # Let go while it leans forward, the lid falls shut.
    model = mujoco.MjModel.from_xml_path(str(tmp_path / "laptop" / "object.xml"))
    data = mujoco.MjData(model)
    closed = min(model.jnt_range[0], key=lambda q: q * joint["predicted_amount"])
    data.qpos[0] = 0.5 * closed
    while data.time < 3:
        mujoco.mj_step(model, data)
    assert data.qpos[0] == pytest.approx(closed, abs=0.1)


def test_glb_shows_the_same_and_plays_the_joint(written):
    trimesh, pygltflib = pytest.importorskip("trimesh"), pytest.importorskip("pygltflib")
    asset, folder = written
    scene = trimesh.load(folder / "object.glb")
    # glTF is y up.
    points = np.concatenate(asset.object.posed_vertices(np.zeros(2)))[:, [0, 2, 1]] * [1, 1, -1]
    assert_allclose(scene.bounds, [points.min(0), points.max(0)], atol=1e-5)
    for name, geometry in scene.geometry.items():
        number = ["body", "part"].index(name)
        image = np.asarray(geometry.visual.material.baseColorTexture.convert("RGB"))
        assert (image == asset.object.materials[number].texture).all()
    read = pygltflib.GLTF2().load(str(folder / "object.glb"))
    (animation,) = read.animations
    (channel,) = animation.channels
    node = read.nodes[channel.target.node]
    assert node.name == "part"
    assert node.matrix is None
    times, values = (
        _values(read, animation.samplers[channel.sampler].input, 1),
        _values(read, animation.samplers[channel.sampler].output, 4 if channel.target.path == "rotation" else 3),
    )
    assert (np.diff(times.ravel()) > 0).all()
    joint = asset.object.parts[1].joint
    ends = sorted((joint.lower, joint.upper), key=abs)
    middle = len(values) // 2
    if joint.type == JointType.PRISMATIC:
        moved = (values[middle] - values[0]) @ np.array(joint.axis)
        assert moved == pytest.approx(ends[1] - ends[0], abs=1e-5)
    else:
        angle = 2 * math.atan2(values[middle][:3] @ np.array(joint.axis), values[middle][3])
        assert angle == pytest.approx(ends[1], abs=1e-5)
    assert_allclose(values[0], values[-1], atol=1e-6)


def _values(gltf, accessor: int, width: int) -> np.ndarray:
    about = gltf.accessors[accessor]
    view = gltf.bufferViews[about.bufferView]
    start = (view.byteOffset or 0) + (about.byteOffset or 0)
    return np.frombuffer(gltf.binary_blob(), np.float32, about.count * width, start).reshape(-1, width)


def test_usd_has_the_joint_and_the_textures(hinged):
    pxr = pytest.importorskip("pxr", reason="the extra usd")
    for name in ("Usd", "UsdPhysics", "UsdShade"):
        import_module(f"pxr.{name}")
    asset, folder = hinged
    (path,) = (folder / "usd").glob("*.usdc")
    stage = pxr.Usd.Stage.Open(str(path))
    prims = list(stage.Traverse())
    (joint,) = [pxr.UsdPhysics.RevoluteJoint(p) for p in prims if p.IsA(pxr.UsdPhysics.RevoluteJoint)]
    ours = asset.object.parts[1].joint
    assert joint.GetLowerLimitAttr().Get() == pytest.approx(math.degrees(ours.lower), abs=1e-3)
    assert joint.GetUpperLimitAttr().Get() == pytest.approx(math.degrees(ours.upper), abs=1e-3)
    images = [p.GetAttribute("inputs:file").Get() for p in stage.TraverseAll() if p.HasAttribute("inputs:file")]
    assert len(images) == 2
    assert all(image.resolvedPath for image in images)
    bodies = [p for p in prims if p.HasAPI(pxr.UsdPhysics.MassAPI) and p.GetName() in ("body", "part")]
    masses = {p.GetName(): pxr.UsdPhysics.MassAPI(p).GetMassAttr().Get() for p in bodies}
    for part, body in zip(asset.object.parts, asset.bodies, strict=True):
        assert masses[part.name] == pytest.approx(body.mass.mass_kg, rel=1e-5)


def test_hulls_are_convex_and_load(hinged, tmp_path):
    pytest.importorskip("coacd", reason="the extra hulls")
    mujoco, trimesh = pytest.importorskip("mujoco"), pytest.importorskip("trimesh")
    corner = trimesh.boolean.union([trimesh.creation.box((0.3, 0.1, 0.1)), trimesh.creation.box((0.1, 0.3, 0.1))])
    hulls = tuple(convex_hulls(corner.vertices, corner.faces))
    solids = [trimesh.Trimesh(hull.vertices, hull.faces) for hull in hulls]
    assert len(hulls) >= 2
    assert all(solid.is_convex for solid in solids)
    assert sum(solid.volume for solid in solids) == pytest.approx(corner.volume, rel=0.1)
    # A free body with hulls, in place of boxes.
    bodies = tuple(replace(body, collision=hulls) for body in hinged[0].bodies)
    asset = replace(hinged[0], bodies=bodies, settings=replace(hinged[0].settings, fixed_base=False))
    save_asset(asset, tmp_path / "a", ("mjcf", "urdf"))
    model = mujoco.MjModel.from_xml_path(str(tmp_path / "a" / "object.xml"))
    assert (model.geom_contype > 0).sum() == 2 * len(hulls)
    assert model.nq == 7 + 1
    assert '"world"' not in (tmp_path / "a" / "object.urdf").read_text()
    assert load_urdf(tmp_path / "a" / "object.urdf").parts[1].joint is not None


def test_asset_json_says_what_is_assumed_and_which_versions(hinged):
    asset, folder = hinged
    about = json.loads((folder / "asset.json").read_text(), parse_constant=pytest.fail)
    assert about["assumed"]["size_m"]["value"] == 0.6
    assert about["assumed"]["up"]["source"] == "auto"
    assert about["assumed"]["density_kg_m3"] == 400
    assert about["assumed"]["range"]["kind"] == "predicted"
    assert {"trimesh", "manifold3d", "xatlas"} <= set(about["versions"])
    assert about["model"] == {"name": "exact", "hash": "0" * 16}
    assert all((folder / file).exists() for file in about["files"].values())
    assert about["predicted"]["joints"][0]["range"] == [0, pytest.approx(1.2)]
    assert set(about["timings_s"]) >= {"meshes", "textures", "collision", "files"}
    assert asset.metres_per_unit == about["metres_per_canonical_unit"]


def test_a_stopped_export_leaves_nothing(hinged, tmp_path, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(export_module, "save_glb", stop)
    with pytest.raises(KeyboardInterrupt):
        save_asset(hinged[0], tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def test_another_export_replaces_what_it_no_longer_writes(hinged, tmp_path):
    save_asset(hinged[0], tmp_path / "a")
    save_asset(hinged[0], tmp_path / "a", ("glb",))
    assert sorted(p.name for p in (tmp_path / "a").iterdir() if not p.is_dir()) == ["asset.json", "object.glb"]
    assert not [path for path in (tmp_path / "a").rglob("*.obj")]
    for _ in range(2):
        save_asset(hinged[0], tmp_path / "a", ("urdf", "usd"))
        (tmp_path / "a" / "meshes" / "part_00_hull_07.obj").write_text("of an export with hulls")
    save_asset(hinged[0], tmp_path / "a", ("urdf",))
    assert not (tmp_path / "a" / "usd").exists()
    save_asset(hinged[0], tmp_path / "a", ("usd",))
    (tmp_path / "a" / "usd" / "scene.usda").write_text("mine")
    with pytest.raises(OutputError, match=r"scene\.usda: was not written by partrm"):
        save_asset(hinged[0], tmp_path / "a", ("urdf",))
    (tmp_path / "a" / "usd" / "scene.usda").unlink()
    save_asset(hinged[0], tmp_path / "a", ("urdf",))
    (tmp_path / "a" / "meshes" / "mine.obj").write_text("x")
    with pytest.raises(OutputError, match=r"mine\.obj: was not written by partrm"):
        save_asset(hinged[0], tmp_path / "a", ("urdf",))


def test_a_full_disk_leaves_no_part_of_an_asset(hinged, disk):
    room = disk(300)
    with pytest.raises(OutputError, match=rf"^{room}/a/.*No space left on device: 0\.3 MiB free, more is needed"):
        save_asset(hinged[0], room / "a")
    assert list(room.iterdir()) == []


def test_formats_and_folders_are_checked_first(tmp_path):
    with pytest.raises(ConfigError, match=r"formats \(none\): give some of urdf mjcf glb html usd"):
        export_prediction(cabinet().predicted, tmp_path / "a", formats=())
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="file: cannot write there, it is not a folder"):
        export_prediction(cabinet().predicted, tmp_path / "file")
