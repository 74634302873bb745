"""The component `join`."""
