// Statistics of the nodes of a baseline, and its removal: CUDA version of ../../search/baseline.py.

constexpr float MAX_FINITE = 3e38f;  // larger values count as infinite

struct Row {
    float cells, offset;
    bool valid;
};

__device__ inline Row row_at(
    const float* power, const unsigned short* weight, int t, int channels, int c, float reference)
{
    long long at = (long long)t * channels + c;
    float w = weight[at], offset = power[at] - reference;
    bool valid = offset < MAX_FINITE && offset > -MAX_FINITE && w > 0.0f;
    return {valid ? w : 0.0f, valid ? offset : 0.0f, valid};
}

// One thread a node and channel: threads of a warp read neighbouring channels. out is [4][node][channel].
extern "C" __global__ void node_statistics(
    const float* power, const unsigned short* weight, const long long* edges, int group_rows, int nodes, int channels,
    float* out)
{
    int c = blockIdx.x * blockDim.x + threadIdx.x, n = blockIdx.y;
    if (c >= channels) return;
    int start = (int)edges[n], stop = (int)edges[n + 1];
    float reference = 0.0f, cells = 0.0f, weighted = 0.0f;
    for (int t = start; t < min(start + group_rows, stop); t++) {
        Row row = row_at(power, weight, t, channels, c, 0.0f);
        cells += row.cells;
        weighted += row.cells * row.offset;
    }
    reference = cells > 0.0f ? weighted / cells : 0.0f;
    double total = 0.0, first = 0.0, second = 0.0, group_second = 0.0;
    int rows = 0, groups = 0;
    for (int begin = start; begin < stop; begin += group_rows) {
        float group_cells = 0.0f, group_first = 0.0f, square = 0.0f;
        for (int t = begin; t < min(begin + group_rows, stop); t++) {
            Row row = row_at(power, weight, t, channels, c, reference);
            float part = row.cells * row.offset;
            group_cells += row.cells;
            group_first += part;
            square += part * row.offset;
            rows += row.valid;
        }
        if (group_cells > 0.0f) {
            total += group_cells;
            first += group_first;
            second += square;
            group_second += (double)group_first * group_first / group_cells;
            groups++;
        }
    }
    double mean = total > 0.0 ? first / total : 0.0;
    long long at = (long long)n * channels + c, plane = (long long)nodes * channels;
    out[at] = (float)total;
    out[plane + at] = (float)(mean + reference);
    out[2 * plane + at] = rows > 1 ? (float)(max(second - first * mean, 0.0) / (rows - 1)) : 0.0f;
    out[3 * plane + at] = groups > 1 ? (float)(max(group_second - first * mean, 0.0) / (groups - 1)) : 0.0f;
}

// One thread a row and channel; rows [start, stop).
extern "C" __global__ void subtract_baseline(
    const float* power, const float* level, int nodes, const float* position, int start, int channels, float* out)
{
    int c = blockIdx.x * blockDim.x + threadIdx.x, t = start + blockIdx.y;
    if (c >= channels) return;
    int node = min((int)position[t], nodes - 2);
    float later = position[t] - (float)node, earlier = 1.0f - later;
    const float* at = level + (long long)node * channels + c;
    long long cell = (long long)t * channels + c;
    out[cell] = power[cell] - (earlier * at[0] + later * at[channels]);
}
