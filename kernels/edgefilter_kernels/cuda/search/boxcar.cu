// Matched boxcars over dedispersed series: CUDA version of ../../search/boxcar.py.

#include "bulk.h"
#include "peaks.h"

constexpr int MIN_TIMES = 256;
constexpr int MIN_BOXCARS = 16;
constexpr double MIN_STD = 0.9;
constexpr int SPAN = 4096;  // times in shared memory, twice

// Whether any boxcar reaches the threshold with the smallest possible scatter: almost no series does. A span of times
// stays in shared memory while the sums double; spans overlap by the widest boxcar. A thread first reads the times of
// the line that it has written itself, and those of others after the first barrier.
__device__ bool may_reach_threshold(
    const float* line, int length, int octaves, double threshold, float (&span)[2][SPAN])
{
    __shared__ int any;
    if (threadIdx.x == 0) any = 0;
    bool mine = false;
    for (int start = 0; start < length; start += SPAN - (1 << (octaves - 1)) + 1) {
        int size = min(SPAN, length - start);
        for (int octave = 0; octave < octaves; octave++) {
            int w = 1 << octave, h = w / 2;
            const float* narrow = span[(octave + 1) & 1];
            float* wide = span[octave & 1];
            float limit = (float)(threshold * sqrt((double)w) * (1.0 - 1e-6));
            for (int t = threadIdx.x; t < size - w + 1; t += SAMPLE) {
                float total = h ? narrow[t] + narrow[t + h] : line[start + t];
                wide[t] = total;
                mine = mine || total >= limit;
            }
            __syncthreads();
        }
    }
    if (mine) atomicOr(&any, 1);
    __syncthreads();
    return any;
}

// The best boxcar in each interval of time of each item, appended to the peaks in no order. A block of SAMPLE threads
// takes one item after another, so that its scratch memory, five times the length of a series, is bounded by the size of
// the grid; hundreds of blocks run at a time, and few series pass may_reach_threshold.
// series is [row][part][length], scales [row][steps], scratch [block][5][length]. The peaks have room for every interval.
extern "C" __global__ void find_peaks(
    const float* __restrict__ series, int parts, int length, const Item* items, int count,
    const float* __restrict__ scales, int steps, int repeat, int first, int times, int octaves, double threshold,
    int interval, float* scratch, int* n_peaks, int* table, int capacity)
{
    __shared__ Bulk bulk;
    __shared__ float span[2][SPAN];
    float* line = scratch + 5LL * length * blockIdx.x;
    float *spare[2] = {line + length, line + 2LL * length}, *best = line + 3LL * length;
    int* wide = (int*)(line + 4LL * length);
    Peaks peaks = {n_peaks, table, capacity};
    for (int i = blockIdx.x; i < count; i += gridDim.x) {
        Item item = items[i];
        const float* part = series + (long long)item.row * parts * length;
        const float* scale = scales + (long long)item.scale * steps;
        auto valid = [=](int t) { return scale[(first + t) / repeat] > 0.0f; };

        // Add the parts, and normalise level and scatter of the searched times to 0 and 1.
        for (int t = threadIdx.x; t < length; t += SAMPLE) {
            float total = 0.0f, factor = scale[t / repeat];
            for (int p = item.part; p < item.part_stop; p++) total = fmaf(part[(long long)p * length + t], factor, total);
            line[t] = total;
        }
        Level level = clipped_mean_std(times, [=](int t) { return line[first + t]; }, valid, bulk);
        if (level.count == 0) continue;
        bool known = level.count >= MIN_TIMES;
        float low = known ? (float)level.level : 0.0f;
        float factor = known ? (float)(1.0 / max(level.scatter, MIN_STD)) : 1.0f;
        for (int t = threadIdx.x; t < length; t += SAMPLE)
            line[t] = scale[t / repeat] > 0.0f ? (line[t] - low) * factor : 0.0f;
        if (!may_reach_threshold(line, length, octaves, threshold, span)) continue;

        // S/N and width of the best boxcar at each time.
        for (int t = threadIdx.x; t < times; t += SAMPLE) {
            best[t] = 0.0f;
            wide[t] = 0;
        }
        const float* sums = line;
        double excess = 1.0;
        for (int octave = 0; octave < octaves; octave++) {
            int w = 1 << octave;
            if (octave) {
                float* doubled = spare[octave & 1];
                for (int t = threadIdx.x; t < length - w + 1; t += SAMPLE) doubled[t] = sums[t] + sums[t + w / 2];
                sums = doubled;
                __syncthreads();
            }
            if (w > 1 && times >= MIN_BOXCARS * w) {
                Level measured = clipped_mean_std(
                    times / w, [=](int k) { return sums[first + k * w]; },
                    [=](int k) { return valid(k * w) && valid(k * w + w - 1); }, bulk);
                // One standard error less than measured: the maximum of two estimates is biased upwards.
                // With too few boxcars, red noise has at least the excess of the narrower ones.
                if (measured.count >= MIN_BOXCARS)
                    excess = max(measured.scatter * (1.0 - sqrt(0.5 / measured.count)) / sqrt((double)w), 1.0);
            }
            float to_snr = (float)(1.0 / (excess * sqrt((double)w)));
            for (int t = threadIdx.x; t < times; t += SAMPLE) {
                float snr = sums[first - w / 2 + t] * to_snr;
                if (snr > best[t]) {
                    best[t] = snr;
                    wide[t] = w;
                }
            }
            __syncthreads();
        }
        for (int k = threadIdx.x; k * interval < times; k += SAMPLE) {
            int at = k * interval;
            for (int t = at; t < min(k * interval + interval, times); t++)
                if (best[t] > best[at]) at = t;
            if (best[at] >= threshold) peaks.add(i, first + at, wide[at], best[at]);
        }  // the next item first writes the line, which no thread reads any more
    }
}
