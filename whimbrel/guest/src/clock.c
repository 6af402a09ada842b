/* Guest time in microseconds: the time-stamp counter, calibrated once against the 8254 timer. */
#include "guest.h"

enum { PIT_HZ = 1193182, CALIBRATION_US = 30000 };

static u64 origin;
static u32 us_per_tick; /* times 2^32 */
static u32 khz;

struct instant {
    u64 tsc;
    u32 pit; /* counts down */
};

/* The tightest of a few paired readings: a host that takes the CPU away in between spoils only one. */
static struct instant read_both(void)
{
    struct instant best = {0, 0};
    u64 narrowest = ~0ull;
    for (int i = 0; i < 16; i++) {
        u64 before = rdtsc();
        out8(0x43, 0x00); /* latch channel 0 */
        u64 after = rdtsc();
        u32 count = in8(0x40);
        count |= (u32)in8(0x40) << 8;
        if (after - before < narrowest) {
            narrowest = after - before;
            best = (struct instant){before + (after - before) / 2, count};
        }
    }
    return best;
}

void clock_start(void)
{
    out8(0x43, 0x34); /* channel 0, mode 2, free-running over 65536 ticks = 54.9 ms */
    out8(0x40, 0);
    out8(0x40, 0);
    struct instant a = read_both(), b;
    u32 ticks;
    do {
        b = read_both();
        ticks = (a.pit - b.pit) & 0xffff;
    } while (ticks < (u32)((u64)PIT_HZ * CALIBRATION_US / 1000000));
    /* hz = cycles * PIT_HZ / ticks; us_per_tick = 2^32 * 1e6 / hz */
    u64 hz = divide((b.tsc - a.tsc) * PIT_HZ, ticks, 0);
    khz = (u32)divide(hz, 1000, 0);
    if (khz < 1000)
        fail("the time-stamp counter does not count");
    us_per_tick = (u32)divide(1000ull << 32, khz, 0);
    origin = b.tsc;
}

u64 clock_us(void)
{
    u64 t = rdtsc() - origin;
    return (t >> 32) * us_per_tick + (((t & 0xffffffff) * us_per_tick) >> 32);
}

u32 clock_khz(void) { return khz; }
