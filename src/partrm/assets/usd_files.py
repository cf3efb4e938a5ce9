"""Assets as USD with UsdPhysics, converted from their MuJoCo model."""

import shutil
from pathlib import Path
from typing import Any

from partrm.assets._surface_files import MESHES, TEXTURE
from partrm.assets.part_meshes import missing
from partrm.assets.predicted import AssetError

TEXTURES = "textures"

USD_FILES = ("usd/*.usdc", f"usd/{TEXTURES}/texture_*.png")
"""Patterns of all files of an asset's folder ``usd``."""


def save_usd(mjcf: Path, folder: Path) -> None:
    """Convert an asset's MuJoCo model, whose meshes lie beside it, into ``folder``.

    Raises:
        PackageMissingError: mujoco-usd-converter is missing.
        AssetError: the model does not convert.
    """
    try:
        import usdex.core
        from mujoco_usd_converter import Converter
    except ImportError as error:
        raise missing("mujoco-usd-converter", "usd") from error
    usdex.core.setDiagnosticsLevel(usdex.core.DiagnosticsLevel.eError)
    usdex.core.activateDiagnosticsDelegate()
    try:
        written = Converter(layer_structure=False, scene=True).convert(str(mjcf), str(folder))
        _add_textures(Path(str(written.path)), mjcf.parent / MESHES)
    except (RuntimeError, ValueError) as error:
        raise AssetError(f"{mjcf.name} does not convert to USD ({' '.join(str(error).split())})") from error


def _add_textures(path: Path, meshes: Path) -> None:
    """Connect the parts' textures, which the converter leaves out with some versions of MuJoCo."""
    import usdex.core
    from pxr import Sdf, Usd, UsdShade

    stage: Any = Usd.Stage.Open(str(path))
    shaders = [UsdShade.Shader(prim) for prim in stage.TraverseAll() if prim.IsA(UsdShade.Shader)]
    if any(shader.GetShaderId() == "UsdUVTexture" for shader in shaders):
        return
    folder = path.parent / TEXTURES
    folder.mkdir(exist_ok=True)
    for prim in [p for p in stage.Traverse() if p.GetName().startswith("material_") and p.IsA(UsdShade.Material)]:
        image = TEXTURE.format(prim.GetName().removeprefix("material_"))
        shutil.copyfile(meshes / image, folder / image)
        # Shared prims cannot be changed; here each is used once.
        prim.SetInstanceable(False)
        if not usdex.core.addDiffuseTextureToPreviewMaterial(
            UsdShade.Material(prim), Sdf.AssetPath(f"./{TEXTURES}/{image}")
        ):
            raise ValueError(f"the texture {image} cannot be connected")
    stage.Save()
