/* 32 threads on one log: appends, batches, group commits, callbacks and readers at once. In the end the log holds every
 * record that was accepted, byte for byte at its LSN, each thread's in its order, and nothing else. Before, threads that end:
 * their last message can be asked for while they do, and takes no memory once they have. */
#define _POSIX_C_SOURCE 200809L
#include "check.h"

#include <pthread.h>

enum { WRITERS = 32, READERS = 2 };

struct accepted {
    uint64_t lsn;
    uint32_t number, len;
};

struct writer {
    wal_t *log;
    uint32_t name, records;
    struct accepted *accepted;
    uint32_t count;
    pthread_mutex_t lock;
    uint32_t asked, told;
};

struct record {
    uint32_t writer, number;
    unsigned char filler[600];
};

/* The payload of a writer's record; its length. */
static size_t fill(struct record *record, uint32_t writer, uint32_t number)
{
    size_t filler = (writer * 31 + number * 17) % sizeof record->filler;
    record->writer = writer;
    record->number = number;
    memset(record->filler, (int)((writer + number) & 0xff), filler);
    return 8 + filler;
}

static void accept_record(struct writer *writer, uint64_t lsn, uint32_t number, size_t len)
{
    struct accepted accepted = {lsn, number, (uint32_t)len};
    writer->accepted[writer->count++] = accepted;
}

static void told(void *context, int code, uint64_t lsn)
{
    struct writer *writer = context;
    CHECK(code == WAL_OK && lsn != WAL_NO_LSN);
    pthread_mutex_lock(&writer->lock);
    writer->told++;
    pthread_mutex_unlock(&writer->lock);
}

static void *write_records(void *context)
{
    struct writer *writer = context;
    struct record records[3];
    uint32_t number = 0, asked = 0;
    uint64_t lsn, lsns[3], durable;
    while (number < writer->records) {
        size_t len = fill(&records[0], writer->name, number);
        switch ((writer->name + number) % 5) {
        case 0:
            OK(wal_append_and_sync(writer->log, &records[0], len, &lsn));
            OK(wal_durable_lsn(writer->log, &durable));
            CHECK(durable > lsn);
            break;
        case 1:
            OK(wal_append_async(writer->log, &records[0], len, told, writer, &lsn));
            asked++;
            break;
        case 2: {
            wal_slice_t slices[3];
            for (uint32_t n = 0; n < 3; n++) {
                slices[n].data = &records[n];
                slices[n].len = fill(&records[n], writer->name, number + n);
            }
            OK(wal_append_batch(writer->log, slices, 3, lsns));
            for (uint32_t n = 0; n < 3; n++)
                accept_record(writer, lsns[n], number + n, slices[n].len);
            number += 3;
            continue;
        }
        case 3: {
            int code = wal_try_append(writer->log, &records[0], len, &lsn);
            if (code == WAL_ERR_FULL) {
                OK(wal_flush(writer->log));
                continue;
            }
            RETURNS(WAL_OK, code);
            break;
        }
        default:
            OK(wal_append(writer->log, &records[0], len, &lsn));
        }
        accept_record(writer, lsn, number, len);
        number++;
    }
    OK(wal_sync(writer->log));
    OK(wal_sync_to(writer->log, writer->accepted[0].lsn));
    writer->asked = asked;
    return NULL;
}

static void *read_records(void *log)
{
    uint32_t next[WRITERS] = {0};
    wal_iter_t *iter;
    wal_record_t record;
    int code;
    OK(wal_iter_from_head(log, &iter));
    while ((code = wal_iter_follow(iter, 300, &record)) == WAL_OK) {
        struct record expected;
        uint32_t name[2];
        memcpy(name, record.data, sizeof name);
        CHECK(name[0] < WRITERS && name[1] == next[name[0]]);
        CHECK(record.len == fill(&expected, name[0], name[1]) && memcmp(record.data, &expected, record.len) == 0);
        next[name[0]]++;
    }
    CHECK(code == WAL_TIMEOUT || code == WAL_ERR_CLOSED);
    wal_iter_close(iter);
    return NULL;
}

static size_t judge(const char *dir, const struct writer *writers)
{
    wal_t *log;
    wal_iter_t *iter;
    wal_record_t record;
    uint32_t next[WRITERS] = {0};
    size_t found = 0;
    int code;
    OK(wal_open(dir, NULL, &log));
    OK(wal_iter_from_head(log, &iter));
    while ((code = wal_iter_next(iter, &record)) == WAL_OK) {
        struct record expected;
        uint32_t name[2];
        memcpy(name, record.data, sizeof name);
        CHECK(name[0] < WRITERS && next[name[0]] < writers[name[0]].count);
        const struct accepted *accepted = &writers[name[0]].accepted[next[name[0]]++];
        CHECK(accepted->lsn == record.lsn && accepted->number == name[1] && accepted->len == record.len);
        fill(&expected, name[0], name[1]);
        CHECK(memcmp(record.data, &expected, record.len) == 0);
        found++;
    }
    RETURNS(WAL_END, code);
    for (int n = 0; n < WRITERS; n++)
        CHECK(next[n] == writers[n].count);
    wal_iter_close(iter);
    OK(wal_close(log));
    return found;
}

/* ThreadSanitizer lets go of a thread in the last round of destructors; what runs in that round must not be instrumented. */
#if defined(__SANITIZE_THREAD__)
#define THREAD_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define THREAD_SANITIZER 1
#endif
#endif

#ifndef THREAD_SANITIZER
/* Keys from before the library makes its own, and from after: their destructors are called before and after its own, or the
 * other way round. */
static pthread_key_t keys[2];

enum { ROUNDS = 4 };

struct ending {
    int key, fails_before, round;
};

/* The destructor of a key. It asks in each round that there is. */
static void ask(void *context)
{
    struct ending *ending = context;
    wal_error_t error;
    ending->round++;
    if (ending->round == 1 && !ending->fails_before) {
        CHECK(strcmp(wal_last_error(), "") == 0);
        RETURNS(WAL_ERR_INVALID_ARGUMENT, wal_flush(NULL));
    }
    /* Of the last rounds it is only the code's own text. */
    if (ending->round <= ROUNDS - 2)
        CHECK(strcmp(wal_last_error(), "invalid argument: the log is NULL") == 0);
    CHECK(strncmp(wal_last_error(), "invalid argument", 16) == 0);
    OK(wal_last_error_details(&error, sizeof error));
    CHECK(error.code == WAL_ERR_INVALID_ARGUMENT);
    if (ending->round == ROUNDS) {
        RETURNS(WAL_ERR_INVALID_ARGUMENT, wal_iter_refresh(NULL));
        CHECK(strncmp(wal_last_error(), "invalid argument", 16) == 0);
        return;
    }
    CHECK(pthread_setspecific(keys[ending->key], ending) == 0);
}

static void *fail_and_end(void *context)
{
    struct ending *ending = context;
    if (ending->fails_before)
        RETURNS(WAL_ERR_INVALID_ARGUMENT, wal_flush(NULL));
    CHECK(pthread_setspecific(keys[ending->key], ending) == 0);
    return NULL;
}

static void threads_that_end(void)
{
    pthread_t thread;
    CHECK(pthread_key_create(&keys[0], ask) == 0);
    RETURNS(WAL_ERR_INVALID_ARGUMENT, wal_flush(NULL));
    CHECK(pthread_key_create(&keys[1], ask) == 0);
    for (int n = 0; n < 4; n++) {
        struct ending ending = {n % 2, n / 2, 0};
        CHECK(pthread_create(&thread, NULL, fail_and_end, &ending) == 0);
        CHECK(pthread_join(thread, NULL) == 0);
        CHECK(ending.round == ROUNDS);
    }
}
#endif

int main(int argc, char **argv)
{
    CHECK(argc == 3);
#ifndef THREAD_SANITIZER
    threads_that_end();
#endif
    uint32_t records = (uint32_t)atoi(argv[2]);
    char *dir = in(argv[1], "threads");
    wal_options_t *options = wal_options_new();
    OK(wal_options_set_segment_size(options, 1 << 18));
    OK(wal_options_set_buffer_size(options, 1 << 14));
    wal_t *log;
    OK(wal_open(dir, options, &log));
    wal_options_free(options);
    static struct writer writers[WRITERS];
    pthread_t threads[WRITERS + READERS];
    for (uint32_t n = 0; n < WRITERS; n++) {
        struct accepted *accepted = calloc(records + 3, sizeof *accepted);
        CHECK(accepted != NULL);
        writers[n].log = log;
        writers[n].name = n;
        writers[n].records = records;
        writers[n].accepted = accepted;
        CHECK(pthread_mutex_init(&writers[n].lock, NULL) == 0);
        CHECK(pthread_create(&threads[n], NULL, write_records, &writers[n]) == 0);
    }
    for (int n = WRITERS; n < WRITERS + READERS; n++)
        CHECK(pthread_create(&threads[n], NULL, read_records, log) == 0);
    for (int n = 0; n < WRITERS + READERS; n++)
        CHECK(pthread_join(threads[n], NULL) == 0);
    wal_stats_t stats;
    OK(wal_stats(log, &stats, sizeof stats));
    OK(wal_close(log));
    for (int n = 0; n < WRITERS; n++)
        CHECK(writers[n].told == writers[n].asked && writers[n].told > 0);
    size_t found = judge(dir, writers);
    printf("threads: ok, %zu records, %.1f a sync\n", found, (double)stats.records_synced / (double)stats.syncs);
    for (int n = 0; n < WRITERS; n++)
        free(writers[n].accepted);
    free(dir);
    return 0;
}
