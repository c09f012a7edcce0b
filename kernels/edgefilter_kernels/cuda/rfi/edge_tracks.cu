// Sweeps that an end of the data cuts: CUDA version of ../../rfi/edge_tracks.py. Times are counted from the end that
// cuts: side 0 is the end of the data, 1 its start.

constexpr unsigned char IN_RUN = 1 | 128, DISPERSED = 16, KURTOSIS_DIP = 32;
constexpr double MAX_DIP_FRACTION = 0.2, MAX_DIP_SIGMA = 3.0, MIN_FILL = 0.75;
constexpr int MIN_FILLED = 8, MAX_MISSED = 2, MIN_SWEEP = 4;

struct Cells {
    unsigned char* marks;
    int times, channels, side;

    __device__ unsigned char& at(int t, int c) const
    {
        return marks[(long long)(side ? times - 1 - t : t) * channels + c];
    }
    __device__ bool run(int t, int c) const { return t >= 0 && t < times && at(t, c) & IN_RUN; }
};

// Returns where a channel's last run begins, if it lasts to since or later; otherwise -1.
__device__ inline int last_run(const Cells& cells, int c, int since, long long longest)
{
    int at = cells.times - 1;
    while (at >= since && !cells.run(at, c)) at--;
    if (at < max(since, 0)) return -1;
    int last = at;
    while (last - at < longest && cells.run(at - 1, c)) at--;
    return last - at < longest ? at : -1;
}

// Returns whether a run of at most longest begins within tolerance of at, and where it begins and ends.
__device__ inline bool run_near(
    const Cells& cells, int c, int at, int tolerance, long long longest, int& first, int& stop)
{
    for (first = max(at - tolerance, 0); first < min(at + tolerance + 1, cells.times); first++)
        if (cells.run(first, c) && !cells.run(first - 1, c)) {
            for (stop = first + 1; stop - first <= longest && cells.run(stop, c);) stop++;
            if (stop - first <= longest) return true;
        }
    return false;
}

// Follows a track from the channel that the end cuts; marks the runs on it, or returns whether they are a sweep's.
__device__ bool follow_track(
    const Cells& cells, int step, int tolerance, int max_channels, const bool* live, const long long* longest,
    const int* delay, int c0, int begin, int direction, bool mark)
{
    int seen = 0, filled = 0, n_checked = 0, missed = 0, swept = 0, found = 0, dips = 0, c = c0;
    for (; c >= 0 && c < cells.channels && n_checked < max_channels && missed <= MAX_MISSED; c += direction) {
        if (!live[c]) continue;
        int lag = step * abs(delay[c] - delay[c0]);
        int first, stop;
        n_checked++;
        missed++;
        if (!run_near(cells, c, begin - lag, tolerance, longest[c], first, stop)) continue;
        missed = 0;
        filled++;
        seen = n_checked;
        swept = lag;
        for (int t = first; t < stop; t++) {
            found++;
            dips += (cells.at(t, c) & KURTOSIS_DIP) != 0;
            if (mark) cells.at(t, c) |= DISPERSED;
        }
    }
    bool whole = (c < 0 || c >= cells.channels) && missed == 0;
    double sigma = sqrt(MAX_DIP_FRACTION * (1 - MAX_DIP_FRACTION) * found);
    bool tones = dips > MAX_DIP_FRACTION * found + MAX_DIP_SIGMA * sigma;
    bool many = filled >= MIN_FILLED || (whole && filled > 1);
    return many && filled >= MIN_FILL * seen && swept >= MIN_SWEEP * tolerance && !tones;
}

// Block (x, y, z): 256 channels from start on, of track y, cut by side z. Threads set the same bit in the same
// cells and read other bits of them, so that all write the same value.
extern "C" __global__ void mark_edge_tracks(
    unsigned char* marks, int times, int channels, int step, int tolerance, int slack, int max_channels,
    const bool* live, const long long* longest, const int* delays, int start, int stop)
{
    int c = start + blockIdx.x * blockDim.x + threadIdx.x, tracks = gridDim.y;
    const int *delay = delays + (long long)blockIdx.y * channels, *last = delays + (tracks - 1LL) * channels;
    Cells cells{marks, times, channels, (int)blockIdx.z};
    int direction = (last[channels - 1] >= last[0]) == (cells.side == 0) ? -1 : 1, neighbour = c - direction;
    if (c >= stop || !live[c]) return;
    while (neighbour >= 0 && neighbour < channels && !live[neighbour]) neighbour -= direction;
    if (neighbour < 0 || neighbour >= channels) return;
    int begin = last_run(cells, c, times - step * abs(last[neighbour] - last[c]) - slack, longest[c]);
    // The track is cut here if, in the next channel, it begins after the end of the data.
    if (begin >= 0 && begin + step * abs(delay[neighbour] - delay[c]) + slack >= times &&
        follow_track(cells, step, tolerance, max_channels, live, longest, delay, c, begin, direction, false))
        follow_track(cells, step, tolerance, max_channels, live, longest, delay, c, begin, direction, true);
}
