/* The walks over all pages: checking them, and counting what was dirtied. Both go on beside the writes. */
#include "guest.h"

/* Results of a verification, as bits. */
enum { WRITES_DIFFER = 1, HASH_DIFFERS = 2, ANCHOR_DIFFERS = 4 };

struct survey survey;

const u32 tau_us[TAUS] = {1000,   2000,   5000,    10000,   20000,   50000,    100000,  200000,
                          500000, 1000000, 2000000, 5000000, 10000000, 20000000, 50000000};

static void note_bad(u32 number)
{
    state.bad++;
    if (!state.check.first_bad)
        state.check.first_bad = number;
}

/* True if the registers and the RAM tell of the same writes and beats; if not, says so once. */
static int anchor_holds(void)
{
    v4 a = anchor_read();
    return a[0] == (u32)state.writes && a[1] == state.hash && a[2] == state.beats;
}

void check_anchor(void)
{
    if (anchor_holds())
        return;
    state.rewound++;
    state.bad++;
    anchor_set((v4){(u32)state.writes, state.hash, state.beats, 0});
}

static void walk_from_start(void)
{
    struct check *k = &state.check;
    k->next = config.first;
    k->class = 0;
    k->hash = k->writes = 0;
}

/* Starts a verification: every page, from the first. One under way is begun anew under the new number. */
void check_begin(void)
{
    struct check *k = &state.check;
    if (!config.pages)
        return;
    walk_from_start();
    k->torn = k->stale = k->first_bad = 0;
    k->started_us = clock_us();
    k->asked = ++state.verifications;
    k->answered = 0;
}

/* The sums of the sums, all read at one instant. */
static u32 totals(void)
{
    u32 writes = 0, hash = 0, flags = 0;
    for (u32 g = 0; g <= (config.pages - 1) >> GROUP_SHIFT; g++) {
        writes += group[g].writes;
        hash += group[g].hash;
    }
    if (writes != (u32)state.writes)
        flags |= WRITES_DIFFER;
    if (hash != state.hash)
        flags |= HASH_DIFFERS;
    if (state.rewound || !anchor_holds())
        flags |= ANCHOR_DIFFERS;
    return flags;
}

static void finish_walk(u64 now_us)
{
    struct check *k = &state.check;
    if (k->asked && !k->answered) {
        k->flags = totals();
        k->took_us = (u32)(now_us - k->started_us);
        k->answered = 1;
    }
    walk_from_start();
}

static void finish_group(u32 last_page)
{
    struct check *k = &state.check;
    const struct group *g = &group[(last_page - config.first) >> GROUP_SHIFT];
    if (k->hash != g->hash || k->writes != g->writes) {
        k->stale++;
        note_bad(last_page & ~(u32)(GROUP_PAGES - 1)); /* config.first is a multiple of 64 */
    }
    k->hash = k->writes = 0;
}

/* Checks the next page; at the end of a group its sums, at the end of the walk the totals. */
void check_page(u64 now_us)
{
    struct check *k = &state.check;
    const struct class *c = &config.class[k->class];
    u32 number = k->next++, version;
    if (!page_check(c, number, &version)) {
        k->torn++;
        note_bad(number);
    }
    if (!c->bare) {
        k->hash += page_hash(number, version);
        k->writes += version;
    }
    state.checked++;
    u32 end = config.first + config.pages;
    if (k->next == end || !((k->next - config.first) & (GROUP_PAGES - 1)))
        finish_group(number);
    if (k->next == end)
        finish_walk(now_us);
    else if (k->next == c->first + c->pages)
        k->class++;
}

/* --- the survey: how many distinct pages were dirtied in the last tau before one instant --- */

static void count(u32 row, u64 written_us)
{
    for (u32 i = 0; i < TAUS; i++)
        if (written_us + tau_us[i] > survey.at_us)
            survey.count[row][i]++;
}

void survey_begin(u64 now_us)
{
    if (survey.active)
        return;
    u32 id = survey.id + 1;
    survey = (struct survey){.active = 1, .next = config.first, .id = id, .at_us = now_us};
    u32 books = config.pages ? ((config.pages - 1) >> (GROUP_SHIFT + GROUPS_PER_PAGE_SHIFT)) + 1 : 0;
    for (u32 i = 0; i < books; i++)
        if (state.book_us[i])
            count(config.classes, state.book_us[i]);
}

/* Before a write: a page that the walk has still to reach is counted by the time that it loses now. */
void survey_note(u32 class_index, u32 number, u64 written_us)
{
    if (survey.active && number >= survey.next && written_us && written_us <= survey.at_us)
        count(class_index, written_us);
}

void survey_run(u32 pages)
{
    u32 end = config.first + config.pages;
    for (; pages && survey.next < end; pages--) {
        const struct class *c = &config.class[survey.class];
        if (survey.next == c->first + c->pages) {
            survey.class++;
            continue;
        }
        if (!c->rate_mpps) { /* never written */
            survey.next = c->first + c->pages;
            continue;
        }
        u64 t = ((const struct header *)(survey.next << PAGE_SHIFT))->time_us;
        survey.next++;
        if (t && t <= survey.at_us)
            count(survey.class, t);
    }
    if (survey.next >= end && !survey.line)
        survey.line = 1;
}
