// SumThreshold: CUDA version of ../../rfi/sumthreshold.py.

#include "runs.h"

// A block works on eight channels, from start on; values and marks are [time][channel], limits [2][count], tile_values
// and tile_marks scratch.
extern "C" __global__ void sum_threshold(
    const float* __restrict__ values, const long long* windows, const float* limits, int count, int bit,
    unsigned char* marks, int times, int channels, float* tile_values, unsigned char* tile_marks, int start, int stop)
{
    Tile tile = tile_of(tile_values, tile_marks, times);
    int c = start + blockIdx.x * LANES + threadIdx.x;
    for (int t = tile.first; t < tile.last; t++) {
        tile.values[t * LANES] = c < stop ? values[(long long)t * channels + c] : 0.0f;
        tile.marks[t * LANES] = 0;
    }
    __syncthreads();
    find_runs(tile, windows, limits, count, bit, 0, 0, true, false);
    if (c < stop)
        for (int t = tile.first; t < tile.last; t++) marks[(long long)t * channels + c] |= tile.marks[t * LANES];
}
