// Integrate cells to rows, and count good and flagged cells: CUDA version of ../../filterbank/integrate.py, with the
// same double-precision sums in the same order of time.

// Add a Stokes parameter of one cell. Products are paired as on the CPU. Factors are 0 or ± powers of two, so no bit
// depends on whether a product and a sum are fused.
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

// Grid: rows from first_row on, channels, Stokes parameters. One thread adds the cells of a row; neighbouring threads
// read neighbouring channels. The threads of the first parameter also count: integers, so their order does not matter.
// power is [time][channel][product], row_sum [stokes][row][channel]; each part of part_rows rows has its own counts.
extern "C" __global__ void integrate_rows(
    const float* __restrict__ power, const unsigned short* __restrict__ flags, const double* __restrict__ matrix,
    int rows, int cells, int part_rows, int channels, int products, int first, int last, int first_row, int bits,
    float* stokes, unsigned short* weight, double* row_sum, unsigned long long* good, unsigned long long* occupancy,
    unsigned long long* raised)
{
    int c = blockIdx.y * blockDim.x + threadIdx.x, row = first_row + blockIdx.x, plane = blockIdx.z;
    if (c >= channels) return;
    long long part = row / part_rows;
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
            bool counted_as_lowest = false;
            for (int bit = 0; bit < bits; bit++)
                if (flag >> bit & 1) {
                    long long to = (part * bits + bit) * channels + c;
                    atomicAdd(&raised[to], 1ULL);
                    if (!counted_as_lowest) atomicAdd(&occupancy[to], 1ULL);
                    counted_as_lowest = true;
                }
        }
    }
    long long to = (long long)row * channels + c, plane_size = (long long)rows * channels;
    stokes[plane * plane_size + to] = (float)(total / max(used, 1));
    row_sum[plane * plane_size + to] = total;
    if (plane == 0) {
        weight[to] = (unsigned short)used;
        if (counted) atomicAdd(&good[part * channels + c], (unsigned long long)counted);
    }
}

// Grid: parts from first_part on, channels, Stokes parameters. One thread adds the rows of a part in their order, and
// cell by cell the rows that lie only partly in [first, last). total is [part][stokes][channel].
extern "C" __global__ void integrate_total(
    const float* __restrict__ power, const unsigned short* __restrict__ flags, const double* __restrict__ matrix,
    const double* __restrict__ row_sum, int rows, int cells, int part_rows, int channels, int products, int first,
    int last, int first_part, double* total)
{
    int c = blockIdx.y * blockDim.x + threadIdx.x, part = first_part + blockIdx.x, plane = blockIdx.z;
    if (c >= channels) return;
    long long to = ((long long)part * gridDim.z + plane) * channels + c;
    double sum = total[to];
    for (int row = part * part_rows; row < min((part + 1) * part_rows, rows); row++)
        if (first <= row * cells && (row + 1) * cells <= last) {
            sum += row_sum[((long long)plane * rows + row) * channels + c];
        } else {
            for (int t = max(row * cells, first); t < min((row + 1) * cells, last); t++) {
                long long at = (long long)t * channels + c;
                if (flags[at] == 0) sum = add_cell(power + at * products, matrix + plane * products, products, sum);
            }
        }
    total[to] = sum;
}
