// Just enough of CUDA for a host compiler: blocks run one after the other, the threads of a block as fibers that change
// places at every barrier.
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <vector>

using std::isfinite;
using std::max;
using std::min;

struct Dim3 {
    int x, y, z;
};

struct float2 {
    float x, y;
};

static float2 make_float2(float x, float y) { return {x, y}; }

static Dim3 threadIdx, blockIdx, blockDim, gridDim;

#define __global__
#define __device__
#define __shared__ static
#define __restrict__

struct Fiber {
    ucontext_t context;
    std::vector<char> stack;
    bool done;
};

static ucontext_t scheduler;
static Fiber* running;
static const std::function<void()>* kernel;

static void __syncthreads() { swapcontext(&running->context, &scheduler); }

static float __int_as_float(int bits)
{
    float value;
    std::memcpy(&value, &bits, 4);
    return value;
}

static int __float_as_int(float value)
{
    int bits;
    std::memcpy(&bits, &value, 4);
    return bits;
}

static float __fmul_rn(float a, float b) { return a * b; }
static float __fadd_rn(float a, float b) { return a + b; }
static float __fsub_rn(float a, float b) { return a - b; }

template <class T>
static T atomicAdd(T* to, T value)
{
    T old = *to;
    *to += value;
    return old;
}

template <class T>
static T atomicOr(T* to, T value)
{
    T old = *to;
    *to |= value;
    return old;
}

template <class T>
static T atomicMin(T* to, T value)
{
    T old = *to;
    *to = min(old, value);
    return old;
}

template <class T>
static T atomicMax(T* to, T value)
{
    T old = *to;
    *to = max(old, value);
    return old;
}

static void begin()
{
    (*kernel)();
    running->done = true;
    swapcontext(&running->context, &scheduler);
}

static void run(const int* grid, const int* block, const std::function<void()>& body)
{
    kernel = &body;
    gridDim = {grid[0], grid[1], grid[2]};
    blockDim = {block[0], block[1], block[2]};
    std::vector<Fiber> fibers(block[0] * block[1] * block[2]);
    for (Fiber& fiber : fibers) fiber.stack.resize(1 << 16);
    for (long long number = 0; number < 1LL * grid[0] * grid[1] * grid[2]; number++) {
        blockIdx = {(int)(number % grid[0]), (int)(number / grid[0] % grid[1]), (int)(number / grid[0] / grid[1])};
        for (Fiber& fiber : fibers) {
            getcontext(&fiber.context);
            fiber.context.uc_stack.ss_sp = fiber.stack.data();
            fiber.context.uc_stack.ss_size = fiber.stack.size();
            makecontext(&fiber.context, begin, 0);
            fiber.done = false;
        }
        for (bool left = true; left;) {
            left = false;
            for (size_t i = 0; i < fibers.size(); i++) {
                if (fibers[i].done) continue;
                running = &fibers[i];
                threadIdx = {(int)i % block[0], (int)i / block[0] % block[1], (int)i / block[0] / block[1]};
                swapcontext(&scheduler, &running->context);
                left = left || !running->done;
            }
        }
    }
}
