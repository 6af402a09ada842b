/*
 * Sleeping until the next thing is due, and dying loudly.
 *
 * A guest that spins would take a whole core from the machine that moves it, and be throttled like no real one.
 * So it halts; the 8254 timer, in one-shot mode, wakes it.
 */
#include "guest.h"

enum {
    PIC1 = 0x20,
    PIC2 = 0xa0,
    TIMER_VECTOR = 0x20,
    EXCEPTIONS = 32,
    CODE_SELECTOR = 0x08,
    INTERRUPT_GATE = 0x8e00,
    SHORTEST_US = 50, /* below this, arming the timer costs more than spinning */
    LONGEST_US = 50000, /* the timer counts 54.9 ms at most */
};

struct gate {
    u16 offset_low, selector, kind, offset_high;
};

static struct gate idt[TIMER_VECTOR + 8] __attribute__((aligned(16)));

extern char on_exception[], on_timer[], on_spurious[]; /* start.S */
void set_tables(const void *idt, u32 bytes);

static void set_gate(u32 vector, const char *handler)
{
    u32 offset = (u32)handler;
    idt[vector] = (struct gate){(u16)offset, CODE_SELECTOR, INTERRUPT_GATE, (u16)(offset >> 16)};
}

void sleep_start(void)
{
    for (u32 v = 0; v < EXCEPTIONS; v++)
        set_gate(v, on_exception);
    for (u32 v = TIMER_VECTOR; v < TIMER_VECTOR + 8; v++)
        set_gate(v, v == TIMER_VECTOR ? on_timer : on_spurious);
    set_tables(idt, sizeof idt);
    out8(PIC1, 0x11); /* both interrupt controllers: edge-triggered, cascaded, vectors from 0x20 and 0x28 */
    out8(PIC2, 0x11);
    out8(PIC1 + 1, TIMER_VECTOR);
    out8(PIC2 + 1, TIMER_VECTOR + 8);
    out8(PIC1 + 1, 0x04);
    out8(PIC2 + 1, 0x02);
    out8(PIC1 + 1, 0x01);
    out8(PIC2 + 1, 0x01);
    out8(PIC1 + 1, 0xfe); /* the timer alone */
    out8(PIC2 + 1, 0xff);
}

/* Halts for about this long, or less. */
void sleep_us(u64 us)
{
    if (us < SHORTEST_US)
        return;
    if (us > LONGEST_US)
        us = LONGEST_US;
    u32 ticks = (u32)us * 1193 / 1000;
    out8(0x43, 0x30); /* channel 0, mode 0: one shot */
    out8(0x40, (u8)ticks);
    out8(0x40, (u8)(ticks >> 8));
    /* sti takes effect after hlt has begun: a timer that has fired already wakes it, too */
    __asm__ volatile("sti; hlt; cli" : : : "memory");
}

/* From start.S: the processor found fault with the program, or with what became of its memory. */
__attribute__((noreturn)) void exception(u32 address)
{
    static const char words[] = "processor exception at 00000000";
    static char text[sizeof words];
    for (u32 i = 0; i < sizeof words; i++)
        text[i] = words[i];
    for (u32 i = 0; i < 8; i++)
        text[sizeof words - 2 - i] = "0123456789abcdef"[address >> 4 * i & 15];
    fail(text);
}
