// Incoherent dedispersion in two stages, in integers: CUDA version of ../../search/dedisperse.py. No sum can overflow, so
// both give the same numbers in any order.
//
// The limit is the rate of loads from the first-level cache: a group of trials reads the same few megabytes, which fit
// into the second-level cache of a large GPU. A thread therefore makes four sums, a block apart from each other, so that
// one lookup of a track's start serves four loads, and warps read contiguous memory.
// starts is the index of each track's first number in the whole input, not in its row.

constexpr int SUMS_PER_THREAD = 4;

template <class In, class Out>
__device__ void sum_along_tracks(const In* in, const long long* starts, int first, int last, int length, Out* out)
{
    int t = blockIdx.x * blockDim.x * SUMS_PER_THREAD + threadIdx.x;
    int total[SUMS_PER_THREAD] = {};
    for (int row = first; row < last; row++) {
        const In* from = in + starts[row] + t;
        for (int k = 0; k < SUMS_PER_THREAD; k++)
            if (t + k * (int)blockDim.x < length) total[k] += from[k * (int)blockDim.x];
    }
    for (int k = 0; k < SUMS_PER_THREAD; k++)
        if (t + k * (int)blockDim.x < length) out[t + k * (int)blockDim.x] = (Out)total[k];
}

// Grid: times, sub-bands, groups. power is [channel][time], starts [group][channel], out [group][sub-band][length].
extern "C" __global__ void add_channels(
    const signed char* __restrict__ power, const long long* __restrict__ edges, const long long* __restrict__ starts,
    int channels, int length, short* __restrict__ out)
{
    int s = blockIdx.y, g = blockIdx.z;
    sum_along_tracks(power, starts + (long long)g * channels, (int)edges[s], (int)edges[s + 1], length,
                     out + ((long long)g * gridDim.y + s) * length);
}

// Grid: times, parts, trials. sums is [sub-band][time], starts [trial][sub-band], out [trial][part][length].
extern "C" __global__ void add_subbands(
    const short* __restrict__ sums, const long long* __restrict__ parts, const long long* __restrict__ starts,
    int subbands, int length, float* __restrict__ out)
{
    int p = blockIdx.y, i = blockIdx.z;
    sum_along_tracks(sums, starts + (long long)i * subbands, (int)parts[p], (int)parts[p + 1], length,
                     out + ((long long)i * gridDim.y + p) * length);
}
