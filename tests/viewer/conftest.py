import pytest
from browsing import CHROMIUM, COUNT_DRAWS, FLAGS, Tab
from flat_oracle import oracle_model

from partrm.viewer.engine import Engine


@pytest.fixture(scope="session")
def chromium():
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: pip install playwright"
    )
    if CHROMIUM is None:
        pytest.skip("no Chromium here: apt-get install chromium")
    with playwright.sync_playwright() as runner:
        browser = runner.chromium.launch(executable_path=str(CHROMIUM), args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def engine():
    return Engine(oracle_model())


@pytest.fixture(scope="session")
def tabs(chromium):
    """Opens tabs on an address; they are closed at the end."""
    # Software rendering: a quarter of the pixels.
    size = {"width": 840, "height": 420}
    context = chromium.new_context(viewport=size, device_scale_factor=0.5, accept_downloads=True)
    context.set_default_timeout(60_000)
    context.add_init_script(COUNT_DRAWS)
    yield lambda address: Tab(context, address)
    context.close()
