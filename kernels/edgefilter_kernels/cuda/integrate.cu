// Cells to rows, and what became of every cell: the twin of ../integrate.py, with the same double-precision sums in the
// same order of time.

// A Stokes parameter of one cell. Products are paired as they are on the CPU.
__device__ double add_cell(const float* power, const double* factors, int products, double total)
{
    if (products == 1) return total + factors[0] * power[0];
    if (products == 2) return total + (factors[0] * power[0] + factors[1] * power[1]);
    if (products == 4)
        return total + ((factors[0] * power[0] + factors[1] * power[1]) + (factors[2] * power[2] + factors[3] * power[3]));
    for (int p = 0; p < products; p++)
        if (factors[p] != 0.0) total += factors[p] * power[p];
    return total;
}

// Grid: rows, channels [start, stop), Stokes parameters; one thread adds the cells of a row, and neighbours read
// neighbouring channels. The threads of the first parameter also count: integers, so their order does not matter.
// power is [time][channel][product], row_sum [stokes][row][channel].
extern "C" __global__ void integrate_rows(
    const float* __restrict__ power, const unsigned short* __restrict__ flags, const double* __restrict__ matrix,
    int cells, int channels, int products, int first, int last, int start, int stop, int bits, float* stokes,
    unsigned short* weight, double* row_sum, unsigned long long* good, unsigned long long* occupancy,
    unsigned long long* raised)
{
    int c = start + blockIdx.y * blockDim.x + threadIdx.x, row = blockIdx.x, plane = blockIdx.z;
    if (c >= stop) return;
    double total = 0.0;
    int used = 0, counted = 0;
    for (int t = row * cells; t < (row + 1) * cells; t++) {
        long long at = (long long)t * channels + c;
        unsigned short flag = flags[at];
        bool inside = first <= t && t < last;
        if (flag == 0) {
            total = add_cell(power + at * products, matrix + plane * products, products, total);
            used++;
            counted += inside;
        } else if (inside && plane == 0) {
            bool booked = false;
            for (int bit = 0; bit < bits; bit++)
                if (flag >> bit & 1) {
                    atomicAdd(&raised[(long long)bit * channels + c], 1ULL);
                    if (!booked) atomicAdd(&occupancy[(long long)bit * channels + c], 1ULL);
                    booked = true;
                }
        }
    }
    long long to = (long long)row * channels + c, plane_size = (long long)gridDim.x * channels;
    stokes[plane * plane_size + to] = (float)(total / max(used, 1));
    row_sum[plane * plane_size + to] = total;
    if (plane == 0) {
        weight[to] = (unsigned short)used;
        if (counted) atomicAdd(&good[c], (unsigned long long)counted);
    }
}

// Grid: channels [start, stop), Stokes parameters; one thread adds the rows of a channel in their order, and the cells
// of rows that are counted in part.
extern "C" __global__ void integrate_total(
    const float* __restrict__ power, const unsigned short* __restrict__ flags, const double* __restrict__ matrix,
    const double* __restrict__ row_sum, int rows, int cells, int channels, int products, int first, int last, int start,
    int stop, double* total)
{
    int c = start + blockIdx.x * blockDim.x + threadIdx.x, plane = blockIdx.y;
    if (c >= stop) return;
    double sum = total[plane * channels + c];
    for (int row = 0; row < rows; row++)
        if (first <= row * cells && (row + 1) * cells <= last) {
            sum += row_sum[((long long)plane * rows + row) * channels + c];
        } else {
            for (int t = max(row * cells, first); t < min((row + 1) * cells, last); t++) {
                long long at = (long long)t * channels + c;
                if (flags[at] == 0) sum = add_cell(power + at * products, matrix + plane * products, products, sum);
            }
        }
    total[plane * channels + c] = sum;
}
