// What the parts of the emulator share.
#pragma once
#include "emulated.h"

#include <memory>
#include <string>
#include <vector>

namespace emulated {

const size_t STACK_BYTES = 128 << 10;
const unsigned MOST_THREADS = 1024;
const unsigned SHARED_BYTES = 48 << 10; // static shared memory of a block, on every GPU

enum State { RUNS, WAITS_FOR_LANES, WAITS_FOR_BLOCK, DONE };

struct Thread {
    unsigned index;
    State state;
    void *stack;
    // Where it waits, or waited last.
    Site site;
    unsigned mask;
    void *mine;
};

// Two bytes of memory: who wrote and who read them last. See memory.cpp.
struct Cell {
    uint64_t written, read;
};

// Memory that kernels may use.
struct Region {
    char *start;
    size_t bytes;
    std::unique_ptr<Cell, void (*)(void *)> cells;
};

// A shared variable.
struct Variable {
    const void *key;
    const char *name;
    unsigned start, bytes;
};

// A block of this launch that has begun.
struct Begun {
    uint64_t since, last_atomic;
    uint3 block;
};

// A write that is a race if it changes anything.
struct Doubt {
    const char *start = nullptr;
    unsigned bytes;
    char before[16];
    std::string what;
};

struct Launch {
    const Kernel *kernel;
    const void *args;
    uint3 grid, block;
    unsigned n_threads, order;
    uint64_t random;
    std::vector<Thread> threads;
    std::vector<unsigned> turns; // the order in which threads get their turn
    Thread *self;
    unsigned n_live;
    void *scheduler;
    char *stacks;
    bool failed;
    std::string error;

    alignas(256) char shared[SHARED_BYTES];
    Cell shared_cells[SHARED_BYTES / 2];
    unsigned shared_used;
    std::vector<Variable> variables;

    std::vector<std::shared_ptr<Region>> regions; // by address
    Region *last_region;
    uint64_t now, since; // see memory.cpp
    std::vector<Begun> blocks;
    uint64_t last_barrier;
    uint64_t last_collective[MOST_THREADS / 32];
    Doubt doubt;
};

extern __thread Launch *launch;

// Ends the launch with an error. Does not return to the thread.
[[noreturn]] void fail(std::string what);
std::string text(Site site);
std::string text(uint3 block);

// What memory has to know of a launch.
void launch_begins();
void block_begins();
void barrier_opened();
void lanes_met(unsigned warp);
void launch_ended();
// A thread goes on, or stops: what it wrote last is there.
void settle_doubt();
static inline void settle() {
    if (launch->doubt.start) settle_doubt();
}

} // namespace emulated
