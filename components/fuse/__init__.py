"""The component `fuse`."""
