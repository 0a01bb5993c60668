/* Appends RECORDS records of 100 bytes with one thread to each of ROUNDS new logs in DIRECTORY, and prints nanoseconds for
 * each record, a line a round. What `make bench-c` compares with the same loop in Rust (ffi/benches/rate.rs). */
#define _POSIX_C_SOURCE 200809L
#include "check.h"

#include <time.h>

static double append(const char *dir, long records)
{
    char payload[100];
    wal_t *log;
    struct timespec begun, ended, while_the_next_segment_is_prepared = {0, 200000000};
    memset(payload, 7, sizeof payload);
    OK(wal_open(dir, NULL, &log));
    nanosleep(&while_the_next_segment_is_prepared, NULL);
    CHECK(clock_gettime(CLOCK_MONOTONIC, &begun) == 0);
    for (long n = 0; n < records; n++) {
        uint64_t lsn;
        OK(wal_append(log, payload, sizeof payload, &lsn));
    }
    CHECK(clock_gettime(CLOCK_MONOTONIC, &ended) == 0);
    OK(wal_close(log));
    double nanoseconds = (double)(ended.tv_sec - begun.tv_sec) * 1e9 + (double)(ended.tv_nsec - begun.tv_nsec);
    return nanoseconds / (double)records;
}

int main(int argc, char **argv)
{
    CHECK(argc == 4);
    for (int round = 0; round < atoi(argv[3]); round++) {
        char name[32];
        snprintf(name, sizeof name, "c%d", round);
        char *dir = in(argv[1], name);
        printf("%.2f\n", append(dir, atol(argv[2])));
        free(dir);
    }
    return 0;
}
