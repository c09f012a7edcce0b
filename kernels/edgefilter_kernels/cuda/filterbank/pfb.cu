// Polyphase filterbank and detection: CUDA version of ../../filterbank/pfb.py and ../../filterbank/fir.py, with cuFFT
// between filter and detect. The constants of a filterbank are macros, so that loops over taps and polarisations are
// unrolled, divisions by N are shifts, and numbers are read without branches.

#include "numbers.h"

#ifndef FINE          // values for the compilation test
#define FINE 1024     // channels of a transform, N
#define HOP 1024      // pairs from one spectrum to the next
#define TAPS 4
#define WIDTH 1024    // coefficients from tap to tap
#define N_POLS 2
#define COMPONENTS 2  // numbers of a sample
#define PRODUCTS 4    // of a cell
#define BITS 8
#define FLIP 128
#define BIAS 128
#define FLUSH_SPECTRA 256  // most spectra that are summed in single precision
#endif

constexpr int SUMS = PRODUCTS + N_POLS;
constexpr int DC_CHANNEL = COMPONENTS == 2 ? FINE / 2 : 0;  // output channel of the transform's first

// Unpack, weight and add the rows of spectra [first, first + spectra) of raw channels [channel, channel + group) of
// `channels`. voltage is [spectrum, group, pol, N].
//
// One thread a pair of numbers of all polarisations. Blocks of neighbouring raw channels follow one another, because
// they read the same memory sectors if channels are interleaved. Each byte is read once a tap, but only the first time
// from memory: the neighbouring spectra that need it are filtered at the same time. Neighbouring threads write
// neighbouring numbers.
extern "C" __global__ void filter(
    const unsigned char* raw, const float* coefficients, long long first, int spectra, int channels, int channel,
    int group, float2* voltage)
{
    int g = blockIdx.x % group, e = blockIdx.x / group * blockDim.x + threadIdx.x;
    if (e >= spectra * FINE) return;
    int k = e / FINE, i = e % FINE;
    long long unit = 2LL * N_POLS * channels, start = ((first + k) * HOP + i) * unit;
#pragma unroll
    for (int pol = 0; pol < N_POLS; pol++) {
        float total[2];
#pragma unroll
        for (int part = 0; part < 2; part++) {
            long long at = start + (COMPONENTS == 2 ? ((channel + g) * N_POLS + pol) * 2 + part
                                                    : ((long long)part * channels + channel + g) * N_POLS + pol);
            const float* weight = coefficients + part * TAPS * WIDTH + i;
            float sum = 0.0f;
#pragma unroll
            for (int tap = 0; tap < TAPS; tap++)
                sum += weight[tap * WIDTH] * number(raw, (at + tap * FINE * unit) * BITS, BITS, FLIP, BIAS);
            total[part] = sum;
        }
        voltage[((long long)(k * group + g) * N_POLS + pol) * FINE + i] = make_float2(total[0], total[1]);
    }
}

// Channel k of a transform. For 2 N real numbers that were transformed as N complex ones, see rfft_postprocess in
// ../../filterbank/fft.py.
__device__ inline float2 channel_of(const float2* z, const float2* rfft_twiddle, int k)
{
    float2 a = z[k];
    if (COMPONENTS == 2) return a;
    if (k == 0) return make_float2(a.x + a.y, 0.0f);
    float2 b = z[FINE - k], w = rfft_twiddle[k];
    float even_re = a.x + b.x, even_im = a.y - b.y, odd_re = a.y + b.y, odd_im = b.x - a.x;
    float re = odd_re * w.x - odd_im * w.y, im = odd_re * w.y + odd_im * w.x;
    return make_float2(0.5f * (even_re + re), 0.5f * (even_im + im));
}

// Sum the products of the valid spectra, and after these their fourth powers, over segments of FLUSH_SPECTRA spectra of
// a cell. voltage holds `cells` cells of `spectra` spectra; valid is [spectrum]. partial is [cell, segment, sum, group
// N], of which segments [done, done + ceil(spectra / FLUSH_SPECTRA)) of `segments` are written.
//
// One thread a channel and segment adds all its spectra in order, so that every run computes the same bits.
// Neighbouring threads read neighbouring channels.
extern "C" __global__ void detect(
    const float2* voltage, const float2* rfft_twiddle, const bool* valid, int cells, int spectra, int group, int done,
    int segments, float* partial)
{
    int width = group * FINE, new_segments = (spectra + FLUSH_SPECTRA - 1) / FLUSH_SPECTRA;
    int e = blockIdx.x * blockDim.x + threadIdx.x;
    int cell = e / width / new_segments, segment = e / width % new_segments, j = e % width;
    if (cell >= cells) return;
    float sums[SUMS] = {};
    for (int s = segment * FLUSH_SPECTRA; s < min((segment + 1) * FLUSH_SPECTRA, spectra); s++) {
        int k = cell * spectra + s;
        if (!valid[k]) continue;
        const float2* z = voltage + ((long long)k * group + j / FINE) * N_POLS * FINE;
        float2 v[N_POLS];
#pragma unroll
        for (int pol = 0; pol < N_POLS; pol++) {
            v[pol] = channel_of(z + pol * FINE, rfft_twiddle, j % FINE);
            float power = v[pol].x * v[pol].x + v[pol].y * v[pol].y;
            sums[pol] += power;
            sums[PRODUCTS + pol] += power * power;
        }
        if (PRODUCTS > N_POLS) {
            float2 x = v[0], y = v[N_POLS - 1];
            sums[2] += x.x * y.x + x.y * y.y;
            sums[3] += x.y * y.x - x.x * y.y;
        }
    }
    float* to = partial + ((long long)cell * segments + done + segment) * SUMS * width + j;
#pragma unroll
    for (int p = 0; p < SUMS; p++) to[(long long)p * width] = sums[p];
}

// Sum the segments of each cell in double precision, average, and write the channels in natural order.
// count is [cell]; power is [cell, channels N, product] and moment4 [cell, channels N, pol], from raw channel `channel`
// on. One thread a channel of a cell.
extern "C" __global__ void write_cells(
    const float* partial, const int* count, int cells, int segments, int channels, int channel, int group,
    float* power, float* moment4)
{
    int width = group * FINE, e = blockIdx.x * blockDim.x + threadIdx.x;
    int cell = e / width, j = e % width;
    if (cell >= cells) return;
    const float* from = partial + (long long)cell * segments * SUMS * width + j;
    double scale = 1.0 / max(count[cell], 1);
    long long to = ((long long)cell * channels + channel) * FINE + j / FINE * FINE + (j % FINE + DC_CHANNEL) % FINE;
#pragma unroll
    for (int p = 0; p < SUMS; p++) {
        double total = 0.0;
        for (int s = 0; s < segments; s++) total += from[((long long)s * SUMS + p) * width];
        float mean = (float)(total * scale);
        if (p < PRODUCTS) power[to * PRODUCTS + p] = mean;
        else moment4[to * N_POLS + p - PRODUCTS] = mean;
    }
}

// Write voltages whose phase is counted from the start of the stream: out is [spectrum, channels N, pol], of which raw
// channels from `channel` on are written; spectrum 0 is number `first` of the stream. One thread a channel of a spectrum.
extern "C" __global__ void write_voltages(
    const float2* voltage, const float2* rfft_twiddle, const float2* phase, long long first, int spectra, int channels,
    int channel, int group, float2* out)
{
    int width = group * FINE, e = blockIdx.x * blockDim.x + threadIdx.x;
    int k = e / width, j = e % width;
    if (k >= spectra) return;
    constexpr int WRAP = FINE - 1;  // N is a power of two; first may be negative
    float2 w = phase[(j % FINE) * ((first + k) * HOP & WRAP) & WRAP];
    const float2* z = voltage + ((long long)k * group + j / FINE) * N_POLS * FINE;
    long long to = ((long long)k * channels + channel) * FINE + j / FINE * FINE + (j % FINE + DC_CHANNEL) % FINE;
#pragma unroll
    for (int pol = 0; pol < N_POLS; pol++) {
        float2 v = channel_of(z + pol * FINE, rfft_twiddle, j % FINE);
        out[to * N_POLS + pol] = make_float2(v.x * w.x - v.y * w.y, v.x * w.y + v.y * w.x);
    }
}
