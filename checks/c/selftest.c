/* Runs the self-test of the network that NAME_H is the header of; the exit status is the number of wrong scores. */
#include NAME_H

#ifdef __arm__
void print(const char *text);
#else
#include <stdio.h>
static void print(const char *text)
{
    fputs(text, stdout);
}
#endif

int main(void)
{
    int wrong = SELFTEST();
    print(wrong ? "self-test: wrong scores\n" : "self-test: all scores to the bit\n");
    return wrong;
}
