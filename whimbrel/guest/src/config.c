/* Reads the command line that whimbrel.guest.spec writes. */
#include "guest.h"

struct config config;
static struct step steps[MAX_STEPS];
static u32 step_total;

static const char *at;

static int starts(const char *word)
{
    const char *p = at;
    while (*word)
        if (*p++ != *word++)
            return 0;
    at = p;
    return 1;
}

static u32 number(void)
{
    u64 value = 0;
    if (*at < '0' || *at > '9')
        fail("command line: a number is missing");
    while (*at >= '0' && *at <= '9') {
        value = value * 10 + (u32)(*at++ - '0');
        if (value >> 32)
            fail("command line: a number is too large");
    }
    return (u32)value;
}

/* "65536:4294967295/..." : pages and inclusive limit of every step. */
static void read_steps(struct class *c)
{
    u32 start = 0;
    c->steps = &steps[step_total];
    do {
        if (step_total == MAX_STEPS)
            fail("command line: too many steps");
        struct step *s = &steps[step_total++];
        s->start = start;
        s->pages = number();
        if (*at++ != ':')
            fail("command line: a step is PAGES:LIMIT");
        s->limit = number();
        start += s->pages;
        c->step_count++;
    } while (*at == '/' && at++);
    if (start != c->pages || c->steps[c->step_count - 1].limit != 0xffffffff)
        fail("command line: the steps do not cover the class");
}

static void read_name(struct class *c)
{
    u32 n = 0;
    while (*at && *at != ',' && *at != ' ') {
        if (n == NAME_CHARS - 1)
            fail("command line: a class name is too long");
        c->name[n++] = *at++;
    }
    if (!n)
        fail("command line: a class needs a name");
}

static void read_class(void)
{
    if (config.classes == MAX_CLASSES)
        fail("command line: too many classes");
    struct class *c = &config.class[config.classes];
    *c = (struct class){.content = RANDOM, .touch = BODY_VECTORS, .stride = 1};
    read_name(c);
    while (*at == ',') {
        at++;
        if (starts("pages="))
            c->pages = number();
        else if (starts("rate="))
            c->rate_mpps = number();
        else if (starts("content="))
            c->content = (enum content)*at++;
        else if (starts("touch="))
            c->touch = number();
        else if (starts("period="))
            c->period_us = number();
        else if (starts("on="))
            c->on_us = number();
        else if (starts("shift="))
            c->shift_us = number();
        else if (starts("stride="))
            c->stride = number();
        else if (starts("steps="))
            read_steps(c);
        else
            fail("command line: unknown word in a class");
    }
    if (!c->pages)
        fail("command line: a class needs pages=");
    if (c->content != ZERO && c->content != CONSTANT && c->content != COMPRESSIBLE && c->content != RANDOM)
        fail("command line: content= is one of z c p r");
    if (c->touch > BODY_VECTORS || c->on_us > c->period_us || (c->period_us && !c->on_us))
        fail("command line: touch=, on= or period= is out of range");
    c->bare = c->content == ZERO && !c->rate_mpps;
    c->first = config.first + config.pages;
    config.pages += c->pages;
    config.classes++;
    if (config.pages >= 1u << 20 || c->first + c->pages > config.ram_end)
        fail("the page classes do not fit into memory");
}

static void derive(struct class *c)
{
    enum { BACKLOG_US = 20000 };
    c->seed = mix(config.seed * 0x9e3779b1u + c->first);
    if (!c->rate_mpps)
        return;
    config.writers++;
    u64 us = divide(1024ull * 1000000000, c->rate_mpps, 0);
    c->lag_us_per_kwrite = us >> 32 ? 0xffffffff : (u32)us;
    c->backlog_pages = 1 + (u32)divide((u64)c->rate_mpps * BACKLOG_US, 1000000000, 0);
}

void configure(const char *command_line, u32 ram_end)
{
    config = (struct config){.beat_hz = 200, .check_pps = 2000, .first = FIRST_PAGE, .ram_end = ram_end};
    const char *begin = 0;
    for (at = command_line; *at; at++) /* the boot loader puts the file name first */
        if (starts("whimbrel-guest "))
            begin = at--;
    if (!begin)
        fail("command line: the word whimbrel-guest is missing");
    for (at = begin; *at;) {
        if (*at == ' ')
            at++;
        else if (starts("hz="))
            config.beat_hz = number();
        else if (starts("seed="))
            config.seed = number();
        else if (starts("check="))
            config.check_pps = number();
        else if (starts("class="))
            read_class();
        else
            fail("command line: unknown word");
    }
    if (config.beat_hz < 1 || config.beat_hz > 10000)
        fail("command line: hz= is out of 1..10000");
    for (u32 i = 0; i < config.classes; i++)
        derive(&config.class[i]);
}
