// Answers the host's doorbell with its own, so many times: the least time of a message and its answer, for
// measuring. It spins, which a drafter never does, and ends by itself when the host is silent for long.
//
// Grid: one thread. Written: the words `taken` and `answer`, with the number that `call` has come to.
#include "common.cuh"

struct Echo {
    const u32 *call;  // words that the host sees
    u32 *taken;
    u32 *answer;
    u32 first;        // the number before the first one that is answered
    u32 times;
    u32 patience;     // looks at `call` before it gives up
    u32 unused;
};

extern "C" __global__ void echo(Echo a) {
    if (threadIdx.x != 0) return;
    for (u32 i = a.first + 1; i <= a.first + a.times; i++) {
        u32 looks = 0;
        while ((i32)(load_word(a.call) - i) < 0)
            if (++looks == a.patience) return;
        store_word(a.taken, i);
        store_word(a.answer, i);
    }
}
