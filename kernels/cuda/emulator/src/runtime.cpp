// Runs a launch: blocks one after the other, the threads of a block as fibers that take turns.
//
// A fiber runs until it has to wait. When none can go on, all that have not returned must stand at the same
// barrier, which then opens; anything else is an error. A collective is completed by the lane that comes
// last, which moves the values of all: nobody has gone on that could have overwritten one.
#include "runtime.h"

#include <algorithm>
#include <stdio.h>
#include <sys/mman.h>

extern "C" void dovetail_switch(void **from, void *to);

namespace emulated {

// Tables of the files, the last one empty; written by build.rs.
struct File {
    const Kernel *kernels;
    uint32_t n;
};
extern const File files[];

__thread Launch *launch;

namespace {

const uint64_t STACK_END = 0x646e655f6b636174;

// One launch at a time in an OS thread; the stacks stay for the next one.
struct Owner {
    std::unique_ptr<Launch> launch;
    ~Owner() {
        if (launch && launch->stacks) munmap(launch->stacks, STACK_BYTES * MOST_THREADS);
    }
};
thread_local Owner owner;

bool same(const char *a, const char *b) { return a == b || !strcmp(a, b); }
bool same(Site a, Site b) { return a.line == b.line && same(a.what, b.what) && same(a.file, b.file); }

uint64_t next_random() {
    // splitmix64
    uint64_t z = launch->random += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

template <class T> void shuffle_turns(std::vector<T> &turns) {
    for (size_t i = turns.size(); i > 1; i--) std::swap(turns[i - 1], turns[next_random() % i]);
}

void set_error(std::string what) {
    if (launch->failed) return;
    launch->failed = true;
    launch->error = std::string(launch->kernel->name) + ", block " + text(launch->block) + ": " + what;
}

void leave() { dovetail_switch(&launch->self->stack, launch->scheduler); }

void wait(Site site, State state) {
    settle();
    launch->self->site = site;
    launch->self->state = state;
    leave();
}

void start() {
    launch->kernel->run(launch->args);
    settle();
    launch->self->state = DONE;
    launch->n_live--;
    leave();
    __builtin_trap();
}

char *stack_of(unsigned i) { return launch->stacks + STACK_BYTES * i; }

void prepare(unsigned i) {
    Thread &thread = launch->threads[i];
    thread.index = i;
    thread.state = RUNS;
    thread.site = {nullptr, nullptr, 0};
    memcpy(stack_of(i), &STACK_END, sizeof STACK_END);
    // Stacks begin at different places of a page, or they would share a few sets of the cache.
    char *top = stack_of(i) + STACK_BYTES - 64 - i % 32 * 128;
#if defined(__x86_64__)
    void **words = (void **)top - 8; // six registers, where to go, and its return address
    memset(words, 0, 8 * sizeof *words);
    words[6] = (void *)start;
    thread.stack = words;
#elif defined(__aarch64__)
    void **words = (void **)top - 20;
    memset(words, 0, 20 * sizeof *words);
    words[1] = (void *)start;
    thread.stack = words;
#endif
}

std::string who_waits() {
    std::vector<std::pair<Site, unsigned>> sites;
    unsigned returned = 0;
    for (const Thread &thread : launch->threads) {
        if (thread.state == DONE) {
            returned++;
            continue;
        }
        auto here = std::find_if(sites.begin(), sites.end(), [&](auto &s) { return same(s.first, thread.site); });
        if (here == sites.end()) sites.push_back({thread.site, 1});
        else here->second++;
    }
    std::string who;
    for (auto &site : sites) who += std::to_string(site.second) + " at " + text(site.first) + ", ";
    return who + std::to_string(returned) + " returned";
}

// Opens the barrier; false where not all stand at it.
bool open_barrier() {
    const Thread *first = nullptr;
    for (const Thread &thread : launch->threads) {
        if (thread.state == DONE) continue;
        if (!first) first = &thread;
        if (thread.state != WAITS_FOR_BLOCK || !same(thread.site, first->site)) return false;
    }
    for (Thread &thread : launch->threads)
        if (thread.state == WAITS_FOR_BLOCK) thread.state = RUNS;
    barrier_opened();
    return true;
}

bool run_block() {
    block_begins();
    launch->n_live = launch->n_threads;
    for (unsigned i = 0; i < launch->n_threads; i++) prepare(i);
    while (launch->n_live > 0) {
        if (launch->order) shuffle_turns(launch->turns);
        bool ran = false;
        for (unsigned i : launch->turns) {
            Thread &thread = launch->threads[i];
            if (thread.state != RUNS) continue;
            ran = true;
            launch->self = &thread;
            dovetail_switch(&launch->scheduler, thread.stack);
            if (launch->failed) return false;
        }
        if (!ran && !open_barrier()) {
            set_error("threads wait for each other: " + who_waits());
            return false;
        }
    }
    for (unsigned i = 0; i < launch->n_threads; i++) {
        if (memcmp(stack_of(i), &STACK_END, sizeof STACK_END)) {
            set_error("a thread's local variables do not fit its stack");
            return false;
        }
    }
    return true;
}

const Kernel *find(const char *name) {
    for (const File *file = files; file->kernels; file++)
        for (uint32_t i = 0; i < file->n; i++)
            if (!strcmp(file->kernels[i].name, name)) return &file->kernels[i];
    return nullptr;
}

// What is wrong with a launch.
std::string check(const Kernel *kernel, const char *name, uint3 grid, unsigned threads, size_t args_bytes) {
    if (!kernel) return std::string("there is no kernel ") + name;
    std::string of = std::string(name) + ": ";
    if (args_bytes != kernel->args_bytes)
        return of + "its argument has " + std::to_string(kernel->args_bytes) + " bytes, not " +
               std::to_string(args_bytes);
    if (threads == 0 || threads % 32 || threads > MOST_THREADS)
        return of + std::to_string(threads) + " threads are not whole warps, at most 1024 threads";
    if (kernel->most_threads && threads > kernel->most_threads)
        return of + std::to_string(threads) + " threads, where its launch bounds are " +
               std::to_string(kernel->most_threads);
    if (grid.x == 0 || grid.y == 0 || grid.y > 65535 || grid.x > 0x7fffffff)
        return of + "a grid of " + std::to_string(grid.x) + " × " + std::to_string(grid.y) + " blocks";
    return "";
}

std::string run(const Kernel *kernel, uint3 grid, unsigned threads, const void *args, unsigned order) {
    if (!owner.launch) {
        owner.launch.reset(new Launch());
        void *stacks = mmap(nullptr, STACK_BYTES * MOST_THREADS, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (stacks == MAP_FAILED) {
            owner.launch.reset();
            return "no memory for its threads' stacks";
        }
        owner.launch->stacks = (char *)stacks;
    }
    launch = owner.launch.get();
    launch->kernel = kernel;
    launch->args = args;
    launch->grid = grid;
    launch->n_threads = threads;
    launch->order = order;
    launch->random = order;
    launch->failed = false;
    launch->threads.resize(threads);
    launch->turns.resize(threads);
    for (unsigned i = 0; i < threads; i++) launch->turns[i] = i;
    std::vector<uint3> blocks;
    for (unsigned y = 0; y < grid.y; y++)
        for (unsigned x = 0; x < grid.x; x++) blocks.push_back({x, y, 0});
    if (order) shuffle_turns(blocks);
    launch->error.clear();
    launch_begins();
    for (uint3 block : blocks) {
        launch->block = block;
        if (!run_block()) break;
    }
    launch_ended();
    return launch->error;
}

} // namespace

std::string text(Site site) {
    const char *name = strrchr(site.file, '/');
    return std::string(site.what) + " (" + (name ? name + 1 : site.file) + ":" + std::to_string(site.line) + ")";
}

std::string text(uint3 block) { return "(" + std::to_string(block.x) + ", " + std::to_string(block.y) + ")"; }

void fail(std::string what) {
    const Thread &self = *launch->self;
    set_error("thread " + std::to_string(self.index) + " " + what + (self.site.what ? ", after " + text(self.site) : ""));
    leave();
    __builtin_trap();
}

void no_such_lane() { fail("shuffles with a lane that is not in its mask"); }

unsigned thread_x() { return launch->self->index; }
unsigned block_x() { return launch->block.x; }
unsigned block_y() { return launch->block.y; }
unsigned block_dim() { return launch->n_threads; }
unsigned grid_x() { return launch->grid.x; }
unsigned grid_y() { return launch->grid.y; }

void barrier(Site site) { wait(site, WAITS_FOR_BLOCK); }

void collective(Site site, unsigned mask, void *mine, void (*exchange)(void **lanes, unsigned mask)) {
    settle();
    Thread *self = launch->self;
    unsigned lane = self->index % 32;
    Thread *warp = self - lane;
    self->site = site;
    self->mask = mask;
    self->mine = mine;
    if (!(mask >> lane & 1)) fail("is not in its own mask");
    void *lanes[32] = {};
    lanes[lane] = mine;
    // From the next lane on, who is the likeliest to be missing.
    for (unsigned i = (lane + 1) % 32; i != lane; i = (i + 1) % 32) {
        if (!(mask >> i & 1)) continue;
        const Thread &other = warp[i];
        if (other.state != WAITS_FOR_LANES || other.mask != mask || !same(other.site, site)) {
            wait(site, WAITS_FOR_LANES);
            return;
        }
        lanes[i] = other.mine;
    }
    exchange(lanes, mask);
    for (unsigned i = 0; i < 32; i++)
        if (mask >> i & 1) warp[i].state = RUNS;
    lanes_met(self->index / 32);
}

// The order of a lane's values in the fragments stands in `common.cuh`.
void multiply(void **lanes, unsigned) {
    float a[16][16], b[16][8], c[16][8];
    for (int lane = 0; lane < 32; lane++) {
        const Fragments &of = *(const Fragments *)lanes[lane];
        int g = lane / 4, t = lane % 4;
        for (int i = 0; i < 4; i++) {
            int row = g + i % 2 * 8, column = 2 * t + i / 2 * 8;
            a[row][column] = f16_to_float(of.a[i] & 0xffff);
            a[row][column + 1] = f16_to_float(of.a[i] >> 16);
            c[g + i / 2 * 8][2 * t + i % 2] = of.c[i];
        }
        for (int i = 0; i < 2; i++) {
            b[2 * t + i * 8][g] = f16_to_float(of.b[i] & 0xffff);
            b[2 * t + i * 8 + 1][g] = f16_to_float(of.b[i] >> 16);
        }
    }
    // Products are exact; sums go up in k.
    for (int row = 0; row < 16; row++)
        for (int k = 0; k < 16; k++)
            for (int column = 0; column < 8; column++) c[row][column] += a[row][k] * b[k][column];
    for (int lane = 0; lane < 32; lane++) {
        const Fragments &of = *(const Fragments *)lanes[lane];
        for (int i = 0; i < 4; i++) of.c[i] = c[lane / 4 + i / 2 * 8][2 * (lane % 4) + i % 2];
    }
}

} // namespace emulated

// Checks a launch, and runs it if there are arguments. 0, or 1 and a message.
extern "C" int dovetail_emulated_launch(const char *name, const uint32_t grid[2], uint32_t threads, const void *args,
                                        size_t args_bytes, uint32_t order, char *message, size_t message_bytes) {
    uint3 blocks = {grid[0], grid[1], 1};
    const emulated::Kernel *kernel = emulated::find(name);
    std::string error = emulated::check(kernel, name, blocks, threads, args_bytes);
    if (error.empty() && args) error = emulated::run(kernel, blocks, threads, args, order);
    snprintf(message, message_bytes, "%s", error.c_str());
    return !error.empty();
}
