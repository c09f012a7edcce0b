// Robust mean and standard deviation: one block of SAMPLE threads finds the median and MAD of a sample of the values,
// and then the moments of the values within three sigma. The same formulas as in ../search/normalise.py.

constexpr int SAMPLE = 256;         // threads of a block, and size of the sample
constexpr int MIN_SAMPLE = 128;     // values of a sample at least, if there are as many
constexpr double REACH = 3.0 * 1.482602218505602;  // three sigma in units of the MAD
constexpr double CLIPPED_STD = 0.9865784;          // standard deviation of a unit Gaussian that is truncated there
constexpr int NONE = 0x7fffffff;    // sorts after every finite number

struct Bulk {  // in shared memory
    int key[SAMPLE];
    int chosen[SAMPLE];
    double sum[3][SAMPLE];
    float found;
};

struct Level {
    int count;  // of valid values
    double level, scatter;
};

// Integer that sorts as the number does.
__device__ inline int order(float value)
{
    int bits = __float_as_int(value);
    return bits >= 0 ? bits : bits ^ 0x7fffffff;
}

// Median (the upper one of two) of the values of those threads that have one. Every thread counts the values that sort
// before its own, in shared memory, where all threads read the same word: 256 steps without branches, and a result that
// does not depend on the order of the threads.
__device__ inline float median(float mine, bool has, Bulk& bulk)
{
    int i = threadIdx.x, key = has ? order(mine) : NONE, before = 0, count = 0;
    bulk.key[i] = key;
    __syncthreads();
    for (int j = 0; j < SAMPLE; j++) {
        int other = bulk.key[j];
        before += other < key || (other == key && j < i);
        count += other != NONE;
    }
    if (has && before == count / 2) bulk.found = mine;
    __syncthreads();
    return bulk.found;
}

// Sample the valid ones of n values evenly: thread k gets the index of valid value number k * step, or -1; step is chosen
// so that the sample has at least MIN_SAMPLE values. Each thread scans a run of the values. Returns the number of valid
// values.
template <class Valid>
__device__ int choose(int n, Valid valid, Bulk& bulk, int& mine)
{
    int i = threadIdx.x, run = (n + SAMPLE - 1) / SAMPLE, start = min(i * run, n), stop = min(start + run, n);
    int count = 0, before = 0, total = 0;
    for (int k = start; k < stop; k++) count += valid(k);
    bulk.key[i] = count;
    bulk.chosen[i] = -1;
    __syncthreads();
    for (int j = 0; j < SAMPLE; j++) {
        before += j < i ? bulk.key[j] : 0;
        total += bulk.key[j];
    }
    int step = max(total / MIN_SAMPLE, 1);
    for (int k = start; k < stop; k++)
        if (valid(k)) {
            if (before % step == 0) bulk.chosen[before / step] = k;
            before++;
        }
    __syncthreads();
    mine = bulk.chosen[i];
    return total;
}

// Sum of the threads' values in a fixed order: pairs, pairs of pairs … All of `sum` must have been written.
__device__ inline double add_up(double* sum)
{
    for (int half = SAMPLE / 2; half; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) sum[threadIdx.x] += sum[threadIdx.x + half];
    }
    __syncthreads();
    return sum[0];
}

// Mean and standard deviation of the valid ones of n values within three sigma of the median; both 0 if there are none.
// Numba sums runs of 1024 in single precision, this sums in double precision. All threads have reached this function
// before one of them calls value(), but not before valid().
template <class Value, class Valid>
__device__ Level clipped_mean_std(int n, Value value, Valid valid, Bulk& bulk)
{
    int i = threadIdx.x, at;
    int count = choose(n, valid, bulk, at);
    if (count == 0) return {0, 0.0, 0.0};
    float mine = at >= 0 ? value(at) : 0.0f;
    float centre = median(mine, at >= 0, bulk);
    float reach = (float)(REACH * median(fabsf(mine - centre), at >= 0, bulk));
    float limit = reach > 0.0f ? reach * reach : __int_as_float(0x7f800000);
    double kept = 0.0, total = 0.0, square = 0.0;
    for (int k = i; k < n; k += SAMPLE)
        if (valid(k)) {
            float off = value(k) - centre, power = off * off;
            if (power <= limit) {
                kept += 1.0;
                total += off;
                square += power;
            }
        }
    bulk.sum[0][i] = kept;
    bulk.sum[1][i] = total;
    bulk.sum[2][i] = square;
    kept = add_up(bulk.sum[0]);
    double mean = add_up(bulk.sum[1]) / kept, variance = add_up(bulk.sum[2]) / kept - mean * mean;
    return {count, centre + mean, sqrt(max(variance, 0.0)) / (reach > 0.0f ? CLIPPED_STD : 1.0)};
}
