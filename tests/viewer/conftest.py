import pytest
import torch
from browsing import COUNT_DRAWS, Tab
from flat_oracle import oracle_model
from silent import SilentClient, done

from partrm.imaging.images import save_image
from partrm.viewer.engine import Engine
from partrm.viewer.session import Session
from partrm.viewer.sources import open_picture


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


@pytest.fixture
def client():
    return SilentClient()


@pytest.fixture
def session(client, engine, tmp_path):
    image = torch.zeros(4, 150, 200)
    image[2], image[3, 40:110, 50:150] = 0.9, 1
    save_image(image, tmp_path / "box.png")
    session = Session(client, engine, (), tmp_path)
    session.start(open_picture(tmp_path / "box.png", engine.size_px))
    done(session)
    yield session
    session.close()
