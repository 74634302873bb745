"""The component `summarize`."""
