// Flags of marks and of channels: CUDA version of ../../rfi/combine.py.

// A thread works on a cell; cells are numbered from the first one of time start. tables is [2][256].
extern "C" __global__ void combine(
    const unsigned char* __restrict__ marks, const unsigned short* __restrict__ tables,
    const bool* __restrict__ table_index, const unsigned short* __restrict__ channel_flags, int channels, int lost,
    unsigned short* flags, long long first, long long cells)
{
    long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= cells) return;
    int c = (int)(i % channels);
    i += first;
    if (!(flags[i] & lost)) flags[i] |= tables[table_index[c] * 256 + marks[i]] | channel_flags[c];
}
