/* Appends RECORDS records of 100 bytes with one thread to each of ROUNDS new logs in DIRECTORY, and prints nanoseconds for
 * each record, a line for each RUN of them. What `make bench-c` compares with the same loop in Rust (ffi/benches/rate.rs). */
#define _POSIX_C_SOURCE 200809L
#include "check.h"

#include <time.h>

static double nanoseconds_since(const struct timespec *begun)
{
    struct timespec now;
    CHECK(clock_gettime(CLOCK_MONOTONIC, &now) == 0);
    return (double)(now.tv_sec - begun->tv_sec) * 1e9 + (double)(now.tv_nsec - begun->tv_nsec);
}

static void append(const char *dir, long records, long run)
{
    char payload[100];
    wal_t *log;
    struct timespec begun, while_the_next_segment_is_prepared = {0, 200000000};
    memset(payload, 7, sizeof payload);
    OK(wal_open(dir, NULL, &log));
    nanosleep(&while_the_next_segment_is_prepared, NULL);
    for (long runs = 0; runs < records / run; runs++) {
        CHECK(clock_gettime(CLOCK_MONOTONIC, &begun) == 0);
        for (long n = 0; n < run; n++) {
            uint64_t lsn;
            OK(wal_append(log, payload, sizeof payload, &lsn));
        }
        printf("%.2f\n", nanoseconds_since(&begun) / (double)run);
    }
    OK(wal_close(log));
}

int main(int argc, char **argv)
{
    CHECK(argc == 5);
    for (int round = 0; round < atoi(argv[4]); round++) {
        char name[32];
        snprintf(name, sizeof name, "c%d", round);
        char *dir = in(argv[1], name);
        append(dir, atol(argv[2]), atol(argv[3]));
        free(dir);
    }
    return 0;
}
