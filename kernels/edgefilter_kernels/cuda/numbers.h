// One number of packed bytes, as _number of ../filterbank/fir.py. Little-endian, read byte by byte, so that no
// alignment is needed; the caches combine the reads into one access to memory.

#pragma once

__device__ inline float number(const unsigned char* raw, long long bit, int bits, int flip, int bias)
{
    const unsigned char* at = raw + (bit >> 3);
    if (bits == 32) return __int_as_float((int)(at[0] | at[1] << 8 | at[2] << 16 | (unsigned)at[3] << 24));
    int field = bits == 16 ? at[0] | at[1] << 8 : (at[0] >> (bit & 7)) & ((1 << bits) - 1);
    return (float)((field ^ flip) - bias);
}
