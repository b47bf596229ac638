// Which memory a kernel may use, and whether its threads use it one after the other.
//
// Kernels are compiled as for the thread sanitizer, whose calls before each access end here: an access must be
// aligned and inside one allocation or shared variable, and if it writes, no other thread may use the same
// bytes without something between them: a barrier, a collective of both lanes, or for threads of two blocks
// an atomic operation of each, which is how the last block to arrive knows that it is.
//
// Time is a counter that every such event moves on. A cell, two bytes of memory, keeps time and thread of its
// last write and its last read, so an access needs only compare with the last event between both threads. Of
// several readers the cell says only whether they are of one warp. A write that leaves the bytes as they
// were is no race. Single bytes are not compared: cells are larger.
//
// Not seen: a barrier between an atomic operation and the other threads' accesses that is missing; more than
// one reader's block.
#include "runtime.h"

#include <algorithm>
#include <atomic>
#include <map>
#include <mutex>
#include <stdio.h>
#include <stdlib.h>

namespace emulated {

namespace {

// Between allocations, so that what is past the end of one is not inside another.
const size_t GAP_BYTES = 4096;
const unsigned SHARED_GAP_BYTES = 32;
// A NaN as float and as half float, and as a number far from all indices.
const unsigned short NOT_WRITTEN = 0x7fc1;

std::mutex registry_lock;
std::map<char *, std::shared_ptr<Region>> &registry() {
    static std::map<char *, std::shared_ptr<Region>> regions;
    return regions;
}
// So that the times of a launch are later than those of all before it.
std::atomic<uint64_t> last_time{1};

enum Kind { READ, WRITE, ATOMIC };

// A record of a cell: time, thread, and what kind of.
const uint64_t ONE = 0, ATOMICALLY = 1, LANES = 1, WARPS = 2;
uint64_t record(uint64_t kind) { return launch->now << 12 | launch->self->index << 2 | kind; }
uint64_t time_of(uint64_t record) { return record >> 12; }
unsigned thread_of(uint64_t record) { return record >> 2 & 1023; }

Begun &begun(uint64_t time) {
    auto after = std::upper_bound(launch->blocks.begin(), launch->blocks.end(), time,
                                  [](uint64_t time, const Begun &begun) { return time < begun.since; });
    return *(after - 1);
}

// Whether what happened then has an event between it and the thread at present.
// `since` is when the memory began: with the launch or, if it is shared, with the block.
bool is_before(uint64_t record, bool is_read, uint64_t since) {
    uint64_t time = time_of(record), kind = is_read ? record & 3 : ONE;
    if (time < since || (time >= launch->blocks.back().since && time < launch->last_barrier)) return true;
    if (time < launch->blocks.back().since)
        return launch->blocks.back().last_atomic && begun(time).last_atomic > time;
    unsigned self = launch->self->index, other = thread_of(record);
    if (kind == ONE && other == self) return true;
    return kind != WARPS && other / 32 == self / 32 && time < launch->last_collective[self / 32];
}

uint64_t with_reader(uint64_t before) {
    if (before == record(ONE)) return before;
    bool is_old = time_of(before) < std::max(launch->last_barrier, launch->blocks.back().since);
    unsigned self = launch->self->index, other = thread_of(before);
    if (is_old || ((before & 3) == ONE && other == self)) return record(ONE);
    return record((before & 3) != WARPS && other / 32 == self / 32 ? LANES : WARPS);
}

std::string place_of(const char *p, const Variable *variable, const Region *region) {
    if (variable) return "at byte " + std::to_string(p - launch->shared - variable->start) + " of " + variable->name;
    return "at byte " + std::to_string(p - region->start) + " of " + std::to_string(region->bytes) + " allocated";
}

std::string access(Kind kind, unsigned bytes) {
    const char *what = kind == READ ? "reads" : kind == WRITE ? "writes" : "changes";
    return std::string(what) + " " + std::to_string(bytes) + " bytes ";
}

std::string race(const std::string &what, uint64_t record, bool is_read) {
    uint64_t time = time_of(record);
    std::string other = "thread " + std::to_string(thread_of(record));
    if (time < launch->blocks.back().since) other += " of block " + text(begun(time).block);
    return what + ", which " + other + (is_read ? " read" : " wrote") + " with nothing between them";
}

[[noreturn]] void outside(Kind kind, const char *p, unsigned bytes) {
    std::string what = access(kind, bytes);
    if (p >= launch->shared && p < launch->shared + SHARED_BYTES) {
        const Variable *before = nullptr;
        for (const Variable &variable : launch->variables)
            if (launch->shared + variable.start <= p) before = &variable;
        fail(what + (before ? place_of(p, before, nullptr) + ", which has " + std::to_string(before->bytes)
                            : "of shared memory that is no variable's"));
    }
    const Region *before = nullptr;
    for (auto &region : launch->regions)
        if (region->start <= p) before = region.get();
    if (before && p - before->start < (ptrdiff_t)(before->bytes + GAP_BYTES))
        fail(what + place_of(p, nullptr, before));
    char address[32];
    snprintf(address, sizeof address, "%p", (const void *)p);
    fail(what + "at " + address + ", where no memory is");
}

const Variable *variable_at(const char *p, unsigned bytes) {
    unsigned start = p - launch->shared;
    for (const Variable &variable : launch->variables)
        if (variable.start <= start && start + bytes <= variable.start + variable.bytes) return &variable;
    return nullptr;
}

Region *region_at(const char *p, unsigned bytes) {
    Region *last = launch->last_region;
    if (!last || p < last->start || p >= last->start + last->bytes) {
        auto after = std::upper_bound(launch->regions.begin(), launch->regions.end(), p,
                                      [](const char *p, auto &region) { return p < region->start; });
        if (after == launch->regions.begin()) return nullptr;
        last = (after - 1)->get();
    }
    if (p + bytes > last->start + last->bytes) return nullptr;
    return launch->last_region = last;
}

void check(Kind kind, const void *address, unsigned bytes, bool is_aligned) {
    const char *p = (const char *)address;
    // A thread's own variables, or those of the lanes that it shuffles with.
    if ((size_t)(p - launch->stacks) < STACK_BYTES * MOST_THREADS) return;
    settle();
    if (is_aligned && (uintptr_t)p % bytes)
        fail(access(kind, bytes) + "at an address that is no multiple of as many");
    const Variable *variable = nullptr;
    Region *region = nullptr;
    Cell *cells;
    uint64_t since = launch->since;
    if ((size_t)(p - launch->shared) < SHARED_BYTES) {
        variable = variable_at(p, bytes);
        if (!variable) outside(kind, p, bytes);
        cells = launch->shared_cells + (p - launch->shared) / 2;
        since = launch->blocks.back().since;
    } else {
        const char *args = (const char *)launch->args;
        if (kind == READ && p >= args && p + bytes <= args + launch->kernel->args_bytes) return;
        region = region_at(p, bytes);
        if (!region) outside(kind, p, bytes);
        cells = region->cells.get() + (p - region->start) / 2;
    }
    if (bytes == 1) return;
    const uint64_t no_doubt = std::max(since, variable ? launch->last_barrier : 0);
    auto refuse = [&](uint64_t record, bool is_read) {
        std::string what = race(access(kind, bytes) + place_of(p, variable, region), record, is_read);
        if (kind != WRITE) fail(what);
        if (launch->doubt.start) return;
        launch->doubt.start = p;
        launch->doubt.bytes = bytes;
        launch->doubt.what = what;
        memcpy(launch->doubt.before, p, bytes);
    };
    for (unsigned i = 0; i < bytes / 2; i++) {
        Cell &cell = cells[i];
        if (time_of(cell.written) >= no_doubt) {
            bool both_atomic = kind == ATOMIC && cell.written & ATOMICALLY;
            if (!both_atomic && !is_before(cell.written, false, since)) refuse(cell.written, false);
        }
        if (kind == READ) {
            cell.read = with_reader(cell.read);
        } else {
            if (time_of(cell.read) >= no_doubt && !is_before(cell.read, true, since)) refuse(cell.read, true);
            cell.written = record(kind == ATOMIC ? ATOMICALLY : ONE);
        }
    }
}

void check_range(Kind kind, const void *address, size_t bytes) {
    const char *p = (const char *)address;
    while (bytes) {
        unsigned piece = bytes >= 16 ? 16 : bytes >= 2 ? 2 : 1;
        check(kind, p, piece, false);
        p += piece;
        bytes -= piece;
    }
}

} // namespace

void settle_doubt() {
    Doubt &doubt = launch->doubt;
    bool changed = memcmp(doubt.start, doubt.before, doubt.bytes);
    doubt.start = nullptr;
    if (changed) fail(doubt.what);
}

void launch_begins() {
    std::lock_guard<std::mutex> guard(registry_lock);
    launch->regions.clear();
    for (auto &region : registry()) launch->regions.push_back(region.second);
    launch->last_region = nullptr;
    launch->now = launch->since = last_time + 1;
    launch->blocks.clear();
    launch->doubt.start = nullptr;
}

void block_begins() {
    launch->blocks.push_back({++launch->now, 0, launch->block});
    launch->last_barrier = 0;
    memset(launch->last_collective, 0, sizeof launch->last_collective);
    launch->shared_used = 0;
    launch->variables.clear();
}

void barrier_opened() { launch->last_barrier = ++launch->now; }

void lanes_met(unsigned warp) { launch->last_collective[warp] = ++launch->now; }

void launch_ended() {
    uint64_t last = last_time;
    while (last < launch->now && !last_time.compare_exchange_weak(last, launch->now)) {}
    launch->regions.clear();
}

void before_atomic(const void *p, unsigned bytes) {
    check(ATOMIC, p, bytes, true);
    launch->blocks.back().last_atomic = ++launch->now;
}

void fence() { std::atomic_thread_fence(std::memory_order_seq_cst); }

void *shared(const void *key, const char *name, unsigned bytes) {
    for (const Variable &variable : launch->variables)
        if (variable.key == key) return launch->shared + variable.start;
    unsigned start = launch->shared_used;
    // On a GPU there are no gaps between variables.
    unsigned sum = bytes;
    for (const Variable &variable : launch->variables) sum += variable.bytes;
    if (sum > SHARED_BYTES) fail("shared variables need more than 48 KB, or nearly as much");
    launch->shared_used = start + (bytes + SHARED_GAP_BYTES + 15) / 16 * 16;
    char *memory = launch->shared + start;
    for (unsigned i = 0; i < bytes; i++) memory[i] = (char)(NOT_WRITTEN >> i % 2 * 8);
    launch->variables.push_back({key, name, start, bytes});
    return memory;
}

} // namespace emulated

// Zeros at a multiple of 256; null where there is no memory.
extern "C" void *dovetail_emulated_alloc(size_t bytes) {
    using namespace emulated;
    void *memory = nullptr;
    if (posix_memalign(&memory, 256, bytes + GAP_BYTES)) return nullptr;
    memset(memory, 0, bytes);
    Cell *cells = (Cell *)calloc(bytes / 2 + 1, sizeof(Cell));
    if (!cells) {
        free(memory);
        return nullptr;
    }
    std::shared_ptr<Region> region(new Region{(char *)memory, bytes, {cells, free}});
    std::lock_guard<std::mutex> guard(registry_lock);
    registry()[region->start] = region;
    return memory;
}

extern "C" void dovetail_emulated_free(void *memory) {
    {
        std::lock_guard<std::mutex> guard(emulated::registry_lock);
        emulated::registry().erase((char *)memory);
    }
    free(memory);
}

// The calls of the thread sanitizer.
#define ACCESS(BYTES)                                                                                   \
    extern "C" void __tsan_read##BYTES(void *p) { emulated::check(emulated::READ, p, BYTES, true); }    \
    extern "C" void __tsan_write##BYTES(void *p) { emulated::check(emulated::WRITE, p, BYTES, true); }  \
    extern "C" void __tsan_unaligned_read##BYTES(void *p) {                                             \
        emulated::check(emulated::READ, p, BYTES, false);                                               \
    }                                                                                                   \
    extern "C" void __tsan_unaligned_write##BYTES(void *p) {                                            \
        emulated::check(emulated::WRITE, p, BYTES, false);                                              \
    }
ACCESS(1)
ACCESS(2)
ACCESS(4)
ACCESS(8)
ACCESS(16)
extern "C" void __tsan_read_range(void *p, size_t bytes) { emulated::check_range(emulated::READ, p, bytes); }
extern "C" void __tsan_write_range(void *p, size_t bytes) { emulated::check_range(emulated::WRITE, p, bytes); }
extern "C" void __tsan_init() {}
extern "C" void __tsan_func_entry(void *) {}
extern "C" void __tsan_func_exit(void *) {}
