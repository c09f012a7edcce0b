// Drifting tones: the twin of ../drift.py. Where the CPU sums up all lines that move alike, each thread follows one:
// the same sums. What the CPU asks first, so that few lines are looked at closely, is left out.

constexpr unsigned char RUN = 1, HIGH = 2, LOW = 4, ABOVE = 8, SKY = 16, DRIFT = 64;
constexpr int FILL[2] = {3, 5}, FILL_MANY[2] = {9, 20}, MANY_STEPS = 48, QUARTER[2] = {7, 20};
constexpr int EVENLY[2] = {3, 5}, QUIET[2] = {2, 5}, CROSSED[2] = {1, 4}, ASIDE = 3, THREADS = 256;

// Channels that a line has moved in the middle of a step, rounded.
__device__ inline int offset(int moves, int k, int steps)
{
    int twice = moves * (2 * k + 1) + steps, unit = 2 * steps;
    return twice >= 0 ? twice / unit : -((unit - 1 - twice) / unit);
}

// A thread takes a step of a channel. levels is [step][channel]: 0 to 2.
extern "C" __global__ void level_steps(
    const unsigned char* __restrict__ groups, const bool* live, int channels, int size, int steps,
    unsigned char* levels)
{
    long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    int c = (int)(i % channels), k = (int)(i / channels), number = 0;
    if (k >= steps) return;
    for (int n = k * size; n < k * size + size; n++) number += (groups[(long long)n * channels + c] & ABOVE) != 0;
    levels[i] = live[c] ? (number > 3 * size / 8) + (number > 5 * size / 8) : 0;
}

struct Sum {
    int total, whole;
};

struct Steps {
    const unsigned char* levels;
    const bool* live;
    int channels, steps;

    // Sum along the line that begins in a channel, in some steps, and what it would be if all of it were filled.
    __device__ Sum along(int begin, int moves, int first, int stop) const
    {
        Sum sum = {0, 0};
        for (int k = first; k < stop; k++) {
            int c = begin + offset(moves, k, steps);
            if (c < 0 || c >= channels || !live[c]) continue;
            sum.total += levels[(long long)k * channels + c];
            sum.whole += 2;
        }
        return sum;
    }

    __device__ bool tone(int begin, int moves) const
    {
        int over = steps >= MANY_STEPS ? FILL_MANY[1] : FILL[1], part = steps >= MANY_STEPS ? FILL_MANY[0] : FILL[0];
        Sum line = along(begin, moves, 0, steps);
        if (line.whole < steps || over * line.total < part * line.whole) return false;
        for (int quarter = 0; quarter < 4; quarter++) {
            Sum here = along(begin, moves, quarter * steps / 4, (quarter + 1) * steps / 4);
            if (QUARTER[1] * here.total < QUARTER[0] * here.whole) return false;
            if (EVENLY[1] * here.total * line.whole < EVENLY[0] * line.total * here.whole) return false;
        }
        for (int aside = -ASIDE; aside <= ASIDE; aside += 2 * ASIDE) {
            Sum beside = along(begin + aside, moves, 0, steps);
            if (QUIET[1] * beside.total > QUIET[0] * beside.whole) return false;
        }
        Sum cross = along(begin + moves, -moves, 0, steps);
        int more = line.total * cross.whole - cross.total * line.whole;
        return CROSSED[1] * more >= CROSSED[0] * line.whole * cross.whole;
    }
};

// Block (x, y): 256 lines that move by start + y - steepest; a thread takes a line. hits is [1 + 2 steepest][line].
extern "C" __global__ void find_drifts(
    const unsigned char* __restrict__ levels, const bool* live, int channels, int steps, int steepest, int outside,
    int lines, unsigned char* hits, int start)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x, moves = start + (int)blockIdx.y - steepest;
    if (i >= lines) return;
    Steps all = {levels, live, channels, steps};
    hits[(long long)(moves + steepest) * lines + i] = moves && all.tone(i - outside, moves);
}

// Block (x, y): 256 lines that move by y - steepest; its threads look for hits and share the times of each. They mark
// the same cells where lines cross: all that one may write over another is what the other has written, too.
extern "C" __global__ void mark_drifts(
    const unsigned char* __restrict__ hits, int group, int size, int steps, int steepest, int outside, int lines,
    unsigned char* marks, int channels, int start, int stop)
{
    __shared__ int list[THREADS], found;
    int i = blockIdx.x * blockDim.x + threadIdx.x, moves = (int)blockIdx.y - steepest;
    if (threadIdx.x == 0) found = 0;
    __syncthreads();
    if (i < lines && hits[(long long)blockIdx.y * lines + i]) list[atomicAdd(&found, 1)] = i - outside;
    __syncthreads();
    for (int n = 0; n < found; n++)
        for (int t = start + threadIdx.x; t < stop; t += blockDim.x) {
            int c = list[n] + offset(moves, t / (group * size), steps);
            for (int near = max(c - 1, 0); near < min(c + 2, channels); near++) {
                unsigned char* mark = marks + (long long)t * channels + near;
                // Lines cross; who comes second finds what the first has made, or makes the same.
                unsigned char was = *mark;
                if (was & (RUN | HIGH) && !(was & (LOW | SKY))) *mark = (was & ~(RUN | HIGH)) | DRIFT;
            }
        }
}
