// Runs of time that stand out: the twin of the tile in ../sumthreshold.py, step by step.
//
// Thread (lane, part) has a part of the times of one channel, so that the steps that go along time take a 32nd of the
// time: what one carries over from the times before its own, it makes out from the ends of the other parts. Integers and
// flags are those that the CPU finds; a sum slides from the first window of a part, and differs by rounding.

#pragma once

#include "cells.h"

constexpr float SPENT = 1e-6f;  // what is left of a sample that is marked: its sign says whether it stood out itself
constexpr float EDGE = 0.5f;    // what the first and the last sample of a run must exceed themselves
constexpr int UNIT = 16;        // a part is whole groups of as many times

// One channel of a tile of eight; arrays are [time][lane], and begin at the lane.
struct Tile {
    float* values;
    unsigned char *marks, *hits;
    int times, first, last;  // of all; of this thread's part, [first, last)
};

__device__ inline Tile tile_of(float* values, unsigned char* marks, unsigned char* hits, int times)
{
    long long at = (long long)blockIdx.x * times * LANES + threadIdx.x;
    int part = (times + PARTS * UNIT - 1) / (PARTS * UNIT) * UNIT, first = min((int)threadIdx.y * part, times);
    return {values + at, marks + at, hits + at, times, first, min(first + part, times)};
}

// Whether a thread of the block has something; the block's threads wait for each other.
__device__ inline bool anyone(bool mine)
{
    __shared__ int some;
    __syncthreads();
    if (threadIdx.x == 0 && threadIdx.y == 0) some = 0;
    __syncthreads();
    if (mine) atomicOr(&some, 1);
    __syncthreads();
    return some != 0;
}

__device__ inline bool mark_single(Tile tile, float limit, float sign, unsigned char bit)
{
    bool any = false;
    for (int t = tile.first; t < tile.last; t++)
        if (sign * tile.values[t * LANES] > limit) {
            tile.marks[t * LANES] |= bit;
            tile.values[t * LANES] = sign * SPENT;
            any = true;
        }
    return any;
}

// Says at the end of which windows the sum is over the limit.
__device__ inline bool find_sums(Tile tile, int window, float limit, float sign)
{
    bool any = false;
    float total = 0.0f;
    int begin = max(tile.first, window - 1);
    if (begin >= tile.last) return false;
    for (int t = begin - window + 1; t < begin; t++) total += tile.values[t * LANES];
    for (int t = begin; t < tile.last; t++) {
        float sum = total + tile.values[t * LANES];
        bool over = sign * sum > limit;
        tile.hits[t * LANES] = over;
        any |= over;
        total = sum - tile.values[(t - window + 1) * LANES];
    }
    return any;
}

// Marks all that lies in a window that is over the limit: from the last one that reaches into this part backwards.
__device__ inline void fill(Tile tile, int window, float sign, unsigned char bit)
{
    int left = 0;
    for (int t = min(tile.last + window - 1, tile.times) - 1; t >= tile.first; t--) {
        left = t >= window - 1 && tile.hits[t * LANES] ? window : left - 1;
        if (left <= 0 || t >= tile.last) continue;
        float value = sign * tile.values[t * LANES];
        tile.marks[t * LANES] |= bit;
        tile.values[t * LANES] = sign * (value > EDGE || value == SPENT ? SPENT : value >= 0.0f ? -SPENT : value);
    }
}

// A walk along the times of the part, in either direction.
__device__ inline int along(const Tile& tile, bool forward, int n) { return forward ? tile.first + n : tile.last - 1 - n; }

// Takes from one end of a run the samples that do not stand out themselves.
__device__ inline void trim_end(Tile tile, bool forward, float sign, unsigned char bit)
{
    constexpr int PASSED = 2;  // a marked sample that does not stand out is what the one before it is
    __shared__ int ends[PARTS][LANES];
    int count = tile.last - tile.first, end = PASSED, inside = 0;
    for (int n = count - 1; n >= 0 && end == PASSED; n--) {
        int t = along(tile, forward, n);
        if (!(tile.marks[t * LANES] & bit)) end = 0;
        else if (!(sign * tile.values[t * LANES] < 0.0f)) end = 1;
    }
    __syncthreads();
    ends[threadIdx.y][threadIdx.x] = end;
    __syncthreads();
    for (int k = threadIdx.y; k != (forward ? 0 : PARTS - 1);) {
        k += forward ? -1 : 1;
        if (ends[k][threadIdx.x] == PASSED) continue;
        inside = ends[k][threadIdx.x];
        break;
    }
    for (int n = 0; n < count; n++) {
        int t = along(tile, forward, n);
        bool here = tile.marks[t * LANES] & bit;
        inside = here && (inside || !(sign * tile.values[t * LANES] < 0.0f));
        if (here && !inside) tile.marks[t * LANES] &= ~bit;
    }
}

// A walk that goes up by one in a run and down by two outside, between 0 and 255: what any number of steps of it do.
struct Walk {
    int by, least, most;
    __device__ void step(bool up)
    {
        int d = up ? 1 : -2;
        by += d;
        least = min(max(least + d, 0), 255);
        most = min(max(most + d, 0), 255);
    }
    __device__ int from(int near) const { return min(max(near + by, least), most); }
};

// How far the walk has come before this thread's part.
__device__ inline int walked(Tile tile, bool forward, unsigned char bit)
{
    __shared__ Walk walks[PARTS][LANES];
    Walk walk = {0, 0, 255};
    for (int n = 0; n < tile.last - tile.first; n++) walk.step(tile.marks[along(tile, forward, n) * LANES] & bit);
    __syncthreads();
    walks[threadIdx.y][threadIdx.x] = walk;
    __syncthreads();
    int near = 0, part = threadIdx.y;
    for (int k = forward ? 0 : PARTS - 1; k != part; k += forward ? 1 : -1) near = walks[k][threadIdx.x].from(near);
    return near;
}

// Fills gaps inside a run: those that have twice their length of it on either side, and two samples at least.
__device__ inline void close_gaps(Tile tile, unsigned char bit)
{
    int before = walked(tile, true, bit), after = walked(tile, false, bit);
    for (int t = tile.first; t < tile.last; t++) {
        tile.hits[t * LANES] = before;
        before = min(max(before + (tile.marks[t * LANES] & bit ? 1 : -2), 0), 255);
    }
    for (int t = tile.last - 1; t >= tile.first; t--) {
        bool gap = tile.hits[t * LANES] >= 2 && after >= 2;
        after = min(max(after + (tile.marks[t * LANES] & bit ? 1 : -2), 0), 255);
        if (gap) tile.marks[t * LANES] |= bit;
    }
}

// Marks the runs of a channel on both sides of 0: as runs of ../sumthreshold.py does. limits is [2][count].
__device__ inline void find_runs(
    Tile tile, const long long* windows, const float* limits, int count, unsigned char high_bit, unsigned char low_bit)
{
    const float INFINITE = __int_as_float(0x7f800000);
    for (int side = 0; side < 2; side++) {
        float sign = side ? -1.0f : 1.0f;
        unsigned char bit = side ? low_bit : high_bit;
        bool found = false;
        for (int j = 0; j < count; j++) {
            float limit = limits[side * count + j];
            if (windows[j] > tile.times || limit == INFINITE) continue;  // all threads alike, here and below
            int window = (int)windows[j];
            if (window == 1) {
                found |= anyone(mark_single(tile, limit, sign, bit));
            } else if (anyone(find_sums(tile, window, limit, sign))) {
                fill(tile, window, sign, bit);
                found = true;
            }
            __syncthreads();
        }
        if (!found) continue;
        trim_end(tile, true, sign, bit);
        __syncthreads();
        trim_end(tile, false, sign, bit);
        __syncthreads();
        close_gaps(tile, bit);
        __syncthreads();
    }
}
