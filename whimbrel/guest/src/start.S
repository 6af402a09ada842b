/* Multiboot header, entry, interrupts: 32-bit protected mode, flat, no paging. */
        .set    MAGIC, 0x1badb002
        .set    FLAGS, 0x00000002               /* memory map, please */

        .section .multiboot, "a"
        .align  4
        .long   MAGIC, FLAGS, -(MAGIC + FLAGS)

        .section .text.start, "ax"
        .globl  _start
_start:
        cli
        cld
        movl    $stack_top, %esp
        movl    %eax, %esi                      /* survives the SSE set-up */
        movl    %cr0, %eax
        andl    $~0x4, %eax                     /* EM off: SSE does not fault */
        orl     $0x2, %eax                      /* MP */
        movl    %eax, %cr0
        movl    %cr4, %eax
        orl     $0x600, %eax                    /* OSFXSR, OSXMMEXCPT */
        movl    %eax, %cr4
        pxor    %xmm7, %xmm7                    /* the anchor, see guest.h */
        subl    $8, %esp                        /* with two arguments: 16-byte aligned at the call */
        pushl   %ebx
        pushl   %esi
        call    guest_main                      /* does not return */

/* void set_tables(const void *idt, u32 bytes): our own segments (the loader's may be overwritten), and the IDT. */
        .globl  set_tables
set_tables:
        movl    8(%esp), %eax
        decl    %eax
        movw    %ax, idt_register
        movl    4(%esp), %eax
        movl    %eax, idt_register + 2
        lidt    idt_register
        lgdt    gdt_register
        ljmp    $8, $1f
1:      movl    $16, %eax
        movl    %eax, %ds
        movl    %eax, %es
        movl    %eax, %ss
        movl    %eax, %fs
        movl    %eax, %gs
        ret

        .globl  on_timer, on_spurious, on_exception
on_timer:
        pushl   %eax
        movb    $0x20, %al                      /* end of interrupt */
        outb    %al, $0x20
        popl    %eax
        iret
on_spurious:
        iret
/* With or without an error code on top: the address of the fault is one of two words; take the one in our code. */
on_exception:
        movl    (%esp), %eax
        cmpl    $0x100000, %eax
        jae     1f
        movl    4(%esp), %eax
1:      movl    $stack_top, %esp
        subl    $12, %esp
        pushl   %eax
        call    exception

        .section .rodata
        .align  8
gdt:    .quad   0
        .quad   0x00cf9b000000ffff              /* code: flat, accessed already, so that it is never written */
        .quad   0x00cf93000000ffff              /* data */
gdt_register:
        .word   . - gdt - 1
        .long   gdt

        .section .bss
        .align  8
idt_register:
        .skip   8

        .section .hot.stack, "aw", @nobits
        .align  16
        .skip   1536
stack_top:

        .section .note.GNU-stack, "", @progbits
