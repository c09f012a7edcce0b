// Correction of fourth moments for clipping: CUDA version of ../../rfi/quantisation.py.

// A thread works on one cell of one polarisation; cells are numbered from the first one of time start.
extern "C" __global__ void correct_clipping(
    const float* __restrict__ power, const float* __restrict__ moment4, const float* __restrict__ steps,
    const float* __restrict__ table, int size, int channels, int products, int n_pols, float* __restrict__ out,
    long long first, long long cells)
{
    long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= cells) return;
    i += first;
    long long cell = i / n_pols;
    float level = power[cell * products + i % n_pols];
    float at = level * steps[cell % channels], last = (float)(size - 1);
    // Lost cells may hold NaN, which is no index.
    int step = at > 0 ? (int)(at < last ? at : last) : 0;
    float square = level * level;
    out[i] = square + (moment4[i] - square) * table[step];
}
