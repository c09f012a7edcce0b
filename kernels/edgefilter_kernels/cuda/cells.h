// What kernels that look at cells share: intensity, and how a block divides cells.

#pragma once

// A block takes few channels, so that a band of a thousand keeps all processors busy: eight floats are the 32 bytes
// that memory hands out at once. Thread (lane, part) works on one channel.
constexpr int LANES = 8, PARTS = 32;

// Sum of the first n_pols of the products of a cell.
__device__ inline float intensity(const float* cell, int n_pols)
{
    float total = cell[0];
    for (int h = 1; h < n_pols; h++) total += cell[h];
    return total;
}
