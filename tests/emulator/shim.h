// Just enough of CUDA for a host compiler: blocks run one after the other, the threads of a block as fibers that change
// places at every barrier.
#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <deque>
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

// Contexts begin a fiber; jumps change places, because they ask the system for nothing.
struct Fiber {
    ucontext_t context;
    jmp_buf place;
    std::vector<char> stack = std::vector<char>(1 << 16);
    bool started = false, done = false;
};

static jmp_buf scheduler;
static Fiber* running;
static const std::function<void()>* kernel;

static void __syncthreads()
{
    if (!_setjmp(running->place)) _longjmp(scheduler, 1);
}

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
    for (;;) {
        (*kernel)();
        running->done = true;
        __syncthreads();
    }
}

static void go_on(Fiber& fiber)
{
    running = &fiber;
    if (_setjmp(scheduler)) return;
    if (fiber.started) _longjmp(fiber.place, 1);
    fiber.started = true;
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack.data();
    fiber.context.uc_stack.ss_size = fiber.stack.size();
    makecontext(&fiber.context, begin, 0);
    setcontext(&fiber.context);
}

static void run(const int* grid, const int* block, const std::function<void()>& body)
{
    static std::deque<Fiber> fibers;
    kernel = &body;
    gridDim = {grid[0], grid[1], grid[2]};
    blockDim = {block[0], block[1], block[2]};
    size_t threads = block[0] * block[1] * block[2];
    while (fibers.size() < threads) fibers.emplace_back();
    for (long long number = 0; number < 1LL * grid[0] * grid[1] * grid[2]; number++) {
        blockIdx = {(int)(number % grid[0]), (int)(number / grid[0] % grid[1]), (int)(number / grid[0] / grid[1])};
        for (size_t i = 0; i < threads; i++) fibers[i].done = false;
        for (bool left = true; left;) {
            left = false;
            for (size_t i = 0; i < threads; i++) {
                if (fibers[i].done) continue;
                threadIdx = {(int)i % block[0], (int)i / block[0] % block[1], (int)i / block[0] / block[1]};
                go_on(fibers[i]);
                left = left || !fibers[i].done;
            }
        }
    }
}
