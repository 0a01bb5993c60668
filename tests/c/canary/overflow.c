/* Reads behind the end of a block: AddressSanitizer and memcheck must say so, or they are not in force. */
#include <stdlib.h>

int main(int argc, char **argv)
{
    (void)argv;
    volatile char *block = malloc(16);
    char byte = block[15 + argc];
    free((void *)block);
    return byte == 1 ? 2 : 0;
}
