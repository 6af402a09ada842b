/* The workload guest: shared types. See README.md in this folder for the page layout and the protocol. */
#pragma once

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef u32 v4 __attribute__((vector_size(16)));

enum {
    PAGE_SHIFT = 12,
    PAGE_BYTES = 1 << PAGE_SHIFT,
    GROUP_SHIFT = 6, /* pages of one accumulator: 64 */
    GROUP_PAGES = 1 << GROUP_SHIFT,
    MAX_GROUPS = 16384, /* 4 GiB */
    GROUPS_PER_PAGE_SHIFT = 9, /* 4096 bytes / 8 */
    MAX_BOOKS = MAX_GROUPS >> GROUPS_PER_PAGE_SHIFT,
    MAX_CLASSES = 16,
    MAX_STEPS = 512, /* of all classes together */
    NAME_CHARS = 16,
    BODY_VECTORS = 253, /* 4048 bytes between header and trailer */
    TAUS = 15,
    FIRST_PAGE = 0x200000 >> PAGE_SHIFT, /* classes begin at 2 MiB; the program lies below */
    PROTOCOL = 1,
};

enum content { ZERO = 'z', CONSTANT = 'c', COMPRESSIBLE = 'p', RANDOM = 'r' };

/* The first 32 bytes of every page that carries proof. */
struct header {
    u32 magic;
    u32 page; /* address >> 12: a page that landed elsewhere is found */
    u32 version; /* writes since the fill */
    u32 seal; /* hash of the other fields */
    u64 time_us; /* guest clock of the last write, 0: only filled */
    u32 content;
    u32 zero;
};

/* The last 16 bytes: a page of which only a part arrived is found. */
struct trailer {
    u32 version;
    u32 page;
    u32 seal;
    u32 magic;
};

struct page {
    struct header head;
    v4 body[BODY_VECTORS];
    struct trailer tail;
};

/* What a group of 64 pages must add up to. */
struct group {
    u32 hash; /* sum of page_hash() over its pages */
    u32 writes; /* sum of their versions */
};

/* One step of a class's popularity: `pages` pages that share the draws up to `limit`. */
struct step {
    u32 start;
    u32 pages;
    u32 limit; /* inclusive, of a uniform 32-bit draw */
};

/* What a class is; fixed after boot. */
struct class {
    char name[NAME_CHARS];
    u32 first; /* page number */
    u32 pages;
    u32 rate_mpps; /* thousandths of a page per second, while on */
    u32 lag_us_per_kwrite; /* 1024 writes are due every so many microseconds */
    u32 backlog_pages; /* more than this behind: the rest is dropped */
    u32 period_us; /* 0: always on */
    u32 on_us;
    u32 shift_us;
    u32 stride; /* rank -> page: rank * stride mod pages; coprime with pages */
    struct step *steps; /* none: sequential sweep */
    u32 step_count;
    u32 touch; /* vectors of the body rewritten by a write */
    u32 seed;
    enum content content;
    u8 bare; /* wholly zero and never written: carries no header */
};

/* What a class does; lies in the state page. */
struct progress {
    u64 writes;
    u64 dropped;
    u64 last_us;
    u64 credit; /* in 1e-9 pages */
    u32 due; /* pages owed now */
    u32 phase_us;
    u32 cursor; /* sweep */
    u32 rng[4];
};

struct config {
    u32 beat_hz;
    u32 seed;
    u32 check_pps; /* pages per second of the continuous check */
    u32 classes;
    u32 writers; /* classes that write at all */
    u32 first; /* first page of the first class */
    u32 pages; /* of all classes together */
    u32 ram_end; /* page number behind the usable memory */
    struct class class[MAX_CLASSES];
};

/* A walk over all pages, checking each and each group's sums. */
struct check {
    u32 next; /* page number */
    u32 class;
    u32 hash; /* of the pages of this group before `next` */
    u32 writes;
    u32 torn;
    u32 stale; /* groups */
    u32 first_bad; /* page number, 0: none */
    u64 credit; /* in 1e-6 pages */
    u64 last_us;
    u64 started_us;
    u32 asked; /* number of the verification under way, 0: none */
    u32 answered; /* a result waits to be sent */
    u32 flags;
    u32 took_us;
};

/* A walk over all headers, counting the pages written in the last tau before `at_us`. */
struct survey {
    u32 active;
    u32 next;
    u32 class;
    u32 line; /* next line to send */
    u32 id;
    u64 at_us;
    u32 count[MAX_CLASSES + 1][TAUS];
};

struct line {
    char text[256];
    u32 length;
    u32 sent;
    u8 sum_a, sum_b;
};

/* All that changes all the time: two pages with the stack, dirtied by every turn of the loop. */
struct state {
    u64 writes;
    u64 dropped;
    u64 checked;
    u64 next_beat_us;
    u64 last_poll_us;
    u32 hash; /* sum of all groups' hashes */
    u32 beats;
    u32 bad;
    u32 rewound;
    u32 lag_us;
    u32 banner_line; /* next line to send, 0: none */
    u32 command; /* 'x': its second letter is awaited */
    u32 verifications;
    u64 started_us; /* when the filling was done and the writing began */
    struct check check;
    struct line line;
    struct progress progress[MAX_CLASSES];
    u64 book_us[MAX_BOOKS]; /* last write of each page of accumulators */
};

extern struct config config;
extern struct state state;
extern struct survey survey;
extern struct group group[MAX_GROUPS];
extern const u32 tau_us[TAUS];

/* config.c */
void configure(const char *command_line, u32 ram_end);
/* clock.c */
void clock_start(void);
u64 clock_us(void);
u32 clock_khz(void);
/* sleep.c */
void sleep_start(void);
void sleep_us(u64 us);
/* serial.c */
void serial_start(void);
int serial_idle(void);
void serial_pump(void);
int serial_read(void);
void line_begin(char kind);
void line_text(const char *text);
void line_field(u64 value);
void line_end(void);
__attribute__((noreturn)) void fail(const char *message);
/* pages.c */
void pages_fill(void);
void page_write(u32 class_index, u32 index, u64 now_us);
int page_check(const struct class *c, u32 number, u32 *version);
u32 page_hash(u32 number, u32 version);
void page_tear(u32 class_index, u32 index);
void page_age(u32 class_index, u32 index);
/* verify.c */
void check_begin(void);
void check_page(u64 now_us);
void check_anchor(void);
void survey_begin(u64 now_us);
void survey_run(u32 pages);
void survey_note(u32 class_index, u32 number, u64 written_us);
/* schedule.c */
void schedule_start(u64 now_us);
int schedule_run(u64 now_us);

static inline void out8(u16 port, u8 value) { __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port)); }

static inline u8 in8(u16 port)
{
    u8 value;
    __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

static inline u64 rdtsc(void)
{
    u32 lo, hi;
    __asm__ volatile("rdtsc" : "=a"(lo), "=d"(hi));
    return (u64)hi << 32 | lo;
}

/* 64 / 32 -> 64; no libgcc here. */
static inline u64 divide(u64 a, u32 b, u32 *rest)
{
    u32 high = (u32)(a >> 32), low = (u32)a, q_high = high / b, r = high % b, q_low;
    __asm__("divl %4" : "=a"(q_low), "=d"(r) : "0"(low), "1"(r), "rm"(b));
    if (rest)
        *rest = r;
    return (u64)q_high << 32 | q_low;
}

/* A bijective 32-bit mix: the finaliser of MurmurHash3. */
static inline u32 mix(u32 x)
{
    x ^= x >> 16;
    x *= 0x85ebca6bu;
    x ^= x >> 13;
    x *= 0xc2b2ae35u;
    return x ^ x >> 16;
}

/*
 * The anchor: writes, hash and beats once more, in a vCPU register that no other code uses. Registers move
 * with the device state and not with the RAM: RAM that went back as a whole, to a state that is consistent
 * in itself, disagrees with them.
 */
static inline void anchor_add(u32 writes, u32 hash, u32 beats)
{
    v4 delta = {writes, hash, beats, 0};
    __asm__ volatile("paddd %0, %%xmm7" : : "x"(delta));
}

static inline v4 anchor_read(void)
{
    v4 value;
    __asm__ volatile("movdqa %%xmm7, %0" : "=x"(value));
    return value;
}

static inline void anchor_set(v4 value) { __asm__ volatile("movdqa %0, %%xmm7" : : "x"(value)); }
