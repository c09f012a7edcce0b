// Dispersion tracks: CUDA version of ../../rfi/dispersion_tracks.py and ../../rfi/dispersed_marks.py.
//
// The CPU doubles the windows of events so that it can add whole rows. Here, one table has the time of the last event,
// and each thread compares it with the window, with the same result. The CPU shifts rows of hits over a segment; here,
// each of the few hits marks its own cells.

#include "cells.h"

constexpr unsigned char IN_RUN = 1 | 128, EVENT = 8, DISPERSED = 16, KURTOSIS_DIP = 32;
constexpr double MIN_COVERED = 0.6, MAX_DIP_FRACTION = 0.2, MAX_DIP_SIGMA = 3.0;
constexpr int NEVER = -(1 << 30), THREADS = 256;

// A block works on eight channels, thread (lane, part) on a part of the steps of one. last is [channel][step]: the last
// step up to this one with an event.
extern "C" __global__ void find_last_event(
    const unsigned char* __restrict__ marks, int times, int channels, int bits, int step, int steps, int* last)
{
    __shared__ int ends[PARTS][LANES];
    int c = blockIdx.x * LANES + threadIdx.x, part = (steps + PARTS - 1) / PARTS, at = NEVER;
    int begin = min((int)threadIdx.y * part, steps), end = min(begin + part, steps);
    int* row = last + (long long)c * steps;
    for (int u = begin; c < channels && u < end; u++) {
        for (int t = step * u; t < min(step * u + step, times); t++)
            if (marks[(long long)t * channels + c] & bits) at = u;
        row[u] = at;
    }
    ends[threadIdx.y][threadIdx.x] = at;
    __syncthreads();
    if (c >= channels) return;
    int before = NEVER;
    for (int k = 0; k < threadIdx.y; k++) before = max(before, ends[k][threadIdx.x]);
    for (int u = begin; u < end && row[u] == NEVER; u++) row[u] = before;
}

// Block (x, y, z): 256 steps of track y in segment start + z; a thread works on a step, and neighbouring threads read
// neighbouring steps. counts is [segment][track][step], delays [track][channel], first [track][segment].
extern "C" __global__ void count_tracks(
    const int* __restrict__ last, int steps, int channels, const bool* live, const long long* edges, const int* delays,
    const int* first, const long long* log2_window, int segments, unsigned char* counts, int start)
{
    int u = blockIdx.x * blockDim.x + threadIdx.x, s = blockIdx.y, g = start + blockIdx.z;
    if (u >= steps) return;
    int window = 1 << log2_window[s], from = u + (window - 1) / 2 - first[(long long)s * segments + g], count = 0;
    for (int c = (int)edges[g]; c < edges[g + 1]; c++) {
        int at = from + delays[(long long)s * channels + c];
        if (live[c] && at >= 0 && at < steps) count += at - last[(long long)c * steps + at] < window;
    }
    counts[((long long)g * gridDim.y + s) * steps + u] = count;
}

// Block (x, y, z): 256 steps of track y in the pair of segments start + z and the next. hits is [pair][track][step].
extern "C" __global__ void find_tracks(
    const unsigned char* __restrict__ counts, const int* first, const long long* n_live, int segments, int steps,
    double fill, int half_window, unsigned char* hits, int start)
{
    int u = blockIdx.x * blockDim.x + threadIdx.x, s = blockIdx.y, g = start + blockIdx.z, tracks = gridDim.y;
    if (u >= steps) return;
    int lag = first[(long long)s * segments + g + 1] - first[(long long)s * segments + g];
    int begin = max(0, -lag), end = min(steps, steps - lag);
    int need = (int)ceil(fill * n_live[g]), need_next = (int)ceil(fill * n_live[g + 1]);
    const unsigned char* here = counts + ((long long)g * tracks + s) * steps;
    const unsigned char* there = here + (long long)tracks * steps + lag;
    // A track can only fill both segments while it is in both.
    bool hit = u >= begin && u < end && need && need_next && here[u] >= need && there[u] >= need_next;
    if (hit) {
        // Where many channels have events at all times, half of the others must have one too. Few steps need this sum.
        long long total = 0, n = n_live[g] + n_live[g + 1];
        int early = max(begin, u - half_window), late = min(end, u + half_window + 1);
        for (int t = early; t < late; t++) total += here[t] + there[t];
        double usual = (double)total / (late - early);
        hit = here[u] + there[u] >= usual + 0.5 * (n - usual);
    }
    hits[((long long)g * tracks + s) * steps + u] = hit;
}

// Lists the hits among 256 steps of a track, in any order.
__device__ inline void gather_hits(const unsigned char* row, int base, int steps, int* list, int& found)
{
    int u = base + threadIdx.x;
    __syncthreads();
    if (threadIdx.x == 0) found = 0;
    __syncthreads();
    if (u < steps && row[u]) list[atomicAdd(&found, 1)] = u;
    __syncthreads();
}

// Block (x, y): track x of the pair of segments start + y and the next; its threads search for hits, 256 steps at a
// time, and share the channels of each hit.
extern "C" __global__ void drop_tones(
    unsigned char* hits, int steps, int times, int channels, int step, const long long* edges, const int* delays,
    const int* first, const long long* log2_window, int segments, const bool* live,
    const unsigned char* __restrict__ marks, int start)
{
    __shared__ int list[THREADS], found, events, dips;
    int s = blockIdx.x, g = start + blockIdx.y, before = (1 << log2_window[s]) / 2, cells = step << log2_window[s];
    unsigned char* row = hits + ((long long)g * gridDim.x + s) * steps;
    for (int base = 0; base < steps; base += THREADS) {
        gather_hits(row, base, steps, list, found);
        for (int k = 0; k < found; k++) {
            __syncthreads();
            if (threadIdx.x == 0) events = dips = 0;
            __syncthreads();
            int some = 0, low = 0;
            for (int c = (int)edges[g] + threadIdx.x; c < edges[g + 2]; c += THREADS) {
                if (!live[c]) continue;
                int lag = delays[(long long)s * channels + c] - first[(long long)s * segments + g];
                int begin = step * (list[k] + lag - before);
                for (int t = max(begin, 0); t < min(begin + cells, times); t++) {
                    unsigned char mark = marks[(long long)t * channels + c];
                    some += (mark & (IN_RUN | EVENT)) != 0;
                    low += (mark & (IN_RUN | EVENT)) && (mark & KURTOSIS_DIP);
                }
            }
            atomicAdd(&events, some);
            atomicAdd(&dips, low);
            __syncthreads();
            double sigma = sqrt(MAX_DIP_FRACTION * (1 - MAX_DIP_FRACTION) * events);
            double chance = MAX_DIP_FRACTION * events + MAX_DIP_SIGMA * sigma;
            if (threadIdx.x == 0 && dips > chance) row[list[k]] = 0;
        }
    }
}

// Block (x, y): track x of pair first_pair + y; its threads search for hits, 256 steps at a time, and share the
// channels of each hit. on_track is [step][channel], 0 or 1: all threads write 1.
extern "C" __global__ void follow_tracks(
    const unsigned char* __restrict__ hits, int steps, int channels, const long long* edges, const int* delays,
    const int* first, const long long* log2_window, int segments, int first_pair, int start, int stop,
    unsigned char* on_track)
{
    __shared__ int list[THREADS], found;
    int s = blockIdx.x, pair = first_pair + blockIdx.y, half = 1 << log2_window[s];
    const unsigned char* row = hits + ((long long)pair * gridDim.x + s) * steps;
    const int *delay = delays + (long long)s * channels, *segment_delays = first + (long long)s * segments;
    // Segments next to a filled pair are marked too: a burst may end in the middle of one.
    int g0 = max(pair - 1, start), g1 = min(pair + 3, stop);
    for (int base = 0; base < steps; base += THREADS) {
        gather_hits(row, base, steps, list, found);
        for (int k = 0; k < found; k++)
            for (int g = g0; g < g1; g++) {
                int lag = segment_delays[g] - segment_delays[pair];
                // The CPU's rows end here, before and after the data.
                if (list[k] + lag < -steps || list[k] + lag >= 2 * steps) continue;
                int most = min(2 * half, 2 * steps - list[k] - lag);
                for (int c = (int)edges[g] + threadIdx.x; c < edges[g + 1]; c += THREADS) {
                    int at = list[k] + delay[c] - segment_delays[pair] - half + 1;
                    for (int i = max(0, -at); i < min(most, steps - at); i++)
                        on_track[(long long)(at + i) * channels + c] = 1;
                }
            }
    }
}

// Returns whether a channel has a run of power within a step.
__device__ inline bool has_run(const unsigned char* marks, int times, int channels, int step, int u, int c)
{
    for (int t = step * u; t < min(step * u + step, times); t++)
        if (marks[(long long)t * channels + c] & IN_RUN) return true;
    return false;
}

// Clears a track where it merely crosses a longer run, which is then not the pulse's. A thread works on a step of a
// channel, and continues if a run begins there. Runs do not touch, so that no two threads write the same element.
extern "C" __global__ void drop_crossings(
    const unsigned char* __restrict__ marks, int times, int channels, int step, int steps, unsigned char* on_track)
{
    long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    int c = (int)(i % channels), u = (int)(i / channels), end = u, covered = 0;
    if (u >= steps || (u > 0 && has_run(marks, times, channels, step, u - 1, c))) return;
    for (; end < steps && has_run(marks, times, channels, step, end, c); end++)
        covered += on_track[(long long)end * channels + c];
    if (covered > 0 && covered < MIN_COVERED * (end - u))
        for (int t = u; t < end; t++) on_track[(long long)t * channels + c] = 0;
}

// A thread works on a cell.
extern "C" __global__ void set_dispersed(
    const unsigned char* __restrict__ on_track, long long cells, int channels, int step, unsigned char* marks)
{
    long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < cells && on_track[i / channels / step * channels + i % channels]) marks[i] |= DISPERSED;
}

// A thread works on a cell of width channels from start on, and continues if a run begins there, up to the length of
// the longest run that is kept.
extern "C" __global__ void mark_short_runs(
    unsigned char* marks, int times, int channels, long long longest, int start, int width)
{
    long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    int first = (int)(i / width), end = first;
    unsigned char* column = marks + start + i % width;
    if (first >= times || (first > 0 && column[(first - 1LL) * channels] & IN_RUN)) return;
    while (end < times && end - first <= longest && column[(long long)end * channels] & IN_RUN) end++;
    if (end - first <= longest)
        for (int t = first; t < end; t++) column[(long long)t * channels] |= DISPERSED;
}
