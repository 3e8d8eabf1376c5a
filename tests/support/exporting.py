"""Whether models can be converted here."""

import pytest


def needs_exporters() -> None:
    """Skip the test, or the module that calls this, where the exporters of transformers do not go with this torch."""
    exporters = pytest.importorskip("transformers.exporters")
    try:
        exporters.DynamoExporter()
    except ImportError as error:
        pytest.skip(str(error), allow_module_level=True)
