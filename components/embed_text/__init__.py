"""The component `embed_text`."""
