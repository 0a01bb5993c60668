/* Loses a block: LeakSanitizer and memcheck must say so, or they are not in force. */
#include <stdlib.h>

static void *volatile kept;

int main(void)
{
    kept = malloc(100);
    kept = NULL;
    return 0;
}
