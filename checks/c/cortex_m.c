/* What a Cortex-M needs around main without an operating system or a libc: vectors, reset, output and exit through
   semihosting, and the two functions that generated C may call. */
#include <stddef.h>
#include <stdint.h>

extern uint32_t data_start[], data_end[], data_from[], bss_start[], bss_end[];

int main(void);
void reset(void);

/* Volatile, or the compiler would make each of these loops a call of the function it stands in. */
void *memcpy(void *to, const void *from, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        ((volatile uint8_t *)to)[i] = ((const uint8_t *)from)[i];
    }
    return to;
}

void *memset(void *to, int value, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        ((volatile uint8_t *)to)[i] = (uint8_t)value;
    }
    return to;
}

static void semihost(uint32_t operation, const void *argument)
{
    register uint32_t r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = argument;
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
}

void print(const char *text)
{
    semihost(0x04, text);
}

static void leave(int status)
{
    /* ADP_Stopped_ApplicationExit with a status. */
    const uint32_t arguments[2] = {0x20026, (uint32_t)status};
    semihost(0x20, arguments);
    for (;;) {
    }
}

static void fault(void)
{
    print("fault\n");
    leave(100);
}

void reset(void)
{
    /* CPACR: coprocessors 10 and 11 are the floating-point unit. */
    *(volatile uint32_t *)0xe000ed88 |= 0xfu << 20;
    __asm__ volatile("dsb\n\tisb");
    for (ptrdiff_t i = 0; i < data_end - data_start; i++) {
        data_start[i] = data_from[i];
    }
    for (ptrdiff_t i = 0; i < bss_end - bss_start; i++) {
        bss_start[i] = 0;
    }
    leave(main());
}

/* Not a function but an address: the first vector is where the stack begins. */
void stack(void);

typedef void (*Vector)(void);

__attribute__((section(".vectors"), used)) static const Vector vectors[16] = {
    stack, reset, fault, fault, fault, fault, fault,
};
