/* A writing process is killed with SIGKILL at any instant, many times over the same log. Each time the log is recovered
 * and judged: every record that was acknowledged is there, byte for byte at its LSN; none stands behind a missing one of
 * its writer; none was never appended; recovering twice gives the same; and it can be appended to afterwards.
 *
 * The child tells of each acknowledgement by one write to a pipe, which the kernel keeps whole whatever kills it. */
#define _POSIX_C_SOURCE 200809L
#include "check.h"

#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

enum { WRITERS = 6, LONGEST = 3000, MOST = 1 << 20 };

/* What the child says: the record (writer, number) was appended at `lsn`; and whether it survives the process for
 * certain. */
struct said {
    uint64_t lsn;
    uint32_t writer, number, len, certain;
};

struct writer {
    wal_t *log;
    int pipe;
    uint32_t name, next, seed;
};

static uint32_t next_random(uint32_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 17;
    *seed ^= *seed << 5;
    return *seed;
}

/* The payload of a record, by its writer and number alone; its length. */
static uint32_t fill(unsigned char *payload, uint32_t writer, uint32_t number)
{
    uint32_t seed = (writer + 1) * 2654435761u ^ (number + 1) * 40503u;
    uint32_t len = 8 + next_random(&seed) % (number % 8 == 0 ? LONGEST - 8 : 200);
    memcpy(payload, &writer, 4);
    memcpy(payload + 4, &number, 4);
    for (uint32_t at = 8; at < len; at++)
        payload[at] = (unsigned char)(at * 7 + seed);
    return len;
}

static void say(const struct writer *writer, uint64_t lsn, uint32_t number, uint32_t len, uint32_t certain)
{
    struct said said = {lsn, writer->name, number, len, certain};
    if (write(writer->pipe, &said, sizeof said) != (ssize_t)sizeof said)
        exit(3); /* The parent is gone. */
}

static void *write_records(void *context)
{
    struct writer *writer = context;
    unsigned char payloads[3][LONGEST];
    for (;;) {
        uint64_t lsns[3];
        wal_slice_t slices[3];
        uint32_t first = writer->next, count = 1, choice = next_random(&writer->seed) % 8;
        uint32_t len = fill(payloads[0], writer->name, first);
        if (choice < 2) {
            OK(wal_append_and_sync(writer->log, payloads[0], len, &lsns[0]));
        } else if (choice == 2) {
            count = 3;
            for (uint32_t n = 0; n < count; n++) {
                slices[n].data = payloads[n];
                slices[n].len = fill(payloads[n], writer->name, first + n);
            }
            OK(wal_append_batch(writer->log, slices, count, lsns));
        } else {
            OK(wal_append(writer->log, payloads[0], len, &lsns[0]));
        }
        writer->next += count;
        if (choice == 3)
            OK(wal_flush(writer->log));
        for (uint32_t n = 0; n < count; n++) {
            len = count == 1 ? len : (uint32_t)slices[n].len;
            say(writer, lsns[n], first + n, len, choice < 2 || choice == 3);
        }
    }
}

/* The child: opens the log, which the parent has never opened in this process, and writes until it is killed. */
static void child(const char *dir, int pipe, uint32_t seed, const uint32_t *next)
{
    static struct writer writers[WRITERS];
    pthread_t thread;
    wal_t *log;
    wal_options_t *options = wal_options_new();
    OK(wal_options_set_segment_size(options, 1 << 16));
    OK(wal_options_set_buffer_size(options, 1 << 14));
    OK(wal_open(dir, options, &log));
    for (uint32_t n = 0; n < WRITERS; n++) {
        struct writer writer = {log, pipe, n, next[n], seed * (n + 1) | 1};
        writers[n] = writer;
        CHECK(pthread_create(&thread, NULL, write_records, &writers[n]) == 0);
    }
    pthread_join(thread, NULL);
    _exit(3);
}

static struct said *heard;
static size_t heard_count;

/* What was read at `lsn`, if anything. */
static int by_lsn(const void *a, const void *b)
{
    const struct said *x = a, *y = b;
    return (x->lsn > y->lsn) - (x->lsn < y->lsn);
}

/* Reads the whole log, checks that nothing in it was never appended and no writer's record is missing in between, and
 * stores what is there. Returns how many records. */
static size_t read_log(wal_t *log, struct said *found, uint32_t *next)
{
    wal_iter_t *iter;
    wal_record_t record;
    unsigned char expected[LONGEST];
    size_t count = 0;
    int code;
    memset(next, 0, WRITERS * sizeof *next);
    OK(wal_iter_from_head(log, &iter));
    while ((code = wal_iter_next(iter, &record)) == WAL_OK) {
        uint32_t name[2];
        CHECK(record.len >= sizeof name && count < MOST);
        memcpy(name, record.data, sizeof name);
        CHECK(name[0] < WRITERS && name[1] == next[name[0]]);
        CHECK(fill(expected, name[0], name[1]) == record.len && memcmp(expected, record.data, record.len) == 0);
        next[name[0]]++;
        struct said said = {record.lsn, name[0], name[1], (uint32_t)record.len, 1};
        found[count++] = said;
    }
    RETURNS(WAL_END, code);
    wal_iter_close(iter);
    return count;
}

static void judge(const char *dir, struct said *found, uint32_t *next)
{
    wal_t *log;
    uint64_t durable, tail;
    OK(wal_open(dir, NULL, &log));
    size_t count = read_log(log, found, next);
    OK(wal_durable_lsn(log, &durable));
    OK(wal_tail(log, &tail));
    CHECK(durable == tail);
    /* Who was told that its record is safe was told it of all that lies below. */
    uint64_t certain = 0;
    for (size_t n = 0; n < heard_count; n++)
        if (heard[n].certain && heard[n].lsn >= certain)
            certain = heard[n].lsn + 1;
    for (size_t n = 0; n < heard_count; n++) {
        const struct said *at = bsearch(&heard[n], found, count, sizeof *found, by_lsn);
        if (at != NULL)
            CHECK(at->writer == heard[n].writer && at->number == heard[n].number && at->len == heard[n].len);
        else if (heard[n].lsn < certain)
            CHECK(at != NULL); /* An acknowledged record is missing. */
    }
    /* What is there now was made durable by the recovery; what is not there is gone for good. */
    memcpy(heard, found, count * sizeof *found);
    heard_count = count;
    OK(wal_close(log));
    OK(wal_open(dir, NULL, &log));
    CHECK(read_log(log, found, next) == count && memcmp(heard, found, count * sizeof *found) == 0);
    OK(wal_close(log));
}

int main(int argc, char **argv)
{
    CHECK(argc == 3);
    uint32_t seed = (uint32_t)getpid() * 2654435761u | 1, next[WRITERS] = {0};
    const char *wanted = getenv("LIBWAL_SEED");
    if (wanted != NULL)
        seed = (uint32_t)strtoul(wanted, NULL, 10);
    printf("crash: replay with LIBWAL_SEED=%u\n", seed);
    fflush(stdout);
    int rounds = atoi(argv[2]);
    size_t told = 0;
    char *dir = in(argv[1], "crash");
    heard = calloc(MOST, sizeof *heard);
    struct said *found = calloc(MOST, sizeof *found);
    CHECK(heard != NULL && found != NULL);
    for (int round = 0; round < rounds; round++) {
        int ends[2];
        CHECK(pipe(ends) == 0);
        pid_t pid = fork();
        CHECK(pid >= 0);
        if (pid == 0) {
            close(ends[0]);
            child(dir, ends[1], next_random(&seed), next);
        }
        close(ends[1]);
        next_random(&seed);
        size_t patience = 1 + next_random(&seed) % (round % 4 == 0 ? 3 : 2000), before = heard_count;
        /* After the kill the pipe still holds what was said before. */
        while (heard_count < MOST && read(ends[0], &heard[heard_count], sizeof *heard) == (ssize_t)sizeof *heard)
            if (++heard_count - before == patience)
                CHECK(kill(pid, SIGKILL) == 0);
        int status;
        CHECK(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        close(ends[0]);
        told += heard_count - before;
        judge(dir, found, next);
    }
    printf("crash: ok, killed %d times, %zu acknowledgements, %zu records in the log\n", rounds, told, heard_count);
    free(found);
    free(heard);
    free(dir);
    return 0;
}
