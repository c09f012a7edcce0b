// Times at which the band rises or falls together: the twin of ../rise.py.

#include "cells.h"

constexpr int BANDS = 32, SHARES = 8;  // eight threads a band: they read neighbouring floats

// A block takes one time, thread (share, band) every eighth channel of a band. counts is [3][band][times].
extern "C" __global__ void rise(
    const float* __restrict__ power, const unsigned short* __restrict__ flags, const float* __restrict__ low,
    const float* __restrict__ high, int times, int channels, int products, int hands, int* counts, int start)
{
    __shared__ int sums[3][BANDS][SHARES];
    int share = threadIdx.x, band = threadIdx.y, t = start + blockIdx.x, used = 0, above = 0, below = 0;
    long long row = (long long)t * channels;
    int first = (int)((long long)band * channels / BANDS), last = (int)((band + 1LL) * channels / BANDS);
    for (int c = first + share; c < last; c += SHARES) {
        if (flags[row + c] != 0 || !(high[c] > low[c])) continue;
        float value = intensity(power + (row + c) * products, hands);
        used++;
        above += value > high[c];
        below += value < low[c];
    }
    sums[0][band][share] = used;
    sums[1][band][share] = above;
    sums[2][band][share] = below;
    __syncthreads();
    if (share < 3) {
        int total = 0;
        for (int i = 0; i < SHARES; i++) total += sums[share][band][i];
        counts[((long long)share * BANDS + band) * times + t] = total;
    }
}
