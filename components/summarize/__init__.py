"""The component `configure`."""
