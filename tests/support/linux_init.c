/* The one process of the Linux guest: it beats on its console and dirties memory that it can vouch for.
 *
 * The kernel hands unknown "name=value" words of its command line to init as environment variables:
 *   WORK_PAGES   pages that are written, one after the other, round and round (default 16384)
 *   RATE_PAGES   pages written per second (default 2000)
 *   BEAT_HZ      lines per second (default 100)
 *   SPOIL_AFTER  pages written until one is set back on purpose, to try the check (default: never)
 *
 * Each beat is one line, all numbers decimal:
 *   B <sequence> <CLOCK_MONOTONIC ns> <CLOCK_REALTIME ns> <pages written so far> <pages found wrong so far>
 *
 * The first and the last word of a page hold how often it was written. As pages are written in turn, that
 * is known for each page at any time without being stored: writes / pages, rounded up for those whose turn
 * of this round is over. A page that was lost on a move (stale) or arrived in part (torn) is found on its
 * next turn, counted, and put right. Between two beats nothing is written, so the guest sleeps.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/reboot.h>
#include <time.h>
#include <unistd.h>

enum { WORDS = 4096 / sizeof(uint64_t), NS_PER_S = 1000000000 };

static uint64_t setting(const char *name, uint64_t value)
{
    const char *text = getenv(name);
    return text ? strtoull(text, NULL, 10) : value;
}

static uint64_t now_ns(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

static void sleep_until_ns(uint64_t when)
{
    struct timespec t = { (time_t)(when / NS_PER_S), (long)(when % NS_PER_S) };
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) != 0) { }
}

/* Content that no zero-page detection and no compression makes small (xorshift64). */
static void fill(uint64_t *page, uint64_t index)
{
    uint64_t x = index * 0x9e3779b97f4a7c15u + 1;
    for (size_t i = 1; i < WORDS - 1; i++) {
        x ^= x << 13, x ^= x >> 7, x ^= x << 17;
        page[i] = x;
    }
}

int main(void)
{
    uint64_t pages = setting("WORK_PAGES", 16384), rate = setting("RATE_PAGES", 2000);
    uint64_t beat_hz = setting("BEAT_HZ", 100), spoil_after = setting("SPOIL_AFTER", UINT64_MAX);
    if (pages == 0 || beat_hz == 0 || beat_hz > 1000) {
        printf("E WORK_PAGES has to be at least 1, BEAT_HZ 1 to 1000\n");
        return reboot(RB_POWER_OFF);
    }
    uint64_t *memory = mmap(NULL, pages * 4096, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (memory == MAP_FAILED) {
        printf("E there is no memory for %llu pages\n", (unsigned long long)pages);
        return reboot(RB_POWER_OFF);
    }
    for (uint64_t i = 0; i < pages; i++)
        fill(memory + i * WORDS, i);

    uint64_t written = 0, wrong = 0, sequence = 0;
    uint64_t start = now_ns(CLOCK_MONOTONIC), next = start, owed_ns = 0;
    for (;; sequence++) {
        char line[128];
        int length = snprintf(line, sizeof line, "B %llu %llu %llu %llu %llu\n", (unsigned long long)sequence,
                              (unsigned long long)now_ns(CLOCK_MONOTONIC),
                              (unsigned long long)now_ns(CLOCK_REALTIME), (unsigned long long)written,
                              (unsigned long long)wrong);
        if (write(STDOUT_FILENO, line, (size_t)length) < 0)
            return reboot(RB_POWER_OFF);

        for (owed_ns += rate * (NS_PER_S / beat_hz); owed_ns >= NS_PER_S; owed_ns -= NS_PER_S) {
            volatile uint64_t *page = memory + (written % pages) * WORDS;
            uint64_t expected = written / pages;
            if (written == spoil_after)
                page[WORDS - 1]--;
            wrong += page[0] != expected || page[WORDS - 1] != expected;
            page[0] = page[WORDS - 1] = expected + 1;
            written++;
        }
        next += NS_PER_S / beat_hz;
        if (now_ns(CLOCK_MONOTONIC) > next) /* held up: beats that were missed are dropped, not made up for */
            next = now_ns(CLOCK_MONOTONIC);
        sleep_until_ns(next);
    }
}
