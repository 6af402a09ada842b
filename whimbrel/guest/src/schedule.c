/* When pages are written, and which. */
#include "guest.h"

enum { UNIT = 1000000000 /* credit of one page: milli-pages/s times microseconds */, BATCH = 16 };

/* Marsaglia's xorshift128: period 2^128 - 1, the same on every machine. */
static u32 draw(u32 s[4])
{
    u32 t = s[3];
    t ^= t << 11;
    t ^= t >> 8;
    s[3] = s[2];
    s[2] = s[1];
    s[1] = s[0];
    return s[0] = t ^ s[0] ^ s[0] >> 19;
}

/* Uniform in [0, n), exactly: Lemire's multiplication, redrawn where it would favour some. */
static u32 draw_below(u32 s[4], u32 n)
{
    u64 m = (u64)draw(s) * n;
    if ((u32)m < n)
        for (u32 floor = -n % n; (u32)m < floor;)
            m = (u64)draw(s) * n;
    return (u32)(m >> 32);
}

static u32 choose(const struct class *c, struct progress *p)
{
    if (!c->steps) {
        u32 index = p->cursor;
        p->cursor = index + 1 == c->pages ? 0 : index + 1;
        return index;
    }
    const struct step *s = c->steps;
    if (c->step_count > 1) {
        u32 u = draw(p->rng);
        while (u > s->limit)
            s++;
    }
    u32 rank = s->start + draw_below(p->rng, s->pages), index;
    divide((u64)rank * c->stride, c->pages, &index);
    return index;
}

/* Microseconds of [last, now) in which the class is on. */
static u64 time_on(const struct class *c, struct progress *p, u64 now_us)
{
    u64 left = now_us - p->last_us, on = 0;
    p->last_us = now_us;
    if (!c->period_us)
        return left;
    while (left) {
        u32 is_on = p->phase_us < c->on_us, boundary = is_on ? c->on_us : c->period_us;
        u64 step = boundary - p->phase_us;
        if (step > left)
            step = left;
        if (is_on)
            on += step;
        left -= step;
        p->phase_us += (u32)step;
        if (p->phase_us == c->period_us)
            p->phase_us = 0;
    }
    return on;
}

/*
 * Owes what the rate asks for, exactly. What is more than 20 ms behind is dropped and counted, not made up
 * for in a burst: a guest that was held up does not write faster afterwards.
 */
static void advance(const struct class *c, struct progress *p, u64 now_us)
{
    p->credit += time_on(c, p, now_us) * c->rate_mpps;
    if (p->credit >= UNIT) {
        u32 rest;
        u64 due = p->due + divide(p->credit, UNIT, &rest);
        p->credit = rest;
        if (due > c->backlog_pages) {
            p->dropped += due - c->backlog_pages;
            state.dropped += due - c->backlog_pages;
            due = c->backlog_pages;
        }
        p->due = (u32)due;
    }
    if (p->due > 1) {
        u32 lag_us = (u32)((u64)(p->due - 1) * c->lag_us_per_kwrite >> 10);
        if (lag_us > state.lag_us)
            state.lag_us = lag_us;
    }
}

void schedule_start(u64 now_us)
{
    for (u32 i = 0; i < config.classes; i++) {
        struct progress *p = &state.progress[i];
        p->last_us = now_us;
        if (config.class[i].period_us)
            divide(config.class[i].shift_us, config.class[i].period_us, &p->phase_us);
        for (u32 k = 0; k < 4; k++)
            p->rng[k] = mix(config.class[i].seed + 0x9e3779b1u * (k + 1)) | 1;
    }
}

/* Writes what is due, a batch of each class at most; true if more is due already. */
int schedule_run(u64 now_us)
{
    u32 more = 0;
    for (u32 i = 0; i < config.classes; i++) {
        const struct class *c = &config.class[i];
        struct progress *p = &state.progress[i];
        if (!c->rate_mpps)
            continue;
        advance(c, p, now_us);
        for (u32 n = 0; n < BATCH && p->due; n++, p->due--)
            page_write(i, choose(c, p), now_us);
        more |= p->due;
    }
    return more != 0;
}
