/* Entry, the loop, and what is said on the serial line. */
#include "guest.h"

enum {
    LOADED_BY_MULTIBOOT = 0x2badb002,
    HAS_COMMAND_LINE = 1 << 2,
    HAS_MEMORY_MAP = 1 << 6,
    USABLE = 1,
    COMMAND_LINE_CHARS = 8192,
    POLL_US = 4000, /* how often the serial line is asked for commands */
    BLOCKED_US = 1000, /* the host does not read: ask again this much later */
    CHECK_UNIT = 1000000,
    WRITE_US = 500, /* writes come in bunches this far apart: the timer is armed 2000 times a second at most */
};

struct multiboot_info {
    u32 flags, mem_lower, mem_upper, boot_device, command_line, mods_count, mods_addr, syms[4];
    u32 map_length, map_address;
};

struct multiboot_map {
    u32 size; /* of the rest */
    u64 base, length;
    u32 type;
} __attribute__((packed));

struct state state __attribute__((section(".hot.state,\"aw\",@nobits#"), aligned(64)));
extern char hot_begin[], hot_end[];

/* --- lines --- */

static void beat(u64 now_us)
{
    state.beats++;
    anchor_add(0, 0, 1);
    check_anchor();
    line_begin('H');
    line_field(state.beats);
    line_field(now_us);
    line_field(state.writes);
    line_field(state.lag_us);
    line_field(state.dropped);
    line_field(state.checked);
    line_field(state.bad);
    line_end();
    state.lag_us = 0;
    u32 period_us = 1000000 / config.beat_hz;
    state.next_beat_us += period_us;
    if (state.next_beat_us <= now_us) { /* late by more than a period: no burst, but in step with the old beat */
        u32 over;
        divide(now_us - state.next_beat_us, period_us, &over);
        state.next_beat_us = now_us + period_us - over;
    }
}

static void say_configuration(void)
{
    line_begin('B');
    line_field(PROTOCOL);
    line_field(config.ram_end);
    line_field(config.first);
    line_field(config.pages);
    line_field(config.classes);
    line_field(config.beat_hz);
    line_field(config.seed);
    line_field(config.check_pps);
    line_field((u32)(hot_end - hot_begin) >> PAGE_SHIFT);
    line_field(clock_khz());
    line_field(state.started_us);
    line_end();
}

static void say_class(u32 i)
{
    const struct class *c = &config.class[i];
    const char content[2] = {(char)c->content, 0};
    line_begin('C');
    line_field(i);
    line_text(c->name);
    line_field(c->first);
    line_field(c->pages);
    line_field(c->rate_mpps);
    line_text(content);
    line_field(c->touch);
    line_field(c->period_us);
    line_field(c->on_us);
    line_field(c->shift_us);
    line_field(c->step_count);
    line_field(state.progress[i].writes);
    line_field(state.progress[i].dropped);
    line_end();
}

static void say_verification(void)
{
    const struct check *k = &state.check;
    line_begin('V');
    line_field(k->asked);
    line_field(config.pages);
    line_field(k->torn);
    line_field(k->stale);
    line_field(k->flags);
    line_field(state.rewound);
    line_field(state.bad);
    line_field(k->first_bad);
    line_field(state.writes);
    line_field(k->took_us);
    line_end();
}

static void say_survey(u32 row)
{
    line_begin('D');
    line_field(survey.id);
    line_field(survey.at_us);
    line_field(row);
    for (u32 i = 0; i < TAUS; i++)
        line_field(survey.count[row][i]);
    line_end();
}

/* One of the lines that wait, if the last one is on its way. Beats go first. */
static void say_next(void)
{
    if (!serial_idle())
        return;
    if (state.banner_line) {
        if (state.banner_line == 1)
            say_configuration();
        else
            say_class(state.banner_line - 2);
        state.banner_line = state.banner_line > config.classes ? 0 : state.banner_line + 1;
    } else if (state.check.answered) {
        say_verification();
        state.check.answered = state.check.asked = 0;
    } else if (survey.line) {
        say_survey(survey.line - 1);
        if (survey.line++ > config.classes)
            survey.line = survey.active = 0;
    }
}

/* --- commands --- */

/* The self-tests: damage of one kind each, which the checks must find. In the first class that writes. */
static void spoil(int kind, u64 now_us)
{
    if (kind == 'e')
        __asm__ volatile("ud2"); /* must be reported, not end in a silent reset */
    u32 i = 0, index;
    while (i < config.classes && !config.class[i].rate_mpps)
        i++;
    if (i == config.classes)
        return;
    index = config.class[i].pages / 2;
    if (kind == 't') {
        page_tear(i, index);
    } else if (kind == 's') {
        page_write(i, index, now_us);
        page_age(i, index);
    } else if (kind == 'a') { /* the accumulators lose a write, the page has it */
        page_write(i, index, now_us);
        group[(config.class[i].first + index - config.first) >> GROUP_SHIFT].writes--;
    } else if (kind == 'g') { /* the counters in RAM fall behind those in the registers */
        state.beats -= 10;
    }
}

static void obey(u64 now_us)
{
    int c = serial_read();
    if (c < 0)
        return;
    if (state.command == 'x')
        spoil(c, now_us);
    else if (c == 'v')
        check_begin();
    else if (c == 'd')
        survey_begin(now_us);
    else if (c == 'i')
        state.banner_line = 1;
    state.command = state.command == 'x' ? 0 : (u32)c;
}

/* --- the loop --- */

static void check_run(u64 now_us)
{
    enum { SLICE = 8 };
    struct check *k = &state.check;
    u32 pages;
    if (!config.pages)
        return;
    if (k->asked) {
        pages = k->answered ? 0 : SLICE;
    } else {
        k->credit += (now_us - k->last_us) * config.check_pps;
        if (k->credit > (u64)SLICE * CHECK_UNIT)
            k->credit = (u64)SLICE * CHECK_UNIT;
        pages = (u32)k->credit / CHECK_UNIT;
        k->credit -= (u64)pages * CHECK_UNIT;
    }
    k->last_us = now_us;
    while (pages--)
        check_page(now_us);
}

/* Sleeps until something is due, if nothing is under way. */
static void rest(void)
{
    int walking = (state.check.asked && !state.check.answered) || (survey.active && !survey.line);
    int telling = serial_idle() && (state.check.answered || survey.line || state.banner_line);
    if (walking || telling)
        return;
    u64 now_us = clock_us(), until_us = state.last_poll_us + POLL_US;
    if (!serial_idle())
        until_us = now_us + BLOCKED_US;
    else if (until_us > state.next_beat_us)
        until_us = state.next_beat_us;
    if (config.writers && until_us > now_us + WRITE_US)
        until_us = now_us + WRITE_US;
    if (until_us > now_us)
        sleep_us(until_us - now_us);
}

__attribute__((noreturn)) static void run(void)
{
    u64 now_us = clock_us();
    state.banner_line = 1;
    state.started_us = now_us;
    state.next_beat_us = state.last_poll_us = state.check.last_us = now_us;
    state.check.next = config.first;
    schedule_start(now_us);
    for (;;) {
        now_us = clock_us();
        if (now_us >= state.next_beat_us && serial_idle())
            beat(now_us);
        int busy = schedule_run(now_us);
        if (now_us - state.last_poll_us >= POLL_US) {
            state.last_poll_us = now_us;
            obey(now_us);
        }
        check_run(now_us);
        if (survey.active && !survey.line)
            survey_run(64);
        serial_pump();
        say_next();
        if (!busy)
            rest();
    }
}

/* The page number behind the usable memory in which the classes begin. */
static u32 find_ram_end(const struct multiboot_info *info)
{
    u64 base = (u64)FIRST_PAGE << PAGE_SHIFT;
    if (!(info->flags & HAS_MEMORY_MAP))
        fail("the boot loader gave no memory map");
    for (u32 at = info->map_address; at < info->map_address + info->map_length;) {
        const struct multiboot_map *m = (const struct multiboot_map *)at;
        if (m->type == USABLE && m->base <= base && m->base + m->length > base)
            return (u32)((m->base + m->length) >> PAGE_SHIFT);
        at += m->size + sizeof m->size;
    }
    return FIRST_PAGE;
}

__attribute__((noreturn)) void guest_main(u32 magic, const struct multiboot_info *info)
{
    static char command_line[COMMAND_LINE_CHARS];
    serial_start();
    if (magic != LOADED_BY_MULTIBOOT || !(info->flags & HAS_COMMAND_LINE))
        fail("not booted by a multiboot loader with a command line");
    u32 n = 0;
    for (const char *p = (const char *)info->command_line; *p; p++) {
        if (n == COMMAND_LINE_CHARS - 1)
            fail("the command line is too long");
        command_line[n++] = *p;
    }
    u32 ram_end = find_ram_end(info);
    configure(command_line, ram_end); /* from here on the boot loader's tables may be overwritten */
    sleep_start();
    clock_start();
    pages_fill();
    run();
}
