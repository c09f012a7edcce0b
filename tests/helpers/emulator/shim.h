// The part of CUDA that the kernels use, for a host compiler. Blocks run one after the other; the threads of a block are
// fibers that are switched at every barrier. Whatever CUDA leaves undefined is made unfavourable: blocks, and threads
// between two barriers, run in an irregular order, shared memory holds garbage at the start of a block, and all threads
// of a block must reach the same barrier.
#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <deque>
#include <functional>
#include <numeric>
#include <random>
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
#define __shared__ static __attribute__((section("shared_memory")))
#define __restrict__
#define inline static  // otherwise shared memory of inline functions would be in a section of another kind

extern "C" __attribute__((weak, visibility("hidden"))) char __start_shared_memory, __stop_shared_memory;
constexpr int MAX_SHARED = 48 << 10;  // bytes of a block without a special launch

// A fiber is started with a context; jumps switch between fibers, because they need no system call.
struct Fiber {
    ucontext_t context;
    jmp_buf resume_point;
    std::vector<char> stack = std::vector<char>(1 << 16);
    bool started = false, done = false;
    int line = 0;  // of the barrier at which it waits
};

static jmp_buf scheduler;
static Fiber* running;
static const std::function<void()>* kernel;

static void wait_at(int line)
{
    running->line = line;
    if (!_setjmp(running->resume_point)) _longjmp(scheduler, 1);
}

#define __syncthreads() wait_at(__LINE__)

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

static void fiber_main()
{
    for (;;) {
        (*kernel)();
        running->done = true;
        wait_at(0);
    }
}

static void resume(Fiber& fiber)
{
    running = &fiber;
    if (_setjmp(scheduler)) return;
    if (fiber.started) _longjmp(fiber.resume_point, 1);
    fiber.started = true;
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack.data();
    fiber.context.uc_stack.ss_size = fiber.stack.size();
    makecontext(&fiber.context, fiber_main, 0);
    setcontext(&fiber.context);
}

// Run the threads of a block up to their next barrier, in the given order; return whether there was one.
static bool advance(std::deque<Fiber>& fibers, const std::vector<int>& order, size_t from, bool backwards)
{
    int waiting = 0, line = 0;
    bool ended = false;
    for (size_t n = 0; n < order.size(); n++) {
        int i = order[(from + (backwards ? order.size() - n : n)) % order.size()];
        if (!fibers[i].done) {
            threadIdx = {i % blockDim.x, i / blockDim.x % blockDim.y, i / blockDim.x / blockDim.y};
            resume(fibers[i]);
        }
        ended = ended || fibers[i].done;
        if (fibers[i].done) continue;
        if (waiting && line != fibers[i].line) throw "threads of a block wait at different barriers";
        waiting++;
        line = fibers[i].line;
    }
    if (waiting && ended) throw "threads have ended while others of their block wait for them";
    return waiting;
}

// Run a kernel; return an error message or null.
static const char* run(const int* grid, const int* block, const std::function<void()>& body)
{
    static std::deque<Fiber> fibers;
    kernel = &body;
    gridDim = {grid[0], grid[1], grid[2]};
    blockDim = {block[0], block[1], block[2]};
    size_t threads = block[0] * block[1] * block[2], shared = &__stop_shared_memory - &__start_shared_memory;
    if (shared > MAX_SHARED) return "the kernels of a source have more shared memory than a block may have";
    while (fibers.size() < threads) fibers.emplace_back();
    std::mt19937 random;  // the same numbers in every launch
    std::vector<int> order(threads);
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), random);
    long long blocks = 1LL * grid[0] * grid[1] * grid[2], step = blocks / 2 + 1;
    while (std::gcd(step, blocks) != 1) step++;
    for (long long n = 0; n < blocks; n++) {
        long long number = n * step % blocks;
        blockIdx = {(int)(number % grid[0]), (int)(number / grid[0] % grid[1]), (int)(number / grid[0] / grid[1])};
        if (shared) std::memset(&__start_shared_memory, 0xa5, shared);
        for (size_t i = 0; i < threads; i++) fibers[i].done = false;
        try {
            while (advance(fibers, order, random() % threads, random() % 2)) {}
        } catch (const char* fault) {
            fibers.clear();
            return fault;
        }
    }
    return nullptr;
}
