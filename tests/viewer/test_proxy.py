"""The page behind a reverse proxy: below a path, under a name it was told or not, in a frame as a Space is shown."""

import threading
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit
from zipfile import ZipFile

import pytest
import torch
from browsing import Tab
from proxies import Proxy

from partrm.imaging.images import save_image
from partrm.viewer.geometry import PicturePlane, overview
from partrm.viewer.server import NOT_OURS, serving

NAME = "parts.localhost"
"""Chromium takes every name below ``localhost`` for this machine."""
SIZE = (200, 150)


@pytest.fixture(scope="module")
def box_picture(tmp_path_factory):
    image = torch.zeros(4, SIZE[1], SIZE[0])
    image[:, 40:110, 50:150] = 1
    path = tmp_path_factory.mktemp("box") / "box.png"
    save_image(image, path)
    return path


@contextmanager
def behind(engine, told: bool, prefix: str = "", host: str | None = None):
    """Address of the page, through a proxy whose name the server was told or not."""
    with Proxy(prefix, host) as front:
        name = f"{NAME}:{front.port}"
        with serving(None, engine, port=0, public_hosts=[name] if told else []) as address:
            front.server_port = urlsplit(address).port
            yield f"http://{name}{prefix}"


def pulled(tab: Tab) -> None:
    """Draw a drag on the picture of the box."""
    plane = PicturePlane.of(*SIZE)
    place = overview(plane, tab.aspect)
    tab.drag(*(tab.at(plane.to_world(torch.tensor([x, 75.0]).double().numpy()), place) for x in (120.0, 150.0)))


def test_upload_drag_and_download_below_a_path_of_a_proxy_that_replaces_host(tabs, engine, box_picture, tmp_path):
    with behind(engine, told=True, prefix="/parts", host="127.0.0.1") as address:
        tab = tabs(address)
        tab.page.locator("input[type=file]").first.set_input_files(str(box_picture))
        tab.page.get_by_role("heading", name="box.png").wait_for()
        tab.settles()
        tab.dismiss()
        pulled(tab)
        tab.says("prismatic joint")
        tab.settles()
        tab.page.get_by_text("Export", exact=True).click()
        tab.choose("What", "Everything (ZIP)")
        with tab.page.expect_download() as waiting:
            tab.press("Download")
        waiting.value.save_as(tmp_path / "all.zip")
        assert not tab.errors
        tab.close()
    with ZipFile(tmp_path / "all.zip") as archive:
        assert archive.testzip() is None
        assert "prediction/prediction.json" in archive.namelist()


def test_a_proxy_that_the_server_was_not_told_of_is_refused_with_words(tabs, engine, capsys):
    with behind(engine, told=False) as address:
        page = tabs.context.new_page()
        page.goto(address)
        page.get_by_text(NOT_OURS).wait_for()
        assert page.get_by_role("button", name="Upload a picture").count() == 0
        page.close()
    (line,) = capsys.readouterr().err.splitlines()
    assert urlsplit(address).netloc in line


@contextmanager
def site_with_a_frame(folder, address: str):
    """Address of another site whose page shows ours in a frame, as sandboxed as the Hub's."""
    frame = f'<iframe src="{address}" sandbox="allow-scripts allow-same-origin" width="800" height="400"></iframe>'
    (folder / "index.html").write_text(frame)
    handler = partial(SimpleHTTPRequestHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://hub.localhost:{server.server_port}"
        server.shutdown()


def test_the_page_works_in_a_frame_of_another_site(tabs, engine, tmp_path):
    with behind(engine, told=True, host="127.0.0.1") as address, site_with_a_frame(tmp_path, address) as hub:
        page = tabs.context.new_page()
        page.goto(hub)
        page.frame_locator("iframe").get_by_role("button", name="Upload a picture").wait_for()
        page.close()
