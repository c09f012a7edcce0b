// Intensity of a cell, and the division of cells among blocks.

#pragma once

// A block works on few channels, so that a band of a thousand occupies all multiprocessors: eight floats are one memory
// sector of 32 bytes. Thread (lane, part) works on one channel.
constexpr int LANES = 8, PARTS = 32;

// Sum of the first n_pols of the products of a cell.
__device__ inline float intensity(const float* cell, int n_pols)
{
    float total = cell[0];
    for (int h = 1; h < n_pols; h++) total += cell[h];
    return total;
}
