/* The C side of python_and_c.py: a thread that appends to a log of its own. */

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>

#include "wal.h"

static pthread_t thread;
static wal_t *log_;
static uint64_t records;

static void *append_all(void *unused) {
    (void)unused;
    for (uint64_t n = 0; n < records; n++) {
        char record[32];
        int len = snprintf(record, sizeof record, "C record %llu", (unsigned long long)n);
        int code = wal_append(log_, record, (size_t)len, NULL);
        if (code == WAL_OK && n % 1000 == 0)
            code = wal_sync(log_);
        if (code != WAL_OK)
            return (void *)(intptr_t)code;
    }
    return (void *)(intptr_t)wal_sync(log_);
}

/* Opens the log and starts the thread. 0, or what failed. */
int start(const char *dir, uint64_t count) {
    int code = wal_open(dir, NULL, &log_);
    if (code != WAL_OK) {
        fprintf(stderr, "%s: %s\n", dir, wal_last_error());
        return code;
    }
    records = count;
    return pthread_create(&thread, NULL, append_all, NULL);
}

/* Waits for the thread and closes the log. 0, or what failed. */
int finish(void) {
    void *code;
    int joined = pthread_join(thread, &code);
    int closed = wal_close(log_);
    return joined != 0 ? joined : code != NULL ? (int)(intptr_t)code : closed;
}
