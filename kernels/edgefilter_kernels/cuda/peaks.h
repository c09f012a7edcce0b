// Input and output tables of the search kernels.

struct Item {  // one series of one band
    int row;               // of the series
    int part, part_stop;   // parts of the band that it is the sum of
    int scale;             // row of its factors
    int channel, channel_stop;
};

// A table [item, time, width, bits of S/N][capacity]; its first n_peaks columns are filled, in any order.
struct Peaks {
    int* n_peaks;
    int* table;
    int capacity;

    __device__ int item(int at) const { return table[at]; }
    __device__ int time(int at) const { return table[capacity + at]; }
    __device__ int width(int at) const { return table[2LL * capacity + at]; }
    __device__ float snr(int at) const { return __int_as_float(table[3LL * capacity + at]); }

    __device__ void add(int item, int time, int width, float snr)
    {
        int at = atomicAdd(n_peaks, 1);
        table[at] = item;
        table[capacity + at] = time;
        table[2LL * capacity + at] = width;
        table[3LL * capacity + at] = __float_as_int(snr);
    }
};
