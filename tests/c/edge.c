/* What C can do wrong, and what the system can do to it: each is told by a code, and the log is unharmed. */
#define _DEFAULT_SOURCE
#include "check.h"

#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static void *wrong[] = {NULL, (void *)1, (void *)0x10, (void *)0x11, (void *)0x7fffffff0001, (void *)-1, (void *)-15};

/* Every call with a handle that is none; nothing may be written to the places for results. */
static void handles_that_are_none(wal_t *log, wal_iter_t *iter)
{
    int local = 0;
    uint64_t lsn = 77;
    int fd = 77;
    wal_iter_t *out = NULL;
    wal_record_t record = {0, NULL, 0, 0, 0}, *read = NULL;
    wal_stats_t stats;
    wal_slice_t slice = {"x", 1};
    wal_report_t *damage = NULL;
    for (size_t n = 0; n < sizeof wrong / sizeof wrong[0] + 3; n++) {
        size_t known = sizeof wrong / sizeof wrong[0];
        void *bad = n < known ? wrong[n] : n == known ? (void *)iter : n == known + 1 ? (void *)&local : (void *)stats.sync_latency;
        wal_t *w = bad;
        RETURNS(WAL_ERR_INVALID_ARGUMENT, wal_append(w, "x", 1, &lsn));
        RETURNS(WAL_ERR_INVALID_ARGUMENT, wal_try_append(w, "x", 1, &lsn));
        RETURNS(WAL_ERR_INVALID_ARGUMENT, wal_append_and_sync(w, "x", 1, &lsn));
        RETURNS(WAL_ERR_INVALID_ARGUMENT, wal_append_batch(w, &slice, 1, &lsn));
        RETURNS(WAL_ERR_INVALID_ARGUMENT, wal_append_async(w, "x", 1, NULL, NULL, &lsn));
        RETURNS(WAL_ERR_INVALID_ARGUMENT, wal_sync_async(w, NULL, NULL));
        RETURNS(WAL_ERR_INVALID_ARGUMENT, wal_when_durable(w, 0, NULL, NULL));
        RETURNS(WAL_ERR_INVALID_ARGUMENT, wal_event_fd(w, &fd));
        RETURNS(WAL_ERR_INVALID_ARGUMENT, wal_event_clear(w));
        RETURNS(WAL_ERR_INVALID_ARGUMENT, wal_flush(w));
        RETURNS(WAL_ERR_INVALID_ARGUMENT, wal_sync(w));
        RETURNS(WAL_ERR_INVALID_ARGUMENT, wal_sync_to(w, 0));
        RETURNS(WAL_ERR_INVALID_ARGUMENT, wal_wait_durable(w, 0, -1));
        RETURNS(WAL_ERR_INVALID_ARGUMENT, wal_checkpoint(w, "x", 1, &lsn));
        RETURNS(WAL_ERR_INVALID_ARGUMENT, wal_last_checkpoint(w, &lsn));
        RETURNS(WAL_ERR_INVALID_ARGUMENT, wal_truncate_before(w, 0));
        RETURNS(WAL_ERR_INVALID_ARGUMENT, wal_durable_lsn(w, &lsn));
        RETURNS(WAL_ERR_INVALID_ARGUMENT, wal_head(w, &lsn));
        RETURNS(WAL_ERR_INVALID_ARGUMENT, wal_tail(w, &lsn));
        RETURNS(WAL_ERR_INVALID_ARGUMENT, wal_read(w, 0, &read));
        RETURNS(WAL_ERR_INVALID_ARGUMENT, wal_iter(w, 0, &out));
        RETURNS(WAL_ERR_INVALID_ARGUMENT, wal_iter_from_head(w, &out));
        RETURNS(WAL_ERR_INVALID_ARGUMENT, wal_iter_from_checkpoint(w, &out));
        RETURNS(WAL_ERR_INVALID_ARGUMENT, wal_stats(w, &stats, sizeof stats));
        RETURNS(WAL_ERR_INVALID_ARGUMENT, wal_damage(w, &damage));
        RETURNS(WAL_ERR_INVALID_ARGUMENT, wal_close(w));
        wal_options_t *options = n == known ? (wal_options_t *)(void *)log : bad;
        RETURNS(WAL_ERR_INVALID_ARGUMENT, wal_options_set_create(options, 1));
        wal_options_free(options);
        wal_iter_t *i = n == known ? (wal_iter_t *)(void *)log : bad;
        RETURNS(WAL_ERR_INVALID_ARGUMENT, wal_iter_next(i, &record));
        RETURNS(WAL_ERR_INVALID_ARGUMENT, wal_iter_follow(i, -1, &record));
        RETURNS(WAL_ERR_INVALID_ARGUMENT, wal_iter_refresh(i));
        RETURNS(WAL_ERR_INVALID_ARGUMENT, wal_iter_position(i, &lsn));
        wal_iter_close(i);
    }
    CHECK(lsn == 77 && fd == 77 && out == NULL && read == NULL && record.data == NULL && damage == NULL);
}

static void arguments_out_of_their_domain(const char *dir, wal_t *log, wal_iter_t *iter)
{
    wal_t *opened = NULL;
    RETURNS(WAL_ERR_INVALID_ARGUMENT, wal_open(NULL, NULL, &opened));
    RETURNS(WAL_ERR_INVALID_ARGUMENT, wal_open("", NULL, &opened));
    RETURNS(WAL_ERR_INVALID_ARGUMENT, wal_open(dir, NULL, NULL));
    CHECK(opened == NULL);
    RETURNS(WAL_ERR_INVALID_ARGUMENT, wal_append(log, NULL, 1, NULL));
    RETURNS(WAL_ERR_TOO_LARGE, wal_append(log, "x", SIZE_MAX, NULL));
    RETURNS(WAL_ERR_TOO_LARGE, wal_append(log, "x", (size_t)1 << 30, NULL));
    RETURNS(WAL_ERR_INVALID_ARGUMENT, wal_append_batch(log, NULL, 1, NULL));
    wal_slice_t slices[2] = {{"x", 1}, {NULL, 5}};
    RETURNS(WAL_ERR_INVALID_ARGUMENT, wal_append_batch(log, slices, 2, NULL));
    RETURNS(WAL_ERR_INVALID_ARGUMENT, wal_append_batch(log, slices, SIZE_MAX, NULL));
    RETURNS(WAL_ERR_INVALID_ARGUMENT, wal_iter_next(iter, NULL));
    RETURNS(WAL_ERR_INVALID_ARGUMENT, wal_tail(log, NULL));
    RETURNS(WAL_ERR_INVALID_ARGUMENT, wal_read(log, 0, NULL));
    RETURNS(WAL_ERR_INVALID_ARGUMENT, wal_iter(log, 0, NULL));
    RETURNS(WAL_ERR_INVALID_ARGUMENT, wal_stats(log, NULL, sizeof(wal_stats_t)));
    RETURNS(WAL_ERR_INVALID_ARGUMENT, wal_event_fd(log, NULL));
    RETURNS(WAL_ERR_INVALID_ARGUMENT, wal_verify(NULL, 1, NULL, NULL, NULL));
    RETURNS(WAL_ERR_INVALID_ARGUMENT, wal_verify(dir, 1, NULL, NULL, NULL));
    RETURNS(WAL_ERR_INVALID_ARGUMENT, wal_repair(dir, NULL, NULL));
    RETURNS(WAL_ERR_INVALID_ARGUMENT, wal_last_error_details(NULL, sizeof(wal_error_t)));
    wal_record_t record;
    OK(wal_iter_next(iter, &record));
    CHECK(record.len == 4 && memcmp(record.data, "kept", 4) == 0);
}

static void use_after_close(const char *dir)
{
    wal_t *log, *other;
    wal_iter_t *iter;
    wal_record_t record;
    uint64_t lsn;
    OK(wal_open(dir, NULL, &log));
    OK(wal_append(log, "read after the close", 20, NULL));
    OK(wal_iter_from_head(log, &iter));
    OK(wal_close(log));
    RETURNS(WAL_ERR_CLOSED, wal_close(log));
    RETURNS(WAL_ERR_CLOSED, wal_append(log, "x", 1, &lsn));
    RETURNS(WAL_ERR_CLOSED, wal_tail(log, &lsn));
    OK(wal_iter_next(iter, &record));
    CHECK(record.len == 20);
    /* The entry is used again; the old handle is not the new log. */
    for (int n = 0; n < 100; n++) {
        OK(wal_open(dir, NULL, &other));
        RETURNS(WAL_ERR_CLOSED, wal_append(log, "x", 1, &lsn));
        OK(wal_close(other));
    }
    RETURNS(WAL_END, wal_iter_next(iter, &record));
    wal_iter_close(iter);
}

static void *append_until_closed(void *log)
{
    int code;
    size_t appended = 0;
    while ((code = wal_append(log, "until it is closed", 18, NULL)) == WAL_OK)
        if (++appended % 64 == 0 && (code = wal_sync(log)) != WAL_OK)
            break;
    RETURNS(WAL_ERR_CLOSED, code);
    return NULL;
}

static void closing_while_others_append(const char *dir)
{
    for (int round = 0; round < 20; round++) {
        pthread_t threads[4];
        wal_t *log;
        OK(wal_open(dir, NULL, &log));
        for (int n = 0; n < 4; n++)
            CHECK(pthread_create(&threads[n], NULL, append_until_closed, log) == 0);
        usleep(1000u * (unsigned)(round % 5));
        OK(wal_close(log));
        for (int n = 0; n < 4; n++)
            CHECK(pthread_join(threads[n], NULL) == 0);
    }
    wal_report_t *report;
    OK(wal_verify(dir, 1, NULL, NULL, &report));
    CHECK(report->closed_cleanly == 1 && report->damage_count == 0);
    wal_report_free(report);
}

static void paths_of_any_bytes(const char *scratch)
{
    char *dir = in(scratch, "\xff\xfe not UTF-8 \x80");
    wal_t *log, *again = NULL;
    OK(wal_open(dir, NULL, &log));
    OK(wal_append_and_sync(log, "x", 1, NULL));
    RETURNS(WAL_ERR_LOCKED, wal_open(dir, NULL, &again));
    CHECK(access(dir, F_OK) == 0 && strstr(wal_last_error(), "not UTF-8") != NULL);
    OK(wal_close(log));
    free(dir);
}

/* A write beyond the limit of a file's size fails, the log is poisoned, and says so with the first cause. */
static void poisoned(const char *dir)
{
    wal_t *log;
    wal_error_t error;
    struct rlimit limit;
    OK(wal_open(dir, NULL, &log));
    OK(wal_append_and_sync(log, "kept", 4, NULL));
    CHECK(signal(SIGXFSZ, SIG_IGN) != SIG_ERR && getrlimit(RLIMIT_FSIZE, &limit) == 0);
    struct rlimit small = {4096, limit.rlim_max};
    CHECK(setrlimit(RLIMIT_FSIZE, &small) == 0);
    OK(wal_append(log, "lost", 4, NULL));
    RETURNS(WAL_ERR_POISONED, wal_sync(log));
    OK(wal_last_error_details(&error, sizeof error));
    CHECK(error.code == WAL_ERR_POISONED && error.cause == WAL_ERR_IO && error.os_error == EFBIG);
    RETURNS(WAL_ERR_POISONED, wal_append(log, "x", 1, NULL));
    RETURNS(WAL_ERR_POISONED, wal_flush(log));
    RETURNS(WAL_ERR_POISONED, wal_append_and_sync(log, "x", 1, NULL));
    RETURNS(WAL_ERR_POISONED, wal_close(log));
    CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    wal_record_t *record;
    OK(wal_open(dir, NULL, &log));
    OK(wal_read(log, 0, &record));
    CHECK(record->len == 4 && memcmp(record->data, "kept", 4) == 0);
    wal_record_free(record);
    OK(wal_close(log));
}

static void *fails(void *unused)
{
    (void)unused;
    CHECK(strcmp(wal_last_error(), "") == 0);
    RETURNS(WAL_ERR_INVALID_ARGUMENT, wal_sync(NULL));
    CHECK(strcmp(wal_last_error(), "invalid argument: the log is NULL") == 0);
    return NULL;
}

static void the_last_error_is_the_threads_own(void)
{
    pthread_t thread;
    RETURNS(WAL_ERR_INVALID_ARGUMENT, wal_iter_next(NULL, NULL));
    CHECK(pthread_create(&thread, NULL, fails, NULL) == 0 && pthread_join(thread, NULL) == 0);
    CHECK(strcmp(wal_last_error(), "invalid argument: the iterator is NULL") == 0);
}

/* In the child every call on what the parent opened is refused, also on what another thread is inside of. It can open logs
 * of its own if it was `alone`: otherwise a lock of the library may have been held by a thread that it does not have. */
static int child(const char *scratch, wal_t *log, wal_iter_t *iter, int alone)
{
    uint64_t lsn;
    int fd;
    wal_record_t record, *read;
    wal_iter_t *made;
    wal_stats_t stats;
    wal_report_t *damage;
    RETURNS(WAL_ERR_FORKED, wal_append(log, "x", 1, &lsn));
    RETURNS(WAL_ERR_FORKED, wal_try_append(log, "x", 1, &lsn));
    RETURNS(WAL_ERR_FORKED, wal_append_and_sync(log, "x", 1, &lsn));
    RETURNS(WAL_ERR_FORKED, wal_append_async(log, "x", 1, NULL, NULL, &lsn));
    RETURNS(WAL_ERR_FORKED, wal_sync_async(log, NULL, NULL));
    RETURNS(WAL_ERR_FORKED, wal_when_durable(log, 0, NULL, NULL));
    RETURNS(WAL_ERR_FORKED, wal_event_fd(log, &fd));
    RETURNS(WAL_ERR_FORKED, wal_event_clear(log));
    RETURNS(WAL_ERR_FORKED, wal_append_batch(log, NULL, 0, NULL));
    RETURNS(WAL_ERR_FORKED, wal_flush(log));
    RETURNS(WAL_ERR_FORKED, wal_sync(log));
    RETURNS(WAL_ERR_FORKED, wal_sync_to(log, 0));
    RETURNS(WAL_ERR_FORKED, wal_wait_durable(log, 0, -1));
    RETURNS(WAL_ERR_FORKED, wal_checkpoint(log, "x", 1, &lsn));
    RETURNS(WAL_ERR_FORKED, wal_last_checkpoint(log, &lsn));
    RETURNS(WAL_ERR_FORKED, wal_truncate_before(log, 0));
    RETURNS(WAL_ERR_FORKED, wal_durable_lsn(log, &lsn));
    RETURNS(WAL_ERR_FORKED, wal_head(log, &lsn));
    RETURNS(WAL_ERR_FORKED, wal_tail(log, &lsn));
    RETURNS(WAL_ERR_FORKED, wal_read(log, 0, &read));
    RETURNS(WAL_ERR_FORKED, wal_iter_from_head(log, &made));
    RETURNS(WAL_ERR_FORKED, wal_stats(log, &stats, sizeof stats));
    RETURNS(WAL_ERR_FORKED, wal_damage(log, &damage));
    RETURNS(WAL_ERR_FORKED, wal_iter_next(iter, &record));
    RETURNS(WAL_ERR_FORKED, wal_iter_follow(iter, -1, &record));
    RETURNS(WAL_ERR_FORKED, wal_iter_refresh(iter));
    wal_iter_close(iter);
    RETURNS(WAL_ERR_FORKED, wal_close(log));
    RETURNS(WAL_ERR_FORKED, wal_close(log));
    if (!alone)
        return 0;
    char *dir = in(scratch, "of the child");
    wal_t *own;
    OK(wal_open(dir, NULL, &own));
    OK(wal_append_and_sync(own, "x", 1, NULL));
    OK(wal_close(own));
    free(dir);
    return 0;
}

static void forks(const char *scratch, const char *dir)
{
    wal_t *log;
    wal_iter_t *iter;
    wal_record_t record;
    pthread_t threads[4];
    wal_options_t *options = wal_options_new();
    OK(wal_options_set_background(options, 0));
    OK(wal_open(dir, options, &log));
    wal_options_free(options);
    OK(wal_append(log, "of the parent", 13, NULL));
    OK(wal_iter_from_head(log, &iter));
    for (int round = 0; round < 10; round++) {
        for (int n = 0; round == 1 && n < 4; n++)
            CHECK(pthread_create(&threads[n], NULL, append_until_closed, log) == 0);
        pid_t pid = fork();
        CHECK(pid >= 0);
        if (pid == 0)
            _exit(child(scratch, log, iter, round == 0));
        int status = -1;
        CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
    OK(wal_iter_next(iter, &record));
    CHECK(record.len == 13);
    OK(wal_append_and_sync(log, "of the parent still", 19, NULL));
    OK(wal_close(log));
    for (int n = 0; n < 4; n++)
        CHECK(pthread_join(threads[n], NULL) == 0);
    wal_iter_close(iter);
    wal_report_t *report;
    OK(wal_verify(dir, 1, NULL, NULL, &report));
    CHECK(report->closed_cleanly == 1 && report->damage_count == 0);
    wal_report_free(report);
}

/* A process that ends without closing its log: what it appended is in the buffer, and the next one finds it there. */
static void a_process_that_just_ends(const char *dir)
{
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        wal_t *log;
        OK(wal_open(dir, NULL, &log));
        for (int n = 0; n < 100; n++)
            OK(wal_append(log, &n, sizeof n, NULL));
        _exit(0);
    }
    int status = -1, found = 0;
    CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    wal_t *log;
    wal_iter_t *iter;
    wal_record_t record;
    wal_stats_t stats;
    OK(wal_open(dir, NULL, &log));
    OK(wal_stats(log, &stats, sizeof stats));
    OK(wal_iter_from_head(log, &iter));
    for (; wal_iter_next(iter, &record) == WAL_OK; found++)
        CHECK(record.len == sizeof found && memcmp(record.data, &found, sizeof found) == 0);
    CHECK(found == 100 || !stats.shared_buffer);
    wal_iter_close(iter);
    OK(wal_close(log));
}

static int enough;

static void *scribble(void *bytes)
{
    volatile unsigned char *at = bytes;
    for (unsigned n = 0; !__atomic_load_n(&enough, __ATOMIC_RELAXED); n++)
        at[n % 256] = (unsigned char)(n >> 3);
    return NULL;
}

/* A program that changes the bytes during the call, which it must not, gets some mixture of them, and a sound log: the
 * checksum is taken over what was copied. */
static void bytes_that_change_during_the_call(const char *dir)
{
    static unsigned char bytes[2000];
    pthread_t thread;
    wal_t *log;
    wal_iter_t *iter;
    wal_record_t record;
    int records = 0;
    OK(wal_open(dir, NULL, &log));
    CHECK(pthread_create(&thread, NULL, scribble, bytes) == 0);
    for (size_t n = 0; n < 60000; n++)
        OK(wal_append(log, bytes, n % 5 == 0 ? sizeof bytes : 16 + n * 37 % 480, NULL));
    __atomic_store_n(&enough, 1, __ATOMIC_RELAXED);
    CHECK(pthread_join(thread, NULL) == 0);
    OK(wal_iter_from_head(log, &iter));
    for (;;) {
        int found = wal_iter_next(iter, &record);
        if (found == WAL_END)
            break;
        OK(found);
        records++;
    }
    CHECK(records == 60000);
    wal_iter_close(iter);
    OK(wal_close(log));
}

int main(int argc, char **argv)
{
    CHECK(argc == 2);
    char *dir = in(argv[1], "edge");
    wal_t *log;
    wal_iter_t *iter;
    OK(wal_open(dir, NULL, &log));
    OK(wal_append_and_sync(log, "kept", 4, NULL));
    OK(wal_iter_from_head(log, &iter));
    the_last_error_is_the_threads_own();
    handles_that_are_none(log, iter);
    arguments_out_of_their_domain(dir, log, iter);
    wal_iter_close(iter);
    OK(wal_close(log));
    free(dir);
    char *names[] = {in(argv[1], "after"), in(argv[1], "closing"), in(argv[1], "forked"), in(argv[1], "poisoned"),
                     in(argv[1], "changing"), in(argv[1], "ended")};
    use_after_close(names[0]);
    closing_while_others_append(names[1]);
    paths_of_any_bytes(argv[1]);
    forks(argv[1], names[2]);
    bytes_that_change_during_the_call(names[4]);
    poisoned(names[3]);
    a_process_that_just_ends(names[5]);
    for (int n = 0; n < 6; n++)
        free(names[n]);
    puts("edge: ok");
    return 0;
}
