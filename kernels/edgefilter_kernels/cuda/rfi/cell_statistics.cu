// Statistics of the cells of a channel: CUDA version of ../../rfi/cell_statistics.py.

#include "runs.h"

constexpr unsigned char POWER_RUN = 1, HIGH_KURTOSIS = 2, LOW_KURTOSIS = 4, EVENT = 8, KURTOSIS_DIP = 32;
constexpr unsigned char RUN_HOLE = 128;
constexpr unsigned char DROPPED = 16;  // the bit of DISPERSED, which is set later
constexpr int GROUP_TIMES = PART_MULTIPLE;  // times that are summed
constexpr float TINY = 1e-30f;

// Fills the tile with power in standard deviations, at all times of this thread's part.
__device__ void fill_power(
    Tile tile, const float* power, const unsigned short* flags, int channels, int products, int n_pols, int c,
    float centre, float per_unit, const float* weight, const float* gain_drift)
{
    for (int t = tile.first; t < tile.last; t++) {
        long long cell = (long long)t * channels + c;
        float z = (intensity(power + cell * products, n_pols) - centre) * (per_unit * weight[t]) - gain_drift[t];
        tile.values[t * LANES] = flags[cell] == 0 ? z : 0.0f;
    }
}

// Fills the tile with kurtosis in standard deviations; marks cells with a low kurtosis.
__device__ void fill_kurtosis(
    Tile tile, const float* power, const float* moment4, const unsigned short* flags, int channels, int products,
    int n_pols, int c, const float* gain, const float* per_sigma)
{
    float root = (float)sqrt((double)n_pols);
    for (int t = tile.first; t < tile.last; t++) {
        long long cell = (long long)t * channels + c;
        float total = 0.0f;
        for (int h = 0; h < n_pols; h++) {
            float mean = power[cell * products + h], square = mean * mean;
            if (square > TINY) total += gain[t] * (moment4[cell * n_pols + h] / square - 1.0f) - 1.0f;
        }
        float value = flags[cell] == 0 ? total * (per_sigma[t] / root) : 0.0f;
        tile.values[t * LANES] = value;
        if (value < -1.0f) tile.marks[t * LANES] |= KURTOSIS_DIP;
    }
}

// Marks cells, and groups of them, above a level. groups is [group][channel] and begins at the channel.
__device__ void find_events(
    Tile tile, float event_threshold, float group_sum_threshold, int channels, bool inside, unsigned char* groups)
{
    for (int first = tile.first; first < tile.last; first += GROUP_TIMES) {
        float total = 0.0f;
        for (int t = first; t < min(first + GROUP_TIMES, tile.last); t++) {
            float value = tile.values[t * LANES];
            total += min(value, event_threshold);
            tile.marks[t * LANES] = value > event_threshold ? EVENT : 0;
        }
        if (inside) groups[(long long)(first / GROUP_TIMES) * channels] = total > group_sum_threshold ? EVENT : 0;
    }
}

// Sums over the cells in no run: number, sum, squares, squared sums of groups. Sums are in single precision over a
// group, as on the CPU, and in double precision over the groups of a part and over the parts, always in the same order.
__device__ void add_moments(
    Tile tile, const unsigned short* flags, int channels, int c, bool inside, double* moments)
{
    __shared__ double sums[4][PARTS][LANES];
    double whole[4] = {0.0, 0.0, 0.0, 0.0};
    for (int first = tile.first; inside && first < tile.last; first += GROUP_TIMES) {
        float number = 0.0f, sum = 0.0f, squares = 0.0f;
        for (int t = first; t < min(first + GROUP_TIMES, tile.last); t++) {
            bool seen = tile.marks[t * LANES] & (POWER_RUN | HIGH_KURTOSIS | LOW_KURTOSIS);
            float good = flags[(long long)t * channels + c] == 0 && !seen ? 1.0f : 0.0f;
            float value = good * tile.values[t * LANES];
            number += good;
            sum += value;
            squares += value * value;
        }
        whole[0] += number;
        whole[1] += sum;
        whole[2] += squares;
        whole[3] += sum * sum;
    }
    __syncthreads();
    for (int m = 0; m < 4; m++) sums[m][threadIdx.y][threadIdx.x] = whole[m];
    __syncthreads();
    int m = threadIdx.y;
    if (m < 4 && inside) {
        double total = 0.0;
        for (int k = 0; k < PARTS; k++) total += sums[m][k][threadIdx.x];
        moments[(long long)m * channels + c] = total;
    }
}

// A block works on eight channels, from start on. power is [time][channel][product], moment4
// [time][channel][kurtosis_pols]; limits are [2][count], groups is [group][channel], moments
// [2][4][channel]; tile_values and tile_marks are scratch.
extern "C" __global__ void cell_statistics(
    const float* __restrict__ power, const float* __restrict__ moment4, const unsigned short* __restrict__ flags,
    int times, int channels, int products, int n_pols, int kurtosis_pols, const float* centre,
    const float* per_unit, const float* weight, const float* gain_drift, const float* kurtosis_gain,
    const float* kurtosis_per_sigma, const long long* run_windows, const float* run_limits, int n_windows,
    const long long* kurtosis_windows, const float* kurtosis_limits, int n_kurtosis_windows, float event_threshold,
    float group_sum_threshold, float* tile_values, unsigned char* tile_marks, unsigned char* marks,
    unsigned char* groups, double* moments, int start, int stop)
{
    Tile tile = tile_of(tile_values, tile_marks, times);
    int channel = start + blockIdx.x * LANES + threadIdx.x, c = min(channel, stop - 1);
    bool inside = channel < stop;  // a lane without a channel works on the last one, and writes nothing

    fill_power(tile, power, flags, channels, products, n_pols, c, centre[c], per_unit[c], weight, gain_drift);
    find_events(tile, event_threshold, group_sum_threshold, channels, inside, groups + c);
    __syncthreads();
    find_runs(tile, run_windows, run_limits, n_windows, POWER_RUN, 0, RUN_HOLE, true, false);
    add_moments(tile, flags, channels, c, inside, moments);
    if (kurtosis_pols) {
        fill_kurtosis(
            tile, power, moment4, flags, channels, products, kurtosis_pols, c, kurtosis_gain, kurtosis_per_sigma);
        __syncthreads();
        find_runs(
            tile, kurtosis_windows, kurtosis_limits, n_kurtosis_windows, HIGH_KURTOSIS, LOW_KURTOSIS, DROPPED, false,
            true);
        add_moments(tile, flags, channels, c, inside, moments + 4LL * channels);
    }
    if (inside)
        for (int t = tile.first; t < tile.last; t++) {
            unsigned char mark = tile.marks[t * LANES];
            marks[(long long)t * channels + c] = mark & RUN_HOLE ? mark & ~POWER_RUN : mark;
        }
}
