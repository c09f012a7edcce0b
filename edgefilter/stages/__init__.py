"""Steps of the reducer, one a file."""
