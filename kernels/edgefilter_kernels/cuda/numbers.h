// One number out of packed bytes: the twin of _number in ../filterbank/fir.py. Little-endian, byte by byte, so that
// nothing has to be aligned; the caches make one access to memory of it.

#pragma once

__device__ inline float number(const unsigned char* raw, long long bit, int bits, int flip, int bias)
{
    const unsigned char* at = raw + (bit >> 3);
    if (bits == 32) return __int_as_float((int)(at[0] | at[1] << 8 | at[2] << 16 | (unsigned)at[3] << 24));
    int field = bits == 16 ? at[0] | at[1] << 8 : (at[0] >> (bit & 7)) & ((1 << bits) - 1);
    return (float)((field ^ flip) - bias);
}
