/*
 * A small key-value store: a hash table in memory, and a log that makes it durable.
 *
 *     cc -std=c99 kv.c $(pkg-config --cflags --libs wal) -o kv
 *     ./kv DIRECTORY [GROWTH [SEGMENT_SIZE [LONGEST_RECORD]]]
 *
 * It checkpoints when the log has grown by GROWTH bytes (4 MiB; 0: never), and by as much as the table. A checkpoint is
 * one record: LONGEST_RECORD (256 MiB - 1) bounds the table, and what would not fit is refused.
 *
 * A command is a line of standard input, its reply one of standard output, in the same order:
 *
 *     set KEY VALUE   ok                   A value is any text without a newline, also none; a key has no space.
 *     get KEY         value VALUE, none
 *     del KEY         ok, none
 *     count           value NUMBER
 *     checkpoint      ok                   Logs the whole table, and drops the log before it.
 *     sync            ok                   Is answered at once, not at the end of what was read with it.
 *     quit            ok
 *
 * or `error WHY`, and nothing was changed. All changes up to a reply are durable. Standard error has the statistics.
 */

#define _POSIX_C_SOURCE 200809L /* read(), write() */

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <wal.h>

enum {
    SET = 1,   /* SET, length of the key (1 byte), length of the value (4 bytes, little-endian), key, value */
    DEL = 2,   /* the same without a value */
    TABLE = 3, /* TABLE, number of entries (8 bytes, little-endian), and a SET for each; only in checkpoints */
    CHANGE_HEADER = 6, TABLE_HEADER = 9,
    LONGEST_KEY = 255, LONGEST_VALUE = 1 << 20,
    LONGEST_LINE = 4 + LONGEST_KEY + 1 + LONGEST_VALUE
};

/* An entry keeps the change that made it as it stands in the log: a checkpoint is the same bytes again. */
struct entry {
    struct entry *next;
    size_t len;
    unsigned char change[];
};

struct store {
    wal_t *log;
    struct entry **buckets; /* chains; their number is a power of two */
    size_t bucket_count, count;
    size_t bytes, max_bytes; /* of the changes in the table; as many as fit into a checkpoint */
    uint64_t growth, grown_from; /* how much the log may grow, and from which LSN on */
    uint64_t changes;
    int unsynced; /* whether something was appended since the last sync */
    size_t out_len;
    char out[LONGEST_LINE + 64]; /* replies that wait for the sync */
    char in[LONGEST_LINE + 1];
    unsigned char change[CHANGE_HEADER + LONGEST_KEY + LONGEST_VALUE];
};

/* The end, also when the log is poisoned: the next start recovers all that was acknowledged. */
static void die(const char *what, const char *why)
{
    fprintf(stderr, "kv: %s: %s\n", what, why);
    exit(1);
}

static void must(int code, const char *what)
{
    if (code != WAL_OK) die(what, code < 0 ? wal_last_error() : wal_strerror(code));
}

static void put_number(unsigned char *to, uint64_t number, int bytes)
{
    for (int i = 0; i < bytes; i++) to[i] = (unsigned char)(number >> (8 * i) & 0xff);
}

static uint64_t get_number(const unsigned char *from, int bytes)
{
    uint64_t number = 0;
    for (int i = bytes; i-- > 0;) number = number << 8 | from[i];
    return number;
}

/* The length of the change that the bytes begin with, or 0. No length is believed before it is checked. */
static size_t change_len(const unsigned char *from, size_t len)
{
    if (len < CHANGE_HEADER || from[1] == 0) return 0;
    size_t value_len = (size_t)get_number(from + 2, 4), whole = CHANGE_HEADER + from[1] + value_len;
    if (from[0] == SET ? value_len > LONGEST_VALUE : from[0] != DEL || value_len > 0) return 0;
    return whole <= len ? whole : 0;
}

/* The link that leads to the entry of the key, or the empty one at the end of its chain. */
static struct entry **find(struct store *store, const void *key, size_t len)
{
    uint64_t hash = 14695981039346656037u; /* FNV-1a */
    for (size_t i = 0; i < len; i++) hash = (hash ^ ((const unsigned char *)key)[i]) * 1099511628211u;
    struct entry **link = &store->buckets[(size_t)hash & (store->bucket_count - 1)];
    while (*link != NULL && ((*link)->change[1] != len || memcmp((*link)->change + CHANGE_HEADER, key, len) != 0)) {
        link = &(*link)->next;
    }
    return link;
}

static void take_out(struct store *store, struct entry **link)
{
    struct entry *entry = *link;
    *link = entry->next;
    store->count--;
    store->bytes -= entry->len;
    free(entry);
}

/* Adds an entry where find() found none. Cannot fail, because it comes after the append. */
static void put_in(struct store *store, struct entry *entry, struct entry **link)
{
    struct entry **old = store->buckets, **twice;
    size_t old_count = store->bucket_count;
    entry->next = *link;
    *link = entry;
    store->bytes += entry->len;
    /* Without memory for more buckets the chains grow longer, which is slow and not wrong. */
    if (++store->count <= old_count || (twice = calloc(old_count * 2, sizeof *twice)) == NULL) return;
    store->buckets = twice;
    store->bucket_count = old_count * 2;
    for (size_t i = 0; i < old_count; i++) {
        while ((entry = old[i]) != NULL) {
            old[i] = entry->next;
            entry->next = NULL;
            *find(store, entry->change + CHANGE_HEADER, entry->change[1]) = entry;
        }
    }
    free(old);
}

static void empty(struct store *store)
{
    for (size_t i = 0; i < store->bucket_count; i++) {
        while (store->buckets[i] != NULL) take_out(store, &store->buckets[i]);
    }
}

/* NULL, or why nothing was appended, which harms nothing else. Any other error is the end. */
static const char *refusal(int code, const char *what)
{
    if (code == WAL_ERR_NO_SPACE || code == WAL_ERR_TOO_LARGE) return wal_strerror(code);
    must(code, what);
    return NULL;
}

/* Makes a change in the table, and appends it to the log before if it is a new one. Returns NULL, or why it did not. */
static const char *make(struct store *store, const unsigned char *change, size_t len, int is_new)
{
    struct entry *entry = NULL, **link = find(store, change + CHANGE_HEADER, change[1]);
    size_t bytes = store->bytes - (*link != NULL ? (*link)->len : 0);
    int is_set = change[0] == SET;
    const char *error;
    uint64_t lsn;
    if (!is_set && *link == NULL) return "there is no such key to delete";
    /* With a table that fits into no checkpoint the log would grow for ever. */
    if (is_set && is_new && bytes + len > store->max_bytes) return "the table is full";
    /* What can fail comes before the append, because a change that is in the log must be made. */
    if (is_set && (entry = malloc(sizeof *entry + len)) == NULL) return "out of memory";
    if (is_new && (error = refusal(wal_append(store->log, change, len, &lsn), "append")) != NULL) {
        free(entry);
        return error;
    }
    store->unsynced |= is_new;
    store->changes += (uint64_t)is_new;
    if (*link != NULL) take_out(store, link);
    if (entry != NULL) {
        entry->len = len;
        memcpy(entry->change, change, len);
        put_in(store, entry, link);
    }
    return NULL;
}

/* Makes the changes of a record again. Returns what is wrong with it, or NULL. */
static const char *replay(struct store *store, const wal_record_t *record)
{
    const unsigned char *from = record->data, *end = from + record->len;
    int is_table = record->kind == WAL_KIND_CHECKPOINT;
    uint64_t count = 0;
    if (record->len < (is_table ? TABLE_HEADER : CHANGE_HEADER)) return "it is too short";
    if (is_table) {
        if (from[0] != TABLE) return "it is no table";
        count = get_number(from + 1, 8);
        from += TABLE_HEADER;
        empty(store); /* The table takes the place of all that came before it. */
    }
    while (from < end) {
        size_t len = change_len(from, (size_t)(end - from));
        const char *error = len > 0 ? make(store, from, len, 0) : "it is no change";
        if (error != NULL) return error;
        from += len;
    }
    return is_table && store->count != count ? "the number of entries is wrong" : NULL;
}

static void recover(struct store *store)
{
    wal_iter_t *iter;
    wal_record_t record;
    uint64_t records = 0;
    const char *error;
    int code;
    must(wal_iter_from_checkpoint(store->log, &iter), "recovery");
    must(wal_iter_position(iter, &store->grown_from), "recovery");
    for (; (code = wal_iter_next(iter, &record)) == WAL_OK; records++) {
        if ((error = replay(store, &record)) != NULL) {
            fprintf(stderr, "kv: recovery: the record at LSN %" PRIu64 ": %s\n", record.lsn, error);
            exit(1);
        }
        if (record.kind == WAL_KIND_CHECKPOINT) must(wal_iter_position(iter, &store->grown_from), "recovery");
    }
    if (code != WAL_END) must(code, "recovery");
    wal_iter_close(iter);
    fprintf(stderr, "kv: %zu entries from %" PRIu64 " records\n", store->count, records);
}

/* Group commit by a single thread: one sync for all that was appended, and only then the replies. */
static void commit(struct store *store)
{
    if (store->unsynced) must(wal_sync(store->log), "sync");
    store->unsynced = 0;
    for (size_t written = 0; written < store->out_len;) {
        ssize_t n = write(STDOUT_FILENO, store->out + written, store->out_len - written);
        if (n < 0 && errno != EINTR) die("standard output", strerror(errno));
        if (n > 0) written += (size_t)n;
    }
    store->out_len = 0;
}

static void reply(struct store *store, const char *word, const void *text, size_t len)
{
    size_t word_len = strlen(word);
    if (sizeof store->out - store->out_len < word_len + len + 1) commit(store);
    memcpy(store->out + store->out_len, word, word_len);
    if (len > 0) memcpy(store->out + store->out_len + word_len, text, len);
    store->out_len += word_len + len + 1;
    store->out[store->out_len - 1] = '\n';
}

static void reply_done(struct store *store, const char *error)
{
    if (error == NULL) reply(store, "ok", NULL, 0);
    else reply(store, "error ", error, strlen(error));
}

/*
 * Logs the whole table and drops the log before it. What the table does not contain must be appended after the call. So
 * it is: a change is in the table before the next command is looked at. With more threads, none may append between the
 * copy of the table and the call.
 */
static const char *checkpoint(struct store *store)
{
    size_t len = TABLE_HEADER + store->bytes, at = TABLE_HEADER;
    unsigned char *state = malloc(len);
    const char *error = "out of memory";
    uint64_t lsn;
    if (state != NULL) {
        state[0] = TABLE;
        put_number(state + 1, store->count, 8);
        for (size_t i = 0; i < store->bucket_count; i++) {
            for (const struct entry *entry = store->buckets[i]; entry != NULL; at += entry->len, entry = entry->next) {
                memcpy(state + at, entry->change, entry->len);
            }
        }
        error = refusal(wal_checkpoint(store->log, state, len, &lsn), "checkpoint");
        free(state);
    }
    /* Only now: the checkpoint is durable, so what lies before it is not needed any more. */
    if (error == NULL) must(wal_truncate_before(store->log, lsn), "truncate");
    /* Also after a refusal: it is tried again when the log has grown as much again. */
    must(wal_tail(store->log, &store->grown_from), "tail");
    return error;
}

/* Makes a change of the client's. Returns NULL, or why it did not. */
static const char *change(struct store *store, int op, const char *key, size_t key_len, const char *value, size_t len)
{
    unsigned char *to = store->change;
    if (len > LONGEST_VALUE) return "the value is too long";
    to[0] = (unsigned char)op;
    to[1] = (unsigned char)key_len;
    put_number(to + 2, len, 4);
    memcpy(to + CHANGE_HEADER, key, key_len);
    if (len > 0) memcpy(to + CHANGE_HEADER + key_len, value, len);
    return make(store, to, CHANGE_HEADER + key_len + len, 1);
}

static int is(const char *text, size_t len, const char *word)
{
    return len == strlen(word) && memcmp(text, word, len) == 0;
}

/* One line. Returns 0 if it was the last. */
static int execute(struct store *store, const char *line, size_t len)
{
    const char *key = memchr(line, ' ', len), *value, *end = line + len;
    size_t word_len = key != NULL ? (size_t)(key++ - line) : len, key_len;
    struct entry **link;
    char number[32];
    if (key != NULL && (is(line, word_len, "set") || is(line, word_len, "get") || is(line, word_len, "del"))) {
        value = memchr(key, ' ', (size_t)(end - key));
        key_len = (size_t)((value != NULL ? value++ : end) - key);
        link = find(store, key, key_len);
        if ((line[0] == 's') != (value != NULL)) reply_done(store, "too few words, or too many");
        else if (key_len == 0 || key_len > LONGEST_KEY) reply_done(store, "a key has 1 to 255 bytes");
        else if (line[0] == 's') reply_done(store, change(store, SET, key, key_len, value, (size_t)(end - value)));
        else if (*link == NULL) reply(store, "none", NULL, 0);
        else if (line[0] == 'd') reply_done(store, change(store, DEL, key, key_len, NULL, 0));
        else reply(store, "value ", (*link)->change + CHANGE_HEADER + key_len, (*link)->len - CHANGE_HEADER - key_len);
        return 1;
    }
    if (is(line, len, "count")) {
        reply(store, "value ", number, (size_t)snprintf(number, sizeof number, "%zu", store->count));
    } else if (is(line, len, "checkpoint")) {
        reply_done(store, checkpoint(store));
    } else {
        reply_done(store, is(line, len, "sync") || is(line, len, "quit") ? NULL : "unknown command");
    }
    if (is(line, len, "sync")) commit(store);
    return !is(line, len, "quit");
}

/* Executes all that can be read at once, commits it, and reads on. */
static void serve(struct store *store)
{
    size_t len = 0;
    int too_long = 0, go_on = 1;
    uint64_t tail;
    while (go_on) {
        const char *begin = store->in, *newline, *error;
        ssize_t n = read(STDIN_FILENO, store->in + len, sizeof store->in - len);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) die("standard input", strerror(errno));
        if (n == 0) break;
        len += (size_t)n;
        while (go_on && (newline = memchr(begin, '\n', len)) != NULL) {
            if (!too_long) go_on = execute(store, begin, (size_t)(newline - begin));
            too_long = 0;
            len -= (size_t)(newline + 1 - begin);
            begin = newline + 1;
        }
        memmove(store->in, begin, len);
        if (len == sizeof store->in) {
            if (!too_long) reply_done(store, "the line is too long");
            too_long = 1;
            len = 0;
        }
        commit(store);
        /* The larger the table, the rarer: so checkpoints write no more than the changes do. */
        must(wal_tail(store->log, &tail), "tail");
        tail -= store->grown_from;
        if (store->growth == 0 || tail < store->growth || tail < store->bytes) continue;
        if ((error = checkpoint(store)) != NULL) fprintf(stderr, "kv: no checkpoint: %s\n", error);
    }
    /* Nobody knows how a line that was cut off would have ended, so it is not executed. */
    if (go_on && len > 0 && !too_long) reply_done(store, "the input ends within a line");
    commit(store);
}

int main(int argc, char **argv)
{
    static struct store store;
    wal_options_t *options = wal_options_new();
    uint64_t limits[] = {4u << 20, 64u << 20, (256u << 20) - 1};
    wal_stats_t stats;
    char *end;
    if (wal_abi_version() != WAL_ABI_VERSION) die("libwal", "another version than this program was compiled for");
    if (argc < 2 || argc > 5) die("usage", "kv DIRECTORY [GROWTH [SEGMENT_SIZE [LONGEST_RECORD]]]");
    for (int i = 2; i < argc; i++) {
        limits[i - 2] = strtoull(argv[i], &end, 10);
        if (*end != '\0') die(argv[i], "not a number");
    }
    store.growth = limits[0];
    if (limits[2] < CHANGE_HEADER + LONGEST_KEY) die(argv[4], "the longest key does not fit");
    store.max_bytes = (size_t)limits[2] - TABLE_HEADER;
    store.bucket_count = 64;
    if ((store.buckets = calloc(store.bucket_count, sizeof *store.buckets)) == NULL) die("start", "out of memory");
    must(wal_options_set_segment_size(options, limits[1]), "segment size");
    must(wal_options_set_max_record_size(options, limits[2]), "longest record");
    must(wal_open(argv[1], options, &store.log), "open");
    wal_options_free(options);
    recover(&store);
    serve(&store);
    must(wal_stats(store.log, &stats, sizeof stats), "statistics");
    must(wal_close(store.log), "close");
    fprintf(stderr, "kv: %" PRIu64 " changes, %" PRIu64 " syncs\n", store.changes, stats.syncs);
    empty(&store);
    free(store.buckets);
    return 0;
}
