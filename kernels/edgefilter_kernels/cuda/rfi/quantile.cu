// Order statistics of channels by bisection: CUDA version of ../../rfi/quantile.py.

#include "cells.h"

constexpr int TOP = 0x7fffffff;  // above the key of any number

// Conversion between numbers and integers of the same order.
__device__ inline int key_of(float value)
{
    int bits = __float_as_int(value);
    return bits ^ ((bits >> 31) & TOP);
}
__device__ inline double value_of(int key) { return __int_as_float(key ^ ((key >> 31) & TOP)); }

// Results of all threads of a channel: integers, so that the order of the sums does not matter.
struct Found {
    int used[LANES], low[LANES], high[LANES], count[LANES], below[LANES], before[LANES], after[LANES];
};

// Writes to low the smallest key in [low, high] that more than rank keys do not exceed.
__device__ void select(const int* keys, int rows, int rank, Found& found)
{
    int lane = threadIdx.x, part = threadIdx.y;
    for (;;) {
        bool open = false;
        for (int i = 0; i < LANES; i++) open |= found.low[i] < found.high[i];
        if (!open) return;  // for all threads of the block
        int low = found.low[lane], high = found.high[lane], middle = (low & high) + ((low ^ high) >> 1), some = 0;
        if (part == 0) found.count[lane] = 0;
        __syncthreads();
        for (int r = part; r < rows; r += PARTS) some += keys[r * LANES] <= middle;
        atomicAdd(&found.count[lane], some);
        __syncthreads();
        if (part == 0 && low < high) {
            if (found.count[lane] > rank) found.high[lane] = middle;
            else found.low[lane] = middle + 1;
        }
        __syncthreads();
    }
}

// Interpolates between tied values, with the keys next to the one that was found.
__device__ double interpolate(int key, double position, int equal, int below, int before, int after)
{
    double value = value_of(key), width = 0.0;
    if (equal < 2) return value;
    if (before != -TOP && after != TOP) width = 0.5 * (float)(value_of(after) - value_of(before));
    else if (after != TOP) width = (float)(value_of(after) - value);
    else if (before != -TOP) width = (float)(value - value_of(before));
    return value + ((position - below) / equal - 0.5) * width;
}

// A block works on eight channels. Only this block reads their keys, which fit its L1 cache up to a thousand rows.
// Thread (lane, part) works on every 32nd row of a channel. keys is [block][row][lane], quantiles [quantile][channel],
// count [2][channel].
extern "C" __global__ void channel_quantiles(
    const float* __restrict__ power, const unsigned short* __restrict__ flags, int times, int channels, int products,
    int n_pols, int step, const double* fractions, int number, int* keys, double* quantiles, long long* count,
    int start, int stop)
{
    __shared__ Found found;
    int lane = threadIdx.x, part = threadIdx.y, c = start + blockIdx.x * LANES + lane;
    int rows = (times + step - 1) / step, used = 0, least = TOP, most = -TOP, ties = 0;
    keys += (long long)blockIdx.x * rows * LANES + lane;
    if (part == 0) {
        found.used[lane] = 0;
        found.before[lane] = TOP;
        found.after[lane] = -TOP;
    }
    __syncthreads();
    for (int r = part; r < rows; r += PARTS) {
        long long cell = (long long)r * step * channels + c;
        int key = TOP;
        if (c < stop && flags[cell] == 0) {
            key = key_of(intensity(power + cell * products, n_pols));
            used++;
            least = min(least, key);
            most = max(most, key);
        }
        keys[r * LANES] = key;
    }
    atomicAdd(&found.used[lane], used);
    atomicMin(&found.before[lane], least);
    atomicMax(&found.after[lane], most);
    __syncthreads();
    used = found.used[lane];
    least = found.before[lane];
    most = found.after[lane];
    for (int q = 0; q < number; q++) {
        double position = fractions[q] * used;
        if (part == 0) {
            found.low[lane] = least;
            found.high[lane] = most;
        }
        __syncthreads();
        select(keys, rows, min((int)position, max(used - 1, 0)), found);
        if (part == 0) {
            found.count[lane] = found.below[lane] = 0;
            found.before[lane] = -TOP;
            found.after[lane] = TOP;
        }
        __syncthreads();
        int chosen = found.low[lane], equal = 0, below = 0, before = -TOP, after = TOP;
        for (int r = part; r < rows; r += PARTS) {
            int key = keys[r * LANES];
            equal += key == chosen;
            below += key < chosen;
            if (key < chosen) before = max(before, key);
            if (key > chosen) after = min(after, key);
        }
        atomicAdd(&found.count[lane], equal);
        atomicAdd(&found.below[lane], below);
        atomicMax(&found.before[lane], before);
        atomicMin(&found.after[lane], after);
        __syncthreads();
        if (part == 0 && c < stop) {
            equal = found.count[lane];
            ties = used ? max(ties, equal) : 0;
            before = found.before[lane];
            double value = interpolate(chosen, position, equal, found.below[lane], before, found.after[lane]);
            quantiles[(long long)q * channels + c] = used ? value : 0.0;
            count[c] = used;
            count[channels + c] = ties;
        }
        __syncthreads();
    }
}
