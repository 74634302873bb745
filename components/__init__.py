"""The stages as Kubeflow components: one folder each, a signature, a description and one call."""
