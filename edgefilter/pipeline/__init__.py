"""From windows of samples to the products of a block: stages in order, resources, backend."""
