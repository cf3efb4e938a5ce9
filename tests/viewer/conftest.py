import pytest
from browsing import COUNT_DRAWS, Tab
from flat_oracle import oracle_model

from partrm.viewer.engine import Engine


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

    def opened(address):
        return Tab(context, address)

    opened.context = context
    yield opened
    context.close()
