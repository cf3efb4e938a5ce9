"""The published pipeline, exact; nothing here is needed by the shipped model."""
