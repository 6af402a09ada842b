/* COM1, polled. One line at a time is in the making or on its way; nothing here waits for the host. */
#include "guest.h"

enum { COM1 = 0x3f8, FIFO_BYTES = 16, DATA_READY = 0x01, TRANSMITTER_EMPTY = 0x20 };

void serial_start(void)
{
    out8(COM1 + 1, 0x00); /* no interrupts */
    out8(COM1 + 3, 0x80);
    out8(COM1 + 0, 0x01); /* 115200 baud */
    out8(COM1 + 1, 0x00);
    out8(COM1 + 3, 0x03); /* 8N1 */
    out8(COM1 + 2, 0x07); /* FIFOs on and empty */
    out8(COM1 + 4, 0x03);
}

int serial_idle(void) { return state.line.sent == state.line.length; }

/* Sends what the transmitter takes now. */
void serial_pump(void)
{
    struct line *l = &state.line;
    while (l->sent < l->length && in8(COM1 + 5) & TRANSMITTER_EMPTY)
        for (u32 n = 0; n < FIFO_BYTES && l->sent < l->length; n++)
            out8(COM1, (u8)l->text[l->sent++]);
}

/* One byte from the host, or -1. */
int serial_read(void) { return in8(COM1 + 5) & DATA_READY ? in8(COM1) : -1; }

static void put(char c)
{
    struct line *l = &state.line;
    if (l->length < sizeof l->text - 8) { /* room for "*abcd\n" */
        l->text[l->length++] = c;
        l->sum_a += (u8)c;
        l->sum_b += l->sum_a;
    }
}

static void put_hex(u64 value, int digits)
{
    for (int i = 60; i >= 0; i -= 4)
        if (i < 4 * digits || value >> i)
            put("0123456789abcdef"[value >> i & 15]);
}

void line_begin(char kind)
{
    state.line.length = state.line.sent = 0;
    state.line.sum_a = state.line.sum_b = 0;
    put(kind);
}

void line_text(const char *text)
{
    put(' ');
    while (*text)
        put(*text++);
}

void line_field(u64 value)
{
    put(' ');
    put_hex(value, 1);
}

/* Closes the line with Fletcher's sum (mod 256) of all before the star, and sends it. */
void line_end(void)
{
    u32 sum = (u32)state.line.sum_b << 8 | state.line.sum_a;
    put('*');
    put_hex(sum, 4);
    put('\n');
    serial_pump();
}

/* Says what is wrong, again and again for those who connect late, and stays there. */
void fail(const char *message)
{
    for (;;) {
        line_begin('E');
        line_text(message);
        line_end();
        for (u64 start = rdtsc(); rdtsc() - start < 500000000ull;)
            serial_pump();
    }
}
