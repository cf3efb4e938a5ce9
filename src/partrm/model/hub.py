"""What the Hugging Face Hub refuses, as one line of ours."""

from collections.abc import Iterator
from contextlib import contextmanager

from partrm.errors import PartRMError, first_line


@contextmanager
def hub_errors(kind: type[PartRMError], what: str) -> Iterator[None]:
    """Raise ``kind`` where the Hub, the network or the disk refuses the block; ``what`` says where and what cannot be.

    Raises:
        PartRMError: of that kind.
    """
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        yield
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise kind(f"{what} ({first_line(error)})") from error
