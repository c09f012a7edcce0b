// Unpack numbers, and flag cells that hold a NaN or an infinity: CUDA version of ../../filterbank/unpack.py.

#include "numbers.h"

// One thread a number: neighbouring threads read neighbouring bytes, or the same byte, and write neighbouring numbers.
extern "C" __global__ void unpack(
    const unsigned char* raw, long long count, int bits, int flip, int bias, float* out)
{
    long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) out[i] = number(raw, i * bits, bits, flip, bias);
}

// One thread a cell.
extern "C" __global__ void zero_nonfinite(
    float* power, long long cells, int products, unsigned short lost, unsigned short* flags)
{
    long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= cells) return;
    bool finite = true;
    for (int p = 0; p < products; p++) finite = finite && isfinite(power[i * products + p]);
    if (finite) return;
    for (int p = 0; p < products; p++) power[i * products + p] = 0.0f;
    flags[i] = lost;
}
