/* Two threads write one variable: ThreadSanitizer must say so, or it is not in force. */
#include <pthread.h>
#include <stddef.h>

static volatile int shared;

static void *write_it(void *argument)
{
    shared = 1;
    return argument;
}

int main(void)
{
    pthread_t other;
    if (pthread_create(&other, NULL, write_it, NULL) != 0) return 2;
    shared = 2;
    return pthread_join(other, NULL);
}
