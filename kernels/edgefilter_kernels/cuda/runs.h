// SumThreshold along time: CUDA version of find_runs in ../rfi/sumthreshold.py, step by step.
//
// Thread (lane, part) works on a part of the times of one channel, so that the steps along time take a 32nd of the time.
// It derives the state at the start of its part from the results of the other parts. The marks are those of the CPU,
// but for sums within rounding of a threshold: a sliding sum starts at the first window of a part.

#pragma once

#include "cells.h"

constexpr float EDGE_FRACTION = 0.5f;  // the ends of a run must exceed this fraction of its mean level
constexpr float MAX_EDGE = 1.0f;       // and never need more than this level
constexpr float GROWTH_EDGE = 2.0f;    // the same for samples outside the windows
constexpr float MAX_DROP = 2.0f;       // a run stops growing when its sum above that level has fallen by this
constexpr float STRONG_LEVEL = 4.0f;   // from this mean level on, samples of a run that look like noise are holes
constexpr float NOISE_LEVEL = 1.0f;    // a hole is below this level
constexpr float EDGE_STEPS = 16.0f;    // levels of edges are multiples of 1/16, so that rounding of a mean has no effect
constexpr int MAX_GAP = 4;             // longest gap in a run, in samples
constexpr int PART_MULTIPLE = 16;      // a part is a multiple of this many times

// One channel of a tile of eight; arrays are [time][lane], and start at the lane.
struct Tile {
    float *values, *remaining;  // all values; those that no shorter window has marked, others limited to 0
    unsigned char *marks, *hits;
    int times, first, last;  // all times; this thread's part [first, last)
};

// The tile of a block in scratch of [2][block][time][lane] floats and [2][block][time][lane] bytes.
__device__ inline Tile tile_of(float* values, unsigned char* marks, int times)
{
    long long at = (long long)blockIdx.x * times * LANES + threadIdx.x, all = (long long)gridDim.x * times * LANES;
    int part = (times + PARTS * PART_MULTIPLE - 1) / (PARTS * PART_MULTIPLE) * PART_MULTIPLE;
    int first = min((int)threadIdx.y * part, times);
    return {values + at, values + all + at, marks + at, marks + all + at, times, first, min(first + part, times)};
}

// Whether the condition holds in any thread of the block; all threads of the block wait for each other.
__device__ inline bool any_thread(bool mine)
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
        if (sign * tile.remaining[t * LANES] > limit) {
            tile.marks[t * LANES] |= bit;
            tile.remaining[t * LANES] = 0.0f;
            any = true;
        }
    return any;
}

// Sets hits at the last time of each window whose sum exceeds the limit.
__device__ inline bool find_sums(Tile tile, int window, float limit, float sign)
{
    bool any = false;
    float total = 0.0f;
    int begin = max(tile.first, window - 1);
    if (begin >= tile.last) return false;
    for (int t = begin - window + 1; t < begin; t++) total += tile.remaining[t * LANES];
    for (int t = begin; t < tile.last; t++) {
        float sum = total + tile.remaining[t * LANES];
        bool over = sign * sum > limit;
        tile.hits[t * LANES] = over;
        any |= over;
        total = sum - tile.remaining[(t - window + 1) * LANES];
    }
    return any;
}

// Marks all samples in windows that exceed the limit, backwards from the last window that reaches into this part.
__device__ inline void fill(Tile tile, int window, float sign, unsigned char bit)
{
    int ahead = 0;
    for (int t = min(tile.last + window - 1, tile.times) - 1; t >= tile.first; t--) {
        ahead = t >= window - 1 && tile.hits[t * LANES] ? window : ahead - 1;
        if (ahead <= 0 || t >= tile.last) continue;
        tile.marks[t * LANES] |= bit;
        tile.remaining[t * LANES] = sign * min(sign * tile.remaining[t * LANES], 0.0f);
    }
}

// Number of samples by which a run grows from `first` on: to the maximum of its sum above edge before the sum drops.
__device__ inline int growth(Tile tile, float sign, unsigned char bit, int first, int stop, int step, float edge)
{
    float best = 0.0f, total = 0.0f;
    int end = first;
    for (int t = first; t != stop; t += step) {
        total += sign * tile.values[t * LANES] - edge;
        if (total < best - MAX_DROP || tile.marks[t * LANES] & bit) break;
        if (total > best) {
            best = total;
            end = t + step;
        }
    }
    return end - first;
}

// Writes to hits the run that starts at `begin`, fitted so that its sum above the edge level is largest, and its holes.
// Samples by which it grows are no holes: two runs may write them.
__device__ inline void fit_run(Tile tile, float sign, unsigned char bit, unsigned char hole, bool grow, int begin)
{
    int stop = begin;
    float sum = 0.0f;
    for (; stop < tile.times && tile.marks[stop * LANES] & bit; stop++) sum += sign * tile.values[stop * LANES];
    float level = rintf(EDGE_STEPS * EDGE_FRACTION * sum / (float)(stop - begin)) / EDGE_STEPS;
    float edge = min(level, MAX_EDGE);
    float best = 0.0f, total = 0.0f;
    int first = begin, last = begin, start = begin;
    for (int t = begin; t < stop; t++) {
        total += sign * tile.values[t * LANES] - edge;
        if (total <= 0.0f) {
            total = 0.0f;
            start = t + 1;
        } else if (total > best) {
            best = total;
            first = start;
            last = t + 1;
        }
    }
    bool strong = level >= EDGE_FRACTION * STRONG_LEVEL;
    for (int t = first; t < last; t++)
        tile.hits[t * LANES] = bit | (strong && sign * tile.values[t * LANES] < NOISE_LEVEL ? hole : 0);
    if (!grow) return;
    edge = min(level, GROWTH_EDGE);
    int before = growth(tile, sign, bit, first - 1, -1, -1, edge);
    int after = growth(tile, sign, bit, last, tile.times, 1, edge);
    for (int t = first + before; t < first; t++) tile.hits[t * LANES] = bit;
    for (int t = last; t < last + after; t++) tile.hits[t * LANES] = bit;
}

// Moves the ends of every run to where its sum above the edge level is largest. A thread works on the runs that start in
// its part, wherever they end; where two of them grow into each other, both write the same.
__device__ inline void fit(Tile tile, float sign, unsigned char bit, unsigned char hole, bool grow)
{
    for (int t = tile.first; t < tile.last; t++) tile.hits[t * LANES] = 0;
    __syncthreads();
    for (int t = tile.first; t < tile.last; t++)
        if (tile.marks[t * LANES] & bit && (t == 0 || !(tile.marks[(t - 1) * LANES] & bit)))
            fit_run(tile, sign, bit, hole, grow, t);
    __syncthreads();
    for (int t = tile.first; t < tile.last; t++)
        tile.marks[t * LANES] = (tile.marks[t * LANES] & ~bit) | tile.hits[t * LANES];
}

constexpr int MAX_WALK = 2 * MAX_GAP;

// A walk that rises by one in a run and falls by two outside, between 0 and MAX_WALK: the effect of several steps on any
// start value.
struct GapWalk {
    int by, least, most;
    __device__ void step(bool up)
    {
        int d = up ? 1 : -2;
        by += d;
        least = min(max(least + d, 0), MAX_WALK);
        most = min(max(most + d, 0), MAX_WALK);
    }
    __device__ int from(int near) const { return min(max(near + by, least), most); }
};

// Value of the walk before this thread's part.
__device__ inline int walk_before(Tile tile, bool forward, unsigned char bit)
{
    __shared__ GapWalk walks[PARTS][LANES];
    GapWalk walk = {0, 0, MAX_WALK};
    for (int n = 0; n < tile.last - tile.first; n++) {
        int t = forward ? tile.first + n : tile.last - 1 - n;
        walk.step(tile.marks[t * LANES] & bit);
    }
    __syncthreads();
    walks[threadIdx.y][threadIdx.x] = walk;
    __syncthreads();
    int near = 0, part = threadIdx.y;
    for (int k = forward ? 0 : PARTS - 1; k != part; k += forward ? 1 : -1) near = walks[k][threadIdx.x].from(near);
    return near;
}

// Whether the filled sample at t looks like noise, while the mean of two samples on either side is strong.
__device__ inline bool is_hole(Tile tile, float sign, unsigned char bit, int t)
{
    if (sign * tile.values[t * LANES] >= NOISE_LEVEL) return false;
    int a = t - 1, b = t + 1;
    while (!(tile.marks[a * LANES] & bit)) a--;
    while (!(tile.marks[b * LANES] & bit)) b++;
    float sum = tile.values[(a - 1) * LANES] + tile.values[a * LANES] + tile.values[b * LANES];
    return sign * (sum + tile.values[(b + 1) * LANES]) >= 4.0f * STRONG_LEVEL;
}

// Fills gaps inside a run that have at least twice their length of it, and two samples, on either side.
__device__ inline void close_gaps(Tile tile, float sign, unsigned char bit, unsigned char hole)
{
    int before = walk_before(tile, true, bit), after = walk_before(tile, false, bit);
    for (int t = tile.first; t < tile.last; t++) {
        tile.hits[t * LANES] = before;
        before = min(max(before + (tile.marks[t * LANES] & bit ? 1 : -2), 0), MAX_WALK);
    }
    for (int t = tile.last - 1; t >= tile.first; t--) {
        bool gap = tile.hits[t * LANES] >= 2 && after >= 2;
        after = min(max(after + (tile.marks[t * LANES] & bit ? 1 : -2), 0), MAX_WALK);
        tile.hits[t * LANES] = gap && !(tile.marks[t * LANES] & bit) ? bit | (is_hole(tile, sign, bit, t) ? hole : 0) : 0;
    }
    __syncthreads();
    for (int t = tile.first; t < tile.last; t++) tile.marks[t * LANES] |= tile.hits[t * LANES];
}

// Marks the runs of a channel on both sides of 0, and their holes, as find_runs of ../rfi/sumthreshold.py does. limits
// is [2][count]. With drop, the marks of holes and of their samples are removed.
__device__ inline void find_runs(
    Tile tile, const long long* windows, const float* limits, int count, unsigned char high_bit, unsigned char low_bit,
    unsigned char hole, bool grow, bool drop)
{
    const float INFINITE = __int_as_float(0x7f800000);
    for (int t = tile.first; t < tile.last; t++) tile.remaining[t * LANES] = tile.values[t * LANES];
    __syncthreads();
    for (int side = 0; side < 2; side++) {
        float sign = side ? -1.0f : 1.0f;
        unsigned char bit = side ? low_bit : high_bit;
        bool found = false;
        for (int j = 0; j < count; j++) {
            float limit = limits[side * count + j];
            if (windows[j] > tile.times || limit == INFINITE) continue;  // the same in all threads, here and below
            int window = (int)windows[j];
            if (window == 1) {
                found |= any_thread(mark_single(tile, limit, sign, bit));
            } else if (any_thread(find_sums(tile, window, limit, sign))) {
                fill(tile, window, sign, bit);
                found = true;
            }
            __syncthreads();
        }
        if (!found) continue;
        fit(tile, sign, bit, hole, grow);
        __syncthreads();
        close_gaps(tile, sign, bit, hole);
        __syncthreads();
        for (int t = tile.first; drop && t < tile.last; t++)
            if (tile.marks[t * LANES] & hole) tile.marks[t * LANES] &= ~(bit | hole);
        __syncthreads();
    }
}
