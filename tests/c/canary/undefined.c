/* Overflows a signed integer: UndefinedBehaviorSanitizer must say so, or it is not in force. */
#include <limits.h>

int main(int argc, char **argv)
{
    (void)argv;
    int most = INT_MAX;
    return most + argc == 7;
}
