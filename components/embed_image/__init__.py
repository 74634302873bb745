"""The component `embed_image`."""
