"""Encodings of samples, and the tolerances of a GPU's filterbank."""

ENCODINGS = [
    *((bits, "unsigned") for bits in (1, 2, 4, 8, 16)),
    *((bits, "signed") for bits in (4, 8, 16)),
    *((bits, "offset") for bits in (2, 4, 8, 16)),
    (32, "float"),
]

POWER_TOLERANCE, MOMENT4_TOLERANCE = 3e-6, 6e-6
"""Of a product's largest value: the filter differs by contracted sums only; a single-precision transform of N numbers
rounds by at most about log2 N times 6e-8, means of squares and of fourth powers by two and four times that."""
