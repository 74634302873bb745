"""Reading users' data: sources, images, archives, splits, sequences."""
