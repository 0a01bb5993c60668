/*
 * The smallest use of a log: append, sync, iterate, read one record, checkpoint.
 *
 *     cc -std=c99 hello.c $(pkg-config --cflags --libs wal) -o hello && ./hello some-directory
 */

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wal.h>

static void expect(int as_expected, const char *what)
{
    if (as_expected) return;
    fprintf(stderr, "hello: not as expected: %s\n", what);
    exit(1);
}

/* Every call returns a code; the message of an error is kept for its thread. */
static void must(int code, const char *what)
{
    if (code == WAL_OK) return;
    fprintf(stderr, "hello: %s: %s\n", what, code < 0 ? wal_last_error() : wal_strerror(code));
    exit(1);
}

int main(int argc, char **argv)
{
    static const char *const texts[] = {"one", "two", "three"};
    const wal_slice_t batch[] = {{texts[1], 3}, {texts[2], 5}};
    wal_t *log;
    wal_iter_t *iter;
    wal_record_t record, *found;
    uint64_t first, pair[2], durable, checkpoint;
    int code, count = 0;

    expect(argc == 2, "one argument, the directory of the log");
    expect(wal_abi_version() == WAL_ABI_VERSION, "the version of the library");
    must(wal_open(argv[1], NULL, &log), "open");

    must(wal_append(log, texts[0], 3, &first), "append");
    /* A batch is all or nothing across a crash. */
    must(wal_append_batch(log, batch, 2, pair), "append a batch");
    /* Up to here a crash may take all three. */
    must(wal_sync(log), "sync");
    must(wal_durable_lsn(log, &durable), "ask what is durable");
    expect(first < pair[0] && pair[0] < pair[1] && pair[1] < durable, "the LSNs");

    must(wal_iter(log, first, &iter), "iterate");
    while ((code = wal_iter_next(iter, &record)) == WAL_OK) {
        /* The bytes belong to the iterator, and hold until its next call. */
        printf("LSN %" PRIu64 ": %.*s\n", record.lsn, (int)record.len, (const char *)record.data);
        expect(count < 3 && record.len == strlen(texts[count]), "the length of a record");
        expect(memcmp(record.data, texts[count], record.len) == 0, "the bytes of a record");
        count++;
    }
    wal_iter_close(iter);
    expect(code == WAL_END && count == 3, "three records, and then the end");
    must(wal_read(log, pair[1], &found), "read");
    expect(found->len == 5 && memcmp(found->data, texts[2], 5) == 0, "the record that was read");
    wal_record_free(found);

    /* Recovery begins with the checkpoint, so what lies before it is not needed any more. */
    must(wal_checkpoint(log, "3 words", 7, &checkpoint), "checkpoint");
    must(wal_truncate_before(log, checkpoint), "truncate");
    must(wal_close(log), "close");
    return 0;
}
