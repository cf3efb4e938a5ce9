import pytest


@pytest.fixture(scope="package", autouse=True)
def small_panels():
    """Pictures of the reports are drawn small, for time."""
    from partrm.evaluation import html_report

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(html_report, "PANEL_PX", 64)
        yield
