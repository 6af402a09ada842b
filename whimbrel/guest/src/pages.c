/* Pages: what they hold, how they are written, how they are checked. */
#include "guest.h"

enum { MAGIC = 0x6d696877 /* "whim" */, TAIL_MAGIC = 0x6c657262 /* "brel" */ };

struct group group[MAX_GROUPS] __attribute__((aligned(PAGE_BYTES)));

static struct page *page_at(u32 number) { return (struct page *)(number << PAGE_SHIFT); }

/* What a page adds to its group's sum. */
u32 page_hash(u32 number, u32 version)
{
    return mix(number * 0x9e3779b1u ^ mix(version * 0x85ebca77u + 0x27d4eb2fu));
}

static u32 seal(u32 number, u32 version, u64 time_us)
{
    return mix(page_hash(number, version) ^ (u32)time_us * 0x165667b1u ^ (u32)(time_us >> 32));
}

/*
 * The body is a function of (seed, page, version): four Weyl sequences side by side, from a start that is
 * a hash of the three. Additions alone, because they must keep up with a link under emulation; no general
 * compressor finds anything in them (see the tests).
 */
static const v4 weyl_step = {0x9e3779b1u, 0x85ebca77u, 0xc2b2ae3du, 0x27d4eb2fu};

static v4 weyl_at(u32 seed, u32 number, u32 version, u32 vector)
{
    u32 s = mix(seed ^ page_hash(number, version));
    return (v4){s, mix(s + 1), mix(s + 2), mix(s + 3)} + weyl_step * vector;
}

static const v4 constant = {0x6c6c6c6cu, 0x6c6c6c6cu, 0x6c6c6c6cu, 0x6c6c6c6cu};

static void put_same(v4 *body, u32 from, u32 to, v4 value)
{
    for (u32 i = from; i < to; i++)
        body[i] = value;
}

static void put_random(v4 *body, u32 from, u32 to, v4 x)
{
#pragma GCC unroll 11
    for (u32 i = from; i < to; i++) {
        body[i] = x;
        x += weyl_step;
    }
}

/* Every fourth vector is random, the others repeat: compresses to about a quarter. */
static void put_compressible(v4 *body, u32 from, u32 to, v4 x)
{
    for (u32 i = from; i < to; i++) {
        body[i] = i & 3 ? constant : x;
        x += weyl_step;
    }
}

/* Body vectors [from, to) of this version. */
static void put_body(const struct class *c, struct page *p, u32 number, u32 version, u32 from, u32 to)
{
    v4 x = weyl_at(c->seed, number, version, from);
    switch (c->content) {
    case ZERO: put_same(p->body, from, to, (v4){0, 0, 0, 0}); break;
    case CONSTANT: put_same(p->body, from, to, constant); break;
    case COMPRESSIBLE: put_compressible(p->body, from, to, x); break;
    case RANDOM: put_random(p->body, from, to, x); break;
    }
}

static int body_is(const struct class *c, const struct page *p, u32 number, u32 version, u32 from, u32 to)
{
    v4 x = weyl_at(c->seed, number, version, from), wrong = {0, 0, 0, 0}, zero = {0, 0, 0, 0};
    switch (c->content) {
    case ZERO:
#pragma GCC unroll 11
        for (u32 i = from; i < to; i++)
            wrong |= p->body[i];
        break;
    case CONSTANT:
#pragma GCC unroll 11
        for (u32 i = from; i < to; i++)
            wrong |= p->body[i] ^ constant;
        break;
    case COMPRESSIBLE:
        for (u32 i = from; i < to; i++) {
            wrong |= p->body[i] ^ (i & 3 ? constant : x);
            x += weyl_step;
        }
        break;
    case RANDOM:
#pragma GCC unroll 11
        for (u32 i = from; i < to; i++) {
            wrong |= p->body[i] ^ x;
            x += weyl_step;
        }
        break;
    }
    v4 same = wrong == zero;
    return same[0] & same[1] & same[2] & same[3] & 1;
}

/* The whole of a page at a version. With touch < all, the rest of the body stays as filled. */
static void put_page(const struct class *c, u32 number, u32 version, u64 time_us)
{
    struct page *p = page_at(number);
    u32 s = seal(number, version, time_us);
    p->head = (struct header){MAGIC, number, version, s, time_us, c->content, 0};
    put_body(c, p, number, version, 0, version ? c->touch : BODY_VECTORS);
    p->tail = (struct trailer){version, number, s, TAIL_MAGIC};
}

static int frame_is_whole(const struct class *c, const struct page *p, u32 number)
{
    const struct header *h = &p->head;
    const struct trailer *t = &p->tail;
    u32 s = seal(number, h->version, h->time_us);
    return h->magic == MAGIC && h->page == number && h->seal == s && h->content == (u32)c->content && !h->zero &&
           t->version == h->version && t->page == number && t->seal == s && t->magic == TAIL_MAGIC;
}

static int is_all_zero(const struct page *p)
{
    const v4 *w = (const v4 *)p;
    v4 any = {0, 0, 0, 0};
#pragma GCC unroll 8
    for (u32 i = 0; i < PAGE_BYTES / sizeof *w; i++)
        any |= w[i];
    return !(any[0] | any[1] | any[2] | any[3]);
}

/* True if the page is one whole version of itself; which one is for the group's sum to judge. */
int page_check(const struct class *c, u32 number, u32 *version)
{
    const struct page *p = page_at(number);
    if (c->bare) {
        *version = 0;
        return is_all_zero(p);
    }
    u32 v = *version = p->head.version, touched = v ? c->touch : 0;
    return frame_is_whole(c, p, number) && body_is(c, p, number, v, 0, touched) &&
           (touched == BODY_VECTORS || body_is(c, p, number, 0, touched, BODY_VECTORS));
}

void page_write(u32 class_index, u32 index, u64 now_us)
{
    const struct class *c = &config.class[class_index];
    u32 number = c->first + index;
    struct page *p = page_at(number);
    u32 old = p->head.version;
    if (!frame_is_whole(c, p, number)) { /* it is about to be overwritten: the last chance to see it */
        state.bad++;
        state.check.torn++;
        if (!state.check.first_bad)
            state.check.first_bad = number;
    }
    survey_note(class_index, number, p->head.time_us);
    put_page(c, number, old + 1, now_us);

    u32 delta = page_hash(number, old + 1) - page_hash(number, old), g = (number - config.first) >> GROUP_SHIFT;
    group[g].hash += delta;
    group[g].writes++;
    state.book_us[g >> GROUPS_PER_PAGE_SHIFT] = now_us;
    if (number < state.check.next && g == (state.check.next - config.first) >> GROUP_SHIFT) {
        state.check.hash += delta; /* behind the cursor, in the group that is being summed */
        state.check.writes++;
    }
    state.writes++;
    state.progress[class_index].writes++;
    state.hash += delta;
    anchor_add(1, delta, 0);
}

/* The firmware leaves things behind; but a page that is zero already is not touched, and takes no host memory. */
static void put_zero(struct page *p)
{
    if (!is_all_zero(p))
        put_same((v4 *)p, 0, PAGE_BYTES / sizeof(v4), (v4){0, 0, 0, 0});
}

void pages_fill(void)
{
    for (u32 i = 0; i < config.classes; i++) {
        const struct class *c = &config.class[i];
        for (u32 n = c->first; n < c->first + c->pages; n++) {
            if (c->bare) {
                put_zero(page_at(n));
                continue;
            }
            put_page(c, n, 0, 0);
            u32 h = page_hash(n, 0);
            group[(n - config.first) >> GROUP_SHIFT].hash += h;
            state.hash += h;
        }
    }
    anchor_add(0, state.hash, 0);
}

/* Self-test: half of the body becomes that of another version. */
void page_tear(u32 class_index, u32 index)
{
    const struct class *c = &config.class[class_index];
    struct page *p = page_at(c->first + index);
    for (u32 i = BODY_VECTORS / 2; i < BODY_VECTORS; i++)
        p->body[i] += (v4){1, 1, 1, 1};
}

/* Self-test: the page becomes what it was one write ago, whole and consistent in itself. */
void page_age(u32 class_index, u32 index)
{
    const struct class *c = &config.class[class_index];
    u32 number = c->first + index;
    struct header *h = &page_at(number)->head;
    put_page(c, number, h->version - 1, h->time_us);
}
