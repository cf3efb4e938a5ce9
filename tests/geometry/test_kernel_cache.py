import runpy
from importlib.util import find_spec

import pytest

from partrm.errors import PartRMWarning
from partrm.geometry import kernel_cache


@pytest.mark.parametrize(
    "module",
    [
        "partrm.assets._kernels",
        "partrm.rendering._cpu_splats.blending",
        "partrm.rendering._cpu_splats.projection",
        "partrm.robotics._kernels",
    ],
)
def test_kernels_are_there_where_no_cache_can_be_kept(module, monkeypatch):
    """As in an installation that cannot be written, of a user without a home folder."""
    caching = pytest.importorskip("numba.core.caching")
    monkeypatch.setattr(caching.CacheImpl, "_locator_classes", [])
    with pytest.warns(PartRMWarning, match="compiled anew at each start"):
        assert not runpy.run_path(kernel_cache.__file__)["KEEP"]
    monkeypatch.setattr(kernel_cache, "KEEP", False)
    spec = find_spec(module)
    assert spec is not None
    runpy.run_path(str(spec.origin))
