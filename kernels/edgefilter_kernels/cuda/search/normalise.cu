// Channels normalised to zero mean and unit variance: CUDA version of ../../search/normalise.py, with the same
// single-precision sums in the same order, so that both give the same bytes. The __f…_rn functions round products and
// sums separately, as the CPU does.

#include "bulk.h"

constexpr float MAX_FINITE = 3e38f;  // larger values count as infinite
constexpr float FULL_WEIGHT = 64.0f;
constexpr int MIN_ROWS = 16;
constexpr double MIN_BULK = 0.8;  // of the values of a channel
constexpr int TILE = 32;
constexpr int AHEAD = 16;  // rows that a thread loads before it adds them

// Median of about 128 evenly spaced valid values of a channel, and the square of three sigma from their MAD.
// One block of SAMPLE threads a channel, one value a thread. padded_rows fixes the sample, as on the CPU.
// bulk is [centre, square of the reach][channel].
extern "C" __global__ void find_bulk(
    const float* power, const unsigned short* weight, int rows, int padded_rows, int channels, int start, int count,
    float unit, float* bulk)
{
    __shared__ Bulk shared;
    __shared__ int found, sampled, inside;
    const float* x = power + start + blockIdx.x;
    const unsigned short* w = weight + start + blockIdx.x;
    auto valid = [=](int t) {
        return w[(long long)t * channels] > 0 && fabsf(x[(long long)t * channels]) < MAX_FINITE;
    };
    int i = threadIdx.x, step = max(padded_rows / MIN_SAMPLE, 1), at = i * step;
    if (at >= rows || !valid(at)) at = -1;
    if (i == 0) found = sampled = inside = 0;
    __syncthreads();
    if (at >= 0) atomicAdd(&found, 1);
    __syncthreads();
    int some = found;
    if (some < MIN_SAMPLE / 2 && step > 1) some = choose(rows, valid, shared, at);
    float centre = 0.0f, limit = 0.0f;
    if (some) {
        bool has = at >= 0;
        float mine = has ? x[(long long)at * channels] : 0.0f;
        float root = has ? (float)sqrt((double)w[(long long)at * channels] * unit) : 0.0f;
        centre = median(mine, has, shared);
        float off = __fmul_rn(fabsf(__fsub_rn(mine, centre)), root);
        float reach = (float)(REACH * median(off, has, shared));
        if (has) atomicAdd(&sampled, 1);
        if (has && off <= reach) atomicAdd(&inside, 1);
        __syncthreads();
        // Of one or two bits, more than half of the values may lie close together, and most others far from them.
        limit = reach > 0.0f && inside > MIN_BULK * sampled ? reach * reach : MAX_FINITE;
    }
    if (i == 0) {
        bulk[blockIdx.x] = centre;
        bulk[count + blockIdx.x] = limit;
    }
}

// Level of a channel and counts per unit of power (NaN where there is no data), and whether all its weights are full.
// One thread a channel adds all rows in order: the sums equal those of the CPU, bit for bit. Neighbouring threads read
// neighbouring channels, and each loads AHEAD rows before it adds them. This reaches a tenth of the memory bandwidth,
// which is little time beside the search.
// scale is [level, factor][channel].
extern "C" __global__ void find_scale(
    const float* power, const unsigned short* weight, int rows, int channels, int start, int count, float unit,
    float counts, const float* bulk, float* scale, signed char* whole)
{
    int c = blockIdx.x * blockDim.x + threadIdx.x;
    if (c >= count) return;
    float centre = bulk[c], limit = bulk[count + c];
    float kept = 0.0f, total = 0.0f, first = 0.0f, second = 0.0f, finite = 0.0f;
    for (int t = 0; t < rows; t += AHEAD) {
        float x[AHEAD];
        unsigned short cells[AHEAD];
#pragma unroll
        for (int k = 0; k < AHEAD; k++) {
            long long at = (long long)min(t + k, rows - 1) * channels + start + c;
            x[k] = power[at];
            cells[k] = t + k < rows ? weight[at] : 0;
        }
#pragma unroll
        for (int k = 0; k < AHEAD; k++) {
            float w = __fmul_rn((float)cells[k], unit), off = __fsub_rn(x[k], centre), power_of = __fmul_rn(off, off);
            float square = __fmul_rn(power_of, w);
            if (square <= limit && w > 0.0f) {
                kept += 1.0f;
                total += w;
                first = __fadd_rn(first, __fmul_rn(off, w));
                second += square;
            }
            if (power_of < MAX_FINITE) finite += w;
        }
    }
    float level = nanf(""), factor = nanf("");
    if (kept >= MIN_ROWS) {
        float mean = first / max(total, 1e-30f), about = centre + mean;
        double scatter = sqrtf(max(__fsub_rn(second, __fmul_rn(__fmul_rn(total, mean), mean)), 0.0f) / kept);
        if (limit < MAX_FINITE) scatter /= CLIPPED_STD;
        if (scatter > 1e-6 * fabsf(about)) {  // rounding of a constant channel is no scatter
            level = about;
            factor = (float)(counts / scatter);
        }
    }
    scale[c] = level;
    scale[count + c] = factor;
    whole[c] = finite == rows && isfinite(level);
}

// Normalise, clip and round, and transpose [time, channel] to [channel, time]. A block of TILE x 8 threads makes a tile of
// TILE times and channels: warps read along channels and write along time, 32 bytes at a time. The rows of the tile are
// 36 bytes apart, nine words, so that the 32 rows of a column lie in different banks.
extern "C" __global__ void normalise_tile(
    const float* power, const unsigned short* weight, int rows, int channels, int start, int count, int first,
    float unit, float most, const float* scale, const signed char* whole, signed char* value,
    signed char* relative_weight)
{
    __shared__ signed char values[TILE][TILE + 4], weights[TILE][TILE + 4];
    int c = blockIdx.y * TILE + threadIdx.x, times = rows - first;
    for (int k = threadIdx.y; k < TILE; k += blockDim.y) {
        int t = blockIdx.x * TILE + k;
        if (t < times && c < count) {
            long long at = (long long)(first + t) * channels + start + c;
            float w = __fmul_rn((float)weight[at], unit);
            float x = __fmul_rn(__fsub_rn(power[at], scale[c]), scale[count + c]);
            bool good = x < MAX_FINITE && x > -MAX_FINITE && w > 0.0f;
            // To the nearest integer: positive before the fraction is cut off.
            float rounded = good ? __fmul_rn(max(min(x, most), -most), w) : 0.0f;
            float part = good ? max(__fmul_rn(w, FULL_WEIGHT), 1.0f) : 0.0f;
            values[k][threadIdx.x] = (signed char)((int)__fadd_rn(rounded, 128.5f) - 128);
            weights[k][threadIdx.x] =
                whole[c] ? (signed char)FULL_WEIGHT : (signed char)((int)__fadd_rn(part, 128.5f) - 128);
        }
    }
    __syncthreads();
    int t = blockIdx.x * TILE + threadIdx.x;
    for (int k = threadIdx.y; k < TILE; k += blockDim.y) {
        int channel = blockIdx.y * TILE + k;
        if (t < times && channel < count) {
            long long to = (long long)(start + channel) * times + t;
            value[to] = values[threadIdx.x][k];
            relative_weight[to] = weights[threadIdx.x][k];
        }
    }
}

// Add neighbouring times, divided by the square root of two. One thread a sum; n sums in all, channel after channel.
extern "C" __global__ void tscrunch2(const signed char* value, long long n, float root, signed char* out)
{
    long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    float total = rintf((float)(value[2 * i] + value[2 * i + 1]) * root);
    out[i] = (signed char)max(min(total, 127.0f), -127.0f);
}

// Maximum of every repeat times. One thread a result, as above.
extern "C" __global__ void max_pool(const signed char* relative_weight, long long n, int repeat, signed char* out)
{
    long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    signed char largest = 0;
    for (int k = 0; k < repeat; k++) largest = max(largest, relative_weight[i * repeat + k]);
    out[i] = largest;
}
