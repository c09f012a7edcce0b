// SumThreshold: the twin of ../sumthreshold.py.

#include "runs.h"

// A block takes eight channels, from start on; values and marks are [time][channel], tile, found and hits
// [block][time][lane], where no other block looks. limits is [2][count].
extern "C" __global__ void sum_threshold(
    const float* __restrict__ values, const long long* windows, const float* limits, int count, int bit,
    unsigned char* marks, int times, int channels, float* tile_values, unsigned char* found, unsigned char* hits, int start,
    int stop)
{
    Tile tile = tile_of(tile_values, found, hits, times);
    int c = start + blockIdx.x * LANES + threadIdx.x;
    for (int t = tile.first; t < tile.last; t++) {
        tile.values[t * LANES] = c < stop ? values[(long long)t * channels + c] : 0.0f;
        tile.marks[t * LANES] = 0;
    }
    __syncthreads();
    find_runs(tile, windows, limits, count, bit, 0);
    if (c < stop)
        for (int t = tile.first; t < tile.last; t++) marks[(long long)t * channels + c] |= tile.marks[t * LANES];
}
