/* Every call of wal.h, by one thread: what it does, and its errors. */
#define _POSIX_C_SOURCE 200809L
#include "check.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <unistd.h>

static wal_t *open_log(const char *dir, int (*set)(wal_options_t *, uint64_t), uint64_t value)
{
    wal_options_t *options = wal_options_new();
    wal_t *log = NULL;
    CHECK(options != NULL);
    OK(wal_options_set_segment_size(options, 1 << 16));
    OK(wal_options_set_buffer_size(options, 1 << 14));
    if (set != NULL)
        OK(set(options, value));
    OK(wal_open(dir, options, &log));
    wal_options_free(options);
    return log;
}

static void versions(void)
{
    CHECK(wal_abi_version() == WAL_ABI_VERSION);
    CHECK(strncmp(wal_version(), "0.", 2) == 0 || wal_version()[0] >= '1');
    CHECK(strcmp(wal_strerror(WAL_OK), "success") == 0);
    for (int code = WAL_ERR_PANIC; code <= WAL_TIMEOUT; code++)
        CHECK(strcmp(wal_strerror(code), "unknown code") != 0);
    CHECK(strcmp(wal_strerror(-1000), "unknown code") == 0);
    wal_error_t error;
    OK(wal_last_error_details(&error, sizeof error));
    CHECK(error.code == 0 && error.lsn == WAL_NO_LSN && strcmp(wal_last_error(), "") == 0);
}

static void appends_and_reads(const char *dir)
{
    wal_t *log = open_log(dir, NULL, 0);
    uint64_t first, second, lsn, lsns[3], position, head;
    OK(wal_append(log, "first", 5, &first));
    CHECK(first == 0);
    OK(wal_append(log, NULL, 0, &second));
    CHECK(second > first);
    OK(wal_append(log, "no place for the LSN", 20, NULL));
    wal_slice_t batch[3] = {{"a", 1}, {NULL, 0}, {"ccc", 3}};
    OK(wal_append_batch(log, batch, 3, lsns));
    CHECK(lsns[0] < lsns[1] && lsns[1] < lsns[2]);
    OK(wal_append_batch(log, batch, 2, NULL));
    OK(wal_append_batch(log, NULL, 0, NULL));
    OK(wal_try_append(log, "tried", 5, &lsn));
    RETURNS(WAL_TIMEOUT, wal_wait_durable(log, lsn, 0));
    RETURNS(WAL_TIMEOUT, wal_wait_durable(log, lsn, 10));
    OK(wal_flush(log));
    OK(wal_sync_to(log, lsn));
    OK(wal_wait_durable(log, lsn, -1));
    OK(wal_durable_lsn(log, &position));
    CHECK(position > lsn);
    OK(wal_append_and_sync(log, "synced", 6, &lsn));
    OK(wal_durable_lsn(log, &position));
    CHECK(position > lsn);
    OK(wal_sync(log));
    OK(wal_tail(log, &position));
    OK(wal_head(log, &head));
    CHECK(head == 0 && position > lsn);

    wal_record_t *record = NULL;
    OK(wal_read(log, lsns[2], &record));
    CHECK(record->lsn == lsns[2] && record->len == 3 && memcmp(record->data, "ccc", 3) == 0);
    CHECK(record->kind == WAL_KIND_BATCH_END);
    wal_record_free(record);
    OK(wal_read(log, second, &record));
    CHECK(record->len == 0 && record->data != NULL && record->kind == WAL_KIND_DATA);
    wal_record_free(record);
    wal_record_free(NULL);
    RETURNS(WAL_ERR_INVALID_ARGUMENT, wal_read(log, 8, &record));
    RETURNS(WAL_ERR_INVALID_ARGUMENT, wal_read(log, position, &record));
    RETURNS(WAL_ERR_INVALID_ARGUMENT, wal_sync_to(log, position + 8));
    RETURNS(WAL_ERR_INVALID_ARGUMENT, wal_wait_durable(log, position + 8, 0));
    RETURNS(WAL_ERR_INVALID_ARGUMENT, wal_truncate_before(log, 8));
    OK(wal_close(log));
}

static size_t count(wal_iter_t *iter, uint64_t *last)
{
    wal_record_t record;
    size_t records = 0;
    int code;
    while ((code = wal_iter_next(iter, &record)) == WAL_OK) {
        CHECK(records == 0 || record.lsn > *last);
        *last = record.lsn;
        records++;
    }
    RETURNS(WAL_END, code);
    return records;
}

static void *follow_to_the_end(void *iter)
{
    wal_record_t record;
    RETURNS(WAL_END, wal_iter_follow(iter, 20000, &record));
    RETURNS(WAL_END, wal_iter_follow(iter, -1, &record));
    return NULL;
}

static void iterators(const char *dir)
{
    wal_t *log = open_log(dir, NULL, 0);
    wal_iter_t *iter = NULL;
    wal_record_t record;
    uint64_t last = 0, lsn, position;
    OK(wal_iter_from_head(log, &iter));
    size_t all = count(iter, &last);
    CHECK(all == 10);
    RETURNS(WAL_END, wal_iter_next(iter, &record));
    RETURNS(WAL_END, wal_iter_refresh(iter));
    RETURNS(WAL_TIMEOUT, wal_iter_follow(iter, 5, &record));
    OK(wal_append(log, "later", 5, &lsn));
    RETURNS(WAL_END, wal_iter_next(iter, &record));
    OK(wal_iter_refresh(iter));
    OK(wal_iter_next(iter, &record));
    CHECK(record.lsn == lsn);
    OK(wal_append(log, "followed", 8, &lsn));
    OK(wal_iter_follow(iter, 1000, &record));
    CHECK(record.lsn == lsn && memcmp(record.data, "followed", 8) == 0);
    OK(wal_iter_position(iter, &position));
    CHECK(position > lsn);
    wal_iter_close(iter);
    wal_iter_close(iter);
    wal_iter_close(NULL);
    RETURNS(WAL_ERR_CLOSED, wal_iter_next(iter, &record));
    OK(wal_iter(log, lsn, &iter));
    CHECK(count(iter, &last) == 1 && last == lsn);
    wal_iter_close(iter);
    RETURNS(WAL_ERR_INVALID_ARGUMENT, wal_iter(log, lsn + 8, &iter));
    /* The close wakes whoever waits for more, and is told to whoever comes later. */
    pthread_t follower;
    wal_iter_t *later;
    OK(wal_iter(log, position, &iter));
    OK(wal_iter(log, lsn, &later));
    RETURNS(WAL_TIMEOUT, wal_iter_follow(iter, 0, &record));
    CHECK(pthread_create(&follower, NULL, follow_to_the_end, iter) == 0);
    OK(wal_close(log));
    CHECK(pthread_join(follower, NULL) == 0);
    OK(wal_iter_follow(later, 0, &record));
    CHECK(record.lsn == lsn);
    follow_to_the_end(later);
    wal_iter_close(iter);
    wal_iter_close(later);
}

static void checkpoints(const char *dir)
{
    wal_t *log = open_log(dir, NULL, 0);
    wal_iter_t *iter;
    uint64_t lsn = 77, checkpoint, last, head;
    char block[5000];
    memset(block, 'x', sizeof block);
    RETURNS(WAL_END, wal_last_checkpoint(log, &lsn));
    CHECK(lsn == 77);
    OK(wal_iter_from_checkpoint(log, &iter));
    CHECK(count(iter, &last) == 12);
    wal_iter_close(iter);
    for (int n = 0; n < 40; n++)
        OK(wal_append(log, block, sizeof block, NULL));
    OK(wal_checkpoint(log, "state", 5, &checkpoint));
    OK(wal_last_checkpoint(log, &lsn));
    CHECK(lsn == checkpoint);
    OK(wal_append(log, "after", 5, NULL));
    OK(wal_iter_from_checkpoint(log, &iter));
    wal_record_t record;
    OK(wal_iter_next(iter, &record));
    CHECK(record.kind == WAL_KIND_CHECKPOINT && record.len == 5 && memcmp(record.data, "state", 5) == 0);
    CHECK(count(iter, &last) == 1);
    wal_iter_close(iter);
    OK(wal_truncate_before(log, checkpoint));
    OK(wal_head(log, &head));
    CHECK(head > 0 && head <= checkpoint);
    RETURNS(WAL_ERR_TRUNCATED, wal_iter(log, 0, &iter));
    wal_error_t error;
    OK(wal_last_error_details(&error, sizeof error));
    CHECK(error.code == WAL_ERR_TRUNCATED && error.cause == WAL_ERR_TRUNCATED && error.lsn == head);
    wal_stats_t stats;
    OK(wal_stats(log, &stats, sizeof stats));
    CHECK(stats.head == head && stats.checkpoint == checkpoint && stats.closed_cleanly == 1);
    CHECK(stats.durable <= stats.flushed && stats.flushed <= stats.reserved);
    CHECK(stats.segment_size == 1 << 16 && stats.buffer_size == 1 << 14 && stats.syncs > 0);
    uint64_t timed = 0;
    for (int n = 0; n < WAL_LATENCY_BUCKETS; n++)
        timed += stats.sync_latency[n];
    CHECK(timed == stats.syncs);
    OK(wal_close(log));
}

static void structures_of_other_versions(const char *dir)
{
    struct {
        wal_stats_t stats;
        uint64_t newer, behind;
    } longer;
    memset(&longer, 0xff, sizeof longer);
    wal_t *log = open_log(dir, NULL, 0);
    OK(wal_stats(log, &longer.stats, sizeof longer.stats + sizeof longer.newer));
    CHECK(longer.newer == 0 && longer.behind == UINT64_MAX);
    uint64_t shorter[2] = {7, 7};
    OK(wal_stats(log, (wal_stats_t *)(void *)shorter, sizeof shorter[0]));
    CHECK(shorter[0] == longer.stats.durable && shorter[1] == 7);
    RETURNS(WAL_ERR_INVALID_ARGUMENT, wal_stats(log, &longer.stats, 0));
    OK(wal_close(log));
}

struct told {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int calls, failures;
    uint64_t last;
};

static void done(void *context, int code, uint64_t lsn)
{
    struct told *told = context;
    pthread_mutex_lock(&told->lock);
    told->calls++;
    told->failures += code != WAL_OK;
    if (code == WAL_OK)
        told->last = lsn;
    pthread_cond_signal(&told->changed);
    pthread_mutex_unlock(&told->lock);
}

static void until(struct told *told, int calls)
{
    pthread_mutex_lock(&told->lock);
    while (told->calls < calls)
        pthread_cond_wait(&told->changed, &told->lock);
    CHECK(told->calls == calls && told->failures == 0);
    pthread_mutex_unlock(&told->lock);
}

static void completions(const char *dir)
{
    struct told told = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0, 0, 0};
    wal_t *log = open_log(dir, NULL, 0);
    uint64_t lsn, durable;
    int fd, again;
    OK(wal_event_fd(log, &fd));
    OK(wal_event_fd(log, &again));
    CHECK(fd == again && (fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
    struct pollfd poll_fd = {fd, POLLIN, 0};
    CHECK(poll(&poll_fd, 1, 0) == 0);
    for (int n = 0; n < 100; n++)
        OK(wal_append_async(log, &n, sizeof n, done, &told, &lsn));
    until(&told, 100);
    CHECK(told.last == lsn);
    OK(wal_durable_lsn(log, &durable));
    CHECK(durable > lsn);
    CHECK(poll(&poll_fd, 1, 10000) == 1);
    OK(wal_sync_async(log, done, &told));
    until(&told, 101);
    OK(wal_when_durable(log, lsn, done, &told));
    until(&told, 102);
    CHECK(told.last == lsn);
    RETURNS(WAL_ERR_INVALID_ARGUMENT, wal_when_durable(log, lsn + 4096, done, &told));

    /* Without a callback: the descriptor is all there is. Nothing is outstanding now but the raise behind a callback. */
    for (int n = 0; n < 50; n++) {
        OK(wal_append_async(log, "r", 1, NULL, NULL, &lsn));
        do {
            CHECK(poll(&poll_fd, 1, 10000) == 1);
            OK(wal_event_clear(log));
            OK(wal_durable_lsn(log, &durable));
        } while (durable <= lsn);
    }
    /* Those that are outstanding are told of before the close returns. */
    for (int n = 0; n < 100; n++)
        OK(wal_append_async(log, &n, sizeof n, done, &told, NULL));
    OK(wal_close(log));
    CHECK(told.calls == 202 && told.failures == 0);
    RETURNS(WAL_ERR_CLOSED, wal_append_async(log, "r", 1, done, &told, NULL));
    CHECK(told.calls == 202);
}

struct closing {
    wal_t *log;
    struct told told;
};

static void close_it(void *context, int code, uint64_t lsn)
{
    struct closing *closing = context;
    OK(code);
    OK(wal_append(closing->log, "from a callback", 15, NULL));
    OK(wal_append_async(closing->log, "outstanding", 11, done, &closing->told, NULL));
    OK(wal_close(closing->log));
    CHECK(closing->told.calls == 0); /* Told after this callback. */
    done(&closing->told, code, lsn);
}

static void a_callback_may_close(const char *dir)
{
    struct closing closing = {open_log(dir, NULL, 0), {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0, 0, 0}};
    OK(wal_append_async(closing.log, "r", 1, close_it, &closing, NULL));
    until(&closing.told, 2);
    CHECK(closing.told.failures == 0);
    RETURNS(WAL_ERR_CLOSED, wal_append(closing.log, "r", 1, NULL));
}

static void options(const char *dir)
{
    wal_options_t *options = wal_options_new();
    wal_t *log = NULL, *reader = NULL;
    OK(wal_options_set_segment_size(options, 1 << 16));
    OK(wal_options_set_buffer_size(options, 1 << 14));
    OK(wal_options_set_shared_buffer(options, 1));
    OK(wal_options_set_shared_buffer(options, 0));
    OK(wal_options_set_max_record_size(options, 10));
    OK(wal_options_set_recycle(options, 1));
    OK(wal_options_set_retention_none(options));
    OK(wal_options_set_retention_bytes(options, 1 << 20));
    OK(wal_options_set_retention_segments(options, 3));
    OK(wal_options_set_retain_checkpoint(options, 0));
    OK(wal_options_set_sync_interval(options, 1));
    OK(wal_options_set_background(options, 1));
    OK(wal_options_set_recovery(options, WAL_RECOVERY_STRICT));
    RETURNS(WAL_ERR_INVALID_ARGUMENT, wal_options_set_recovery(options, 9));
    OK(wal_options_set_create(options, 0));
    RETURNS(WAL_ERR_IO, wal_open(dir, options, &log));
    wal_error_t error;
    OK(wal_last_error_details(&error, sizeof error));
    CHECK(error.os_error == ENOENT);
    CHECK(strstr(wal_last_error(), dir) != NULL && log == NULL);
    OK(wal_options_set_create(options, 1));
    OK(wal_options_set_first_lsn(options, 7));
    RETURNS(WAL_ERR_INVALID_ARGUMENT, wal_open(dir, options, &log));
    OK(wal_options_set_first_lsn(options, 4096));
    OK(wal_open(dir, options, &log));
    uint64_t lsn;
    wal_stats_t stats;
    OK(wal_stats(log, &stats, sizeof stats));
    CHECK(stats.shared_buffer == 0);
    OK(wal_append(log, "0123456789", 10, &lsn));
    CHECK(lsn == 4096);
    RETURNS(WAL_ERR_TOO_LARGE, wal_append(log, "0123456789x", 11, &lsn));
    OK(wal_wait_durable(log, lsn, 60000)); /* By the sync interval: nobody here syncs. */
    RETURNS(WAL_ERR_LOCKED, wal_open(dir, NULL, &reader));
    OK(wal_options_set_sync_interval(options, 0));
    OK(wal_options_set_read_only(options, 1));
    OK(wal_open(dir, options, &reader));
    wal_options_free(options);
    wal_options_free(options);
    wal_options_free(NULL);
    RETURNS(WAL_ERR_CLOSED, wal_options_set_create(options, 1));
    RETURNS(WAL_ERR_CLOSED, wal_open(dir, options, &reader));
    RETURNS(WAL_ERR_INVALID_ARGUMENT, wal_append(reader, "x", 1, NULL));
    wal_iter_t *iter;
    wal_record_t record;
    OK(wal_iter_from_head(reader, &iter));
    OK(wal_iter_next(iter, &record));
    OK(wal_append(log, "seen", 4, &lsn));
    OK(wal_flush(log));
    OK(wal_iter_follow(iter, 60000, &record));
    CHECK(record.lsn == lsn);
    OK(wal_close(log));
    RETURNS(WAL_TIMEOUT, wal_iter_follow(iter, 5, &record)); /* Another process may open it. */
    wal_iter_close(iter);
    OK(wal_close(reader));
}

static void progress(void *context, uint64_t done_bytes, uint64_t total)
{
    CHECK(done_bytes <= total);
    *(int *)context = 1;
}

/* Changes one byte of the record's payload on disk. */
static void damage(const char *dir, uint64_t lsn)
{
    char name[64], *path;
    snprintf(name, sizeof name, "%020llu.wal", (unsigned long long)(lsn >> 16));
    path = in(dir, name);
    int fd = open(path, O_RDWR);
    CHECK(fd >= 0);
    off_t at = (off_t)(4096 + (lsn & 0xffff) + 8);
    char byte;
    CHECK(pread(fd, &byte, 1, at) == 1);
    byte ^= 1;
    CHECK(pwrite(fd, &byte, 1, at) == 1 && close(fd) == 0);
    free(path);
}

static void damaged_logs(const char *dir, const char *keep)
{
    wal_t *log = open_log(dir, NULL, 0);
    uint64_t first, second, third;
    wal_report_t *report = NULL;
    int told = 0;
    OK(wal_append(log, "first record", 12, &first));
    OK(wal_append_and_sync(log, "second record", 13, &second));
    OK(wal_append_and_sync(log, "third record", 12, &third));
    RETURNS(WAL_ERR_LOCKED, wal_repair(dir, keep, &report));
    OK(wal_close(log));
    OK(wal_verify(dir, 2, progress, &told, &report));
    CHECK(told == 1 && report->records == 3 && report->damage_count == 0 && report->file_count == 0);
    CHECK(report->closed_cleanly == 1 && report->checkpoint == WAL_NO_LSN && report->torn_tail == WAL_NO_LSN);
    wal_report_free(report);
    damage(dir, second);
    OK(wal_verify(dir, 0, NULL, NULL, &report));
    CHECK(report->damage_count == 1 && report->damage[0].from == second && report->damage[0].to == third);
    CHECK(strstr(report->damage[0].path, dir) != NULL && strlen(report->damage[0].reason) > 0);
    wal_report_free(report);
    wal_report_free(NULL);

    /* Closed cleanly, so opening looks at nothing; reading does. */
    log = open_log(dir, NULL, 0);
    wal_iter_t *iter;
    wal_record_t record;
    OK(wal_iter_from_head(log, &iter));
    OK(wal_iter_next(iter, &record));
    RETURNS(WAL_ERR_CORRUPT, wal_iter_next(iter, &record));
    wal_error_t error;
    OK(wal_last_error_details(&error, sizeof error));
    CHECK(error.code == WAL_ERR_CORRUPT && error.lsn == second && strstr(wal_last_error(), ".wal") != NULL);
    CHECK(record.lsn == first);
    RETURNS(WAL_END, wal_iter_next(iter, &record));
    wal_iter_close(iter);
    OK(wal_damage(log, &report));
    CHECK(report->damage_count == 0);
    wal_report_free(report);
    OK(wal_close(log));

    wal_options_t *salvage = wal_options_new();
    OK(wal_options_set_recovery(salvage, WAL_RECOVERY_SALVAGE));
    OK(wal_open(dir, salvage, &log));
    wal_options_free(salvage);
    OK(wal_damage(log, &report));
    CHECK(report->damage_count == 1 && report->damage[0].from == second && report->damage[0].to == third);
    CHECK(report->head == first && report->tail > third && strlen(report->damage[0].reason) > 0);
    wal_report_free(report);
    OK(wal_iter_from_head(log, &iter));
    OK(wal_iter_next(iter, &record));
    OK(wal_iter_next(iter, &record));
    CHECK(record.lsn == third);
    wal_iter_close(iter);
    OK(wal_close(log));

    OK(wal_repair(dir, keep, &report));
    CHECK(report->damage_count == 1);
    wal_report_free(report);
    OK(wal_repair(dir, keep, NULL));
    log = open_log(dir, NULL, 0);
    OK(wal_iter_from_head(log, &iter));
    uint64_t last;
    CHECK(count(iter, &last) == 2);
    wal_iter_close(iter);
    OK(wal_close(log));
    RETURNS(WAL_ERR_INVALID_ARGUMENT, wal_verify(keep, 1, NULL, NULL, &report));
}

int main(int argc, char **argv)
{
    CHECK(argc == 2);
    versions();
    char *dir = in(argv[1], "api");
    appends_and_reads(dir);
    iterators(dir);
    checkpoints(dir);
    structures_of_other_versions(dir);
    completions(dir);
    a_callback_may_close(dir);
    free(dir);
    dir = in(argv[1], "options");
    options(dir);
    free(dir);
    dir = in(argv[1], "damaged");
    char *keep = in(argv[1], "kept");
    damaged_logs(dir, keep);
    free(dir);
    free(keep);
    puts("api: ok");
    return 0;
}
