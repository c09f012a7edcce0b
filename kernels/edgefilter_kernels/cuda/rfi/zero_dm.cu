// Counts of channels above and below their background: CUDA version of ../../rfi/zero_dm.py.

#include "cells.h"

constexpr int ZERO_DM_BANDS = 32, THREADS_PER_BAND = 8;  // threads of a band read neighbouring floats

// A block works on one time, thread (lane, band) on every eighth channel of a band. counts is [3][band][times].
extern "C" __global__ void zero_dm_counts(
    const float* __restrict__ power, const unsigned short* __restrict__ flags, const float* __restrict__ low,
    const float* __restrict__ high, int times, int channels, int products, int n_pols, int* counts, int start)
{
    __shared__ int sums[3][ZERO_DM_BANDS][THREADS_PER_BAND];
    int lane = threadIdx.x, band = threadIdx.y, t = start + blockIdx.x, used = 0, above = 0, below = 0;
    long long row = (long long)t * channels;
    int first = (int)((long long)band * channels / ZERO_DM_BANDS);
    int last = (int)((band + 1LL) * channels / ZERO_DM_BANDS);
    for (int c = first + lane; c < last; c += THREADS_PER_BAND) {
        if (flags[row + c] != 0 || !(high[c] > low[c])) continue;
        float value = intensity(power + (row + c) * products, n_pols);
        used++;
        above += value > high[c];
        below += value < low[c];
    }
    sums[0][band][lane] = used;
    sums[1][band][lane] = above;
    sums[2][band][lane] = below;
    __syncthreads();
    if (lane < 3) {
        int total = 0;
        for (int i = 0; i < THREADS_PER_BAND; i++) total += sums[lane][band][i];
        counts[((long long)lane * ZERO_DM_BANDS + band) * times + t] = total;
    }
}
