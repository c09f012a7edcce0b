// Sweeps that an end of the data cuts: the twin of ../cut.py. Time and channels are counted from the end that cuts: side
// 0 is the end of the data, 1 its start.

constexpr unsigned char IN_RUN = 1 | 128, SKY = 16, DIP = 32;
constexpr double DIPS = 0.2, DIPS_SIGMA = 3.0, FILL = 0.75;
constexpr int LEAST_FILLED = 8, MOST_MISSED = 2, SWEPT = 4;

struct Cells {
    unsigned char* marks;
    int times, channels, side;

    __device__ unsigned char& at(int t, int c) const
    {
        return marks[(long long)(side ? times - 1 - t : t) * channels + c];
    }
    __device__ bool run(int t, int c) const { return t >= 0 && t < times && at(t, c) & IN_RUN; }
};

// Where the last run of a channel begins, if it goes on to since or later; -1 if there is none.
__device__ inline int last_run(const Cells& cells, int c, int since, long long longest)
{
    int at = cells.times - 1;
    while (at >= since && !cells.run(at, c)) at--;
    if (at < max(since, 0)) return -1;
    int last = at;
    while (last - at < longest && cells.run(at - 1, c)) at--;
    return last - at < longest ? at : -1;
}

// Whether a run of at most longest begins within reach of at, and where it begins and ends.
__device__ inline bool run_near(
    const Cells& cells, int c, int at, int reach, long long longest, int& first, int& stop)
{
    for (first = max(at - reach, 0); first < min(at + reach + 1, cells.times); first++)
        if (cells.run(first, c) && !cells.run(first - 1, c)) {
            for (stop = first + 1; stop - first <= longest && cells.run(stop, c);) stop++;
            if (stop - first <= longest) return true;
        }
    return false;
}

// Follows a track from the channel that the end cuts; marks the runs on it, or says whether it is a sweep's.
__device__ bool follow(
    const Cells& cells, int step, int reach, int most, const bool* live, const long long* longest, const int* delay,
    int c0, int begin, int inward, bool mark)
{
    int seen = 0, filled = 0, asked = 0, missed = 0, swept = 0, found = 0, dips = 0, c = c0;
    for (; c >= 0 && c < cells.channels && asked < most && missed <= MOST_MISSED; c += inward) {
        if (!live[c]) continue;
        int late = step * abs(delay[c] - delay[c0]);
        int first, stop;
        asked++;
        missed++;
        if (!run_near(cells, c, begin - late, reach, longest[c], first, stop)) continue;
        missed = 0;
        filled++;
        seen = asked;
        swept = late;
        for (int t = first; t < stop; t++) {
            found++;
            dips += (cells.at(t, c) & DIP) != 0;
            if (mark) cells.at(t, c) |= SKY;
        }
    }
    bool whole = (c < 0 || c >= cells.channels) && missed == 0;
    bool tones = dips > DIPS * found + DIPS_SIGMA * sqrt(DIPS * (1 - DIPS) * found);
    bool many = filled >= LEAST_FILLED || (whole && filled > 1);
    return many && filled >= FILL * seen && swept >= SWEPT * reach && !tones;
}

// Block (x, y, z): 256 channels from start on, of track y, cut by side z. Threads mark the same cells and ask for
// other bits of them: all that one may write over another is what the other has written, too.
extern "C" __global__ void mark_cut(
    unsigned char* marks, int times, int channels, int step, int reach, int slack, int most, const bool* live,
    const long long* longest, const int* delays, int start, int stop)
{
    int c = start + blockIdx.x * blockDim.x + threadIdx.x, tracks = gridDim.y;
    const int *delay = delays + (long long)blockIdx.y * channels, *last = delays + (tracks - 1LL) * channels;
    Cells cells{marks, times, channels, (int)blockIdx.z};
    int inward = (last[channels - 1] >= last[0]) == (cells.side == 0) ? -1 : 1, beyond = c - inward;
    if (c >= stop || !live[c]) return;
    while (beyond >= 0 && beyond < channels && !live[beyond]) beyond -= inward;
    if (beyond < 0 || beyond >= channels) return;
    int begin = last_run(cells, c, times - step * abs(last[beyond] - last[c]) - slack, longest[c]);
    // In the next channel it would begin when the data have ended.
    if (begin >= 0 && begin + step * abs(delay[beyond] - delay[c]) + slack >= times &&
        follow(cells, step, reach, most, live, longest, delay, c, begin, inward, false))
        follow(cells, step, reach, most, live, longest, delay, c, begin, inward, true);
}
