/* Appends RECORDS records of 100 bytes to a new log in DIRECTORY with one thread, and prints nanoseconds for each. What
 * `make bench-c` compares with the same loop in Rust (ffi/benches/rate.rs). */
#define _POSIX_C_SOURCE 200809L
#include "check.h"

#include <time.h>

int main(int argc, char **argv)
{
    CHECK(argc == 3);
    long records = atol(argv[2]);
    char payload[100];
    wal_t *log;
    struct timespec begun, ended;
    memset(payload, 7, sizeof payload);
    OK(wal_open(argv[1], NULL, &log));
    CHECK(clock_gettime(CLOCK_MONOTONIC, &begun) == 0);
    for (long n = 0; n < records; n++) {
        uint64_t lsn;
        OK(wal_append(log, payload, sizeof payload, &lsn));
    }
    CHECK(clock_gettime(CLOCK_MONOTONIC, &ended) == 0);
    double nanoseconds = (double)(ended.tv_sec - begun.tv_sec) * 1e9 + (double)(ended.tv_nsec - begun.tv_nsec);
    printf("%.2f\n", nanoseconds / (double)records);
    OK(wal_close(log));
    return 0;
}
