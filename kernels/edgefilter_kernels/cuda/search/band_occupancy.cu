// Fraction of a boxcar's signal outside its strongest part of the band: CUDA version of ../../search/band_occupancy.py.

#include "peaks.h"

constexpr float COUNTS_PER_SIGMA = 8.0f, FULL_WEIGHT = 64.0f;

// A block takes one peak after another, because the number of peaks is only known on the GPU. Its threads sum the
// channels; the first thread then moves the window along the band, in the order of the CPU. scratch is
// [block][2][channel].
// power is [channel][times], weight [channel][steps], delays [row][channel].
extern "C" __global__ void band_occupancy(
    const signed char* __restrict__ power, int times, const signed char* __restrict__ weight, int steps, int repeat,
    const long long* __restrict__ delays, int channels, const Item* items, double max_part, int* n_peaks, int* table,
    int capacity, float* scratch, double* remaining_fraction)
{
    __shared__ unsigned long long counts;  // two's complement: the sum of a wide band exceeds an int
    __shared__ int total_weight;
    Peaks peaks = {n_peaks, table, capacity};
    float *sum = scratch + 2LL * channels * blockIdx.x, *valid = sum + channels;
    for (int i = blockIdx.x; i < *n_peaks; i += gridDim.x) {
        Item item = items[peaks.item(i)];
        int width = peaks.width(i), start = peaks.time(i) - width / 2;
        if (threadIdx.x == 0) counts = 0, total_weight = 0;
        __syncthreads();
        for (int c = item.channel + threadIdx.x; c < item.channel_stop; c += blockDim.x) {
            long long at = start + delays[(long long)item.row * channels + c];
            int count = 0, whole = weight[(long long)c * steps + (at + width / 2) / repeat];
            for (int t = 0; t < width; t++) count += power[(long long)c * times + at + t];
            sum[c] = count / COUNTS_PER_SIGMA;  // exact, as is the next line
            valid[c] = whole / FULL_WEIGHT;
            atomicAdd(&counts, (unsigned long long)count);
            atomicAdd(&total_weight, whole);
        }
        __syncthreads();
        if (threadIdx.x == 0) {
            double valid_weight = total_weight / (double)FULL_WEIGHT;
            double signal = peaks.snr(i) * sqrt(width * valid_weight);
            double total = (long long)counts / (double)COUNTS_PER_SIGMA;
            double base = valid_weight > 0.0 ? (total - signal) / valid_weight : 0.0;
            double strongest = 0.0, piece = 0.0, covered = 0.0;
            for (int c = item.channel, first = c; c < item.channel_stop; c++) {
                piece += sum[c] - base * valid[c];
                covered += valid[c];
                for (; covered > max_part * valid_weight && first < c; first++) {
                    piece -= sum[first] - base * valid[first];
                    covered -= valid[first];
                }
                strongest = max(strongest, piece);
            }
            remaining_fraction[i] = signal > 0.0 ? (signal - strongest) / signal : 0.0;
        }  // the others wait for it at the first barrier of the next peak
    }
}
