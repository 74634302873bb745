"""The component `quantize`."""
