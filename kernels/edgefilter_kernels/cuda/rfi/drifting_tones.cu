// Drifting tones: CUDA version of ../../rfi/drifting_tones.py. The CPU sums all lines of one drift together; here, each
// thread follows one line, with the same sums. The quick bounds with which the CPU excludes most lines are left out.

constexpr unsigned char POWER_RUN = 1, HIGH_KURTOSIS = 2, LOW_KURTOSIS = 4, EVENT = 8, DISPERSED = 16;
constexpr unsigned char DRIFTING_TONE = 64;
constexpr int MIN_FILL[2] = {3, 5}, MIN_FILL_LONG[2] = {9, 20}, MANY_STEPS = 48, MIN_QUARTER_FILL[2] = {7, 20};
constexpr int MIN_QUARTER_RATIO[2] = {3, 5}, MAX_SIDE_FILL[2] = {2, 5}, MIN_CONTRAST[2] = {1, 4}, SIDE_OFFSET = 3;
constexpr int THREADS = 256;

// Returns the channels by which a line has drifted in the middle of a step, rounded.
__device__ inline int offset(int drift_channels, int k, int steps)
{
    int twice = drift_channels * (2 * k + 1) + steps, unit = 2 * steps;
    return twice >= 0 ? twice / unit : -((unit - 1 - twice) / unit);
}

// A thread works on a step of a channel. levels is [step][channel]: 0 to 2.
extern "C" __global__ void level_steps(
    const unsigned char* __restrict__ groups, const bool* live, int channels, int size, int steps,
    unsigned char* levels)
{
    long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    int c = (int)(i % channels), k = (int)(i / channels), number = 0;
    if (k >= steps) return;
    for (int n = k * size; n < k * size + size; n++) number += (groups[(long long)n * channels + c] & EVENT) != 0;
    levels[i] = live[c] ? (number > 3 * size / 8) + (number > 5 * size / 8) : 0;
}

struct Sum {
    int total, maximum;
};

struct Steps {
    const unsigned char* levels;
    const bool* live;
    int channels, steps;

    // Returns the sum along a line in some steps, and the sum if all of its live channels were filled.
    __device__ Sum sum_line(int begin, int drift_channels, int first, int stop) const
    {
        Sum sum = {0, 0};
        for (int k = first; k < stop; k++) {
            int c = begin + offset(drift_channels, k, steps);
            if (c < 0 || c >= channels || !live[c]) continue;
            sum.total += levels[(long long)k * channels + c];
            sum.maximum += 2;
        }
        return sum;
    }

    __device__ bool is_tone(int begin, int drift_channels) const
    {
        const int* fill = steps >= MANY_STEPS ? MIN_FILL_LONG : MIN_FILL;
        Sum line = sum_line(begin, drift_channels, 0, steps);
        if (line.maximum < steps || fill[1] * line.total < fill[0] * line.maximum) return false;
        for (int quarter = 0; quarter < 4; quarter++) {
            Sum here = sum_line(begin, drift_channels, quarter * steps / 4, (quarter + 1) * steps / 4);
            if (MIN_QUARTER_FILL[1] * here.total < MIN_QUARTER_FILL[0] * here.maximum) return false;
            if (MIN_QUARTER_RATIO[1] * here.total * line.maximum < MIN_QUARTER_RATIO[0] * line.total * here.maximum)
                return false;
        }
        for (int side = -SIDE_OFFSET; side <= SIDE_OFFSET; side += 2 * SIDE_OFFSET) {
            Sum side_total = sum_line(begin + side, drift_channels, 0, steps);
            if (MAX_SIDE_FILL[1] * side_total.total > MAX_SIDE_FILL[0] * side_total.maximum) return false;
        }
        Sum cross = sum_line(begin + drift_channels, -drift_channels, 0, steps);
        int more = line.total * cross.maximum - cross.total * line.maximum;
        return MIN_CONTRAST[1] * more >= MIN_CONTRAST[0] * line.maximum * cross.maximum;
    }
};

// Block (x, y): 256 lines that drift by start + y - max_drift; one a thread. hits is [1 + 2 max_drift][line].
extern "C" __global__ void find_drifting_tones(
    const unsigned char* __restrict__ levels, const bool* live, int channels, int steps, int max_drift,
    int margin_channels, int lines, unsigned char* hits, int start)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x, drift_channels = start + (int)blockIdx.y - max_drift;
    if (i >= lines) return;
    Steps all = {levels, live, channels, steps};
    hits[(long long)(drift_channels + max_drift) * lines + i] =
        drift_channels && all.is_tone(i - margin_channels, drift_channels);
}

// Block (x, y): 256 lines that drift by y - max_drift; its threads search for hits and share the times of each. Threads
// write to the same cells where lines cross, but then all write the same value.
extern "C" __global__ void mark_drifting_tones(
    const unsigned char* __restrict__ hits, int group, int size, int steps, int max_drift, int margin_channels,
    int lines, unsigned char* marks, int channels, int start, int stop)
{
    __shared__ int list[THREADS], found;
    int i = blockIdx.x * blockDim.x + threadIdx.x, drift_channels = (int)blockIdx.y - max_drift;
    if (threadIdx.x == 0) found = 0;
    __syncthreads();
    if (i < lines && hits[(long long)blockIdx.y * lines + i]) list[atomicAdd(&found, 1)] = i - margin_channels;
    __syncthreads();
    for (int n = 0; n < found; n++)
        for (int t = start + threadIdx.x; t < stop; t += blockDim.x) {
            int c = list[n] + offset(drift_channels, t / (group * size), steps);
            for (int near = max(c - 1, 0); near < min(c + 2, channels); near++) {
                unsigned char* mark = marks + (long long)t * channels + near;
                // Where lines cross, a second thread finds the result of the first, or writes the same.
                unsigned char was = *mark;
                if (was & (POWER_RUN | HIGH_KURTOSIS) && !(was & (LOW_KURTOSIS | DISPERSED)))
                    *mark = (was & ~(POWER_RUN | HIGH_KURTOSIS)) | DRIFTING_TONE;
            }
        }
}
