/*
 * libwal: a write-ahead log for storage engines. Made from the sources in ffi/ by `make header`; do not edit.
 *
 * A record is any bytes; its LSN is its position in one endless stream. Every call that returns `int` returns WAL_OK
 * (0), WAL_END (1) or WAL_TIMEOUT (2), or a negative error code; wal_last_error() has the message. Out-parameters come
 * last and are written only if the call returns WAL_OK.
 *
 * Logs, iterators and options are handles, not addresses: the library checks each before it uses it. NULL, a handle of
 * another kind and anything else that is none are WAL_ERR_INVALID_ARGUMENT; one that was closed is WAL_ERR_CLOSED.
 *
 * A log may be used by any number of threads at once. An iterator, and options, belong to one thread at a time. No call
 * may be made from a signal handler. A thread must not be cancelled inside a call, which would end the process: where
 * pthread_cancel() is used, pthread_setcancelstate() around each call. After fork() every call of the child on a log that
 * its parent opened returns WAL_ERR_FORKED, and so does every read through an iterator.
 *
 * Where a call can fail in more ways than its comment says: WAL_ERR_INVALID_ARGUMENT for bad handles and NULL where a
 * value is needed, WAL_ERR_CLOSED, WAL_ERR_FORKED, and WAL_ERR_PANIC for a bug of the library. "Writing calls" are also
 * WAL_ERR_POISONED after a write or a sync failed, and WAL_ERR_INVALID_ARGUMENT on a log that is open for reading only.
 *
 * docs/c-api.md: linking, threads, errors, fork, signals, and which changes of the ABI a version may bring.
 */


#ifndef WAL_H
#define WAL_H

#include <stddef.h>
#include <stdint.h>

/**
 * The ABI that this header describes. It changes when a program has to be compiled anew.
 */
#define WAL_ABI_VERSION 1

/**
 * Success.
 */
#define WAL_OK 0

/**
 * There is no further record, or none of what was asked for. Not an error.
 */
#define WAL_END 1

/**
 * The time passed first. Not an error.
 */
#define WAL_TIMEOUT 2

/**
 * The operating system refused an operation on a file; wal_last_error_details() has its error number.
 */
#define WAL_ERR_IO -1

/**
 * There is no disk space for the record. Nothing was appended; appends work again once space is freed.
 */
#define WAL_ERR_NO_SPACE -2

/**
 * Acknowledged data, or a structure of the log, is damaged or missing.
 */
#define WAL_ERR_CORRUPT -3

/**
 * The log is open for writing elsewhere, in this process or in another one.
 */
#define WAL_ERR_LOCKED -4

/**
 * An earlier write or sync failed; the log accepts nothing until it is opened again.
 */
#define WAL_ERR_POISONED -5

/**
 * The log, the iterator or the options were closed.
 */
#define WAL_ERR_CLOSED -6

/**
 * The record or batch is longer than the limit.
 */
#define WAL_ERR_TOO_LARGE -7

/**
 * wal_try_append() only: the append would have had to wait.
 */
#define WAL_ERR_FULL -8

/**
 * An argument is outside its domain, a handle is none, or a position is not the beginning of a record.
 */
#define WAL_ERR_INVALID_ARGUMENT -9

/**
 * The position was truncated away.
 */
#define WAL_ERR_TRUNCATED -10

/**
 * The handle was opened before a fork; only the parent may use it.
 */
#define WAL_ERR_FORKED -11

/**
 * The log was written by a newer version of this library.
 */
#define WAL_ERR_UNSUPPORTED_VERSION -12

/**
 * A bug of the library: it panicked. The message is on standard error too. Close the log and report it.
 */
#define WAL_ERR_PANIC -13

/**
 * What no position is: wal_error_t and others have it where there is none.
 */
#define WAL_NO_LSN UINT64_MAX

/**
 * wal_options_set_recovery(): a torn tail is cut; damage of acknowledged data is WAL_ERR_CORRUPT. The default.
 */
#define WAL_RECOVERY_STRICT 0

/**
 * wal_options_set_recovery(): opens for reading only and reads around damage, which wal_damage() lists.
 */
#define WAL_RECOVERY_SALVAGE 1

/**
 * A record that was appended on its own.
 */
#define WAL_KIND_DATA 1

/**
 * A checkpoint.
 */
#define WAL_KIND_CHECKPOINT 2

/**
 * A member of an atomic batch; more members follow directly.
 */
#define WAL_KIND_BATCH 3

/**
 * The last member of an atomic batch.
 */
#define WAL_KIND_BATCH_END 4

/**
 * How many buckets `sync_latency` has.
 */
#define WAL_LATENCY_BUCKETS 40

/**
 * The records of a log in order, up to where the log ended when it was made. One thread at a time; another's call at the
 * same time is WAL_ERR_INVALID_ARGUMENT. It keeps what it needs of its log: it stays usable when that is closed. It is
 * closed, once, by wal_iter_close().
 */
typedef struct wal_iter_t wal_iter_t;

/**
 * How a log is opened. Made by wal_options_new(), read by wal_open(), which keeps nothing of it, and freed by
 * wal_options_free(). It may be used for any number of logs. One thread at a time.
 */
typedef struct wal_options_t wal_options_t;

/**
 * A log that is open. Any number of threads may use it at once. It is closed, once, by wal_close().
 */
typedef struct wal_t wal_t;

/**
 * What the calling thread's last failure was, in numbers.
 */
typedef struct wal_error_t {
    /**
     * The error code; 0 if no call of this thread has failed yet.
     */
    int code;
    /**
     * For WAL_ERR_POISONED the code of the first failure; otherwise the same as `code`.
     */
    int cause;
    /**
     * The operating system's error number (errno) behind it, or 0.
     */
    int os_error;
    /**
     * Reserved; 0.
     */
    int reserved;
    /**
     * Where the damage is (WAL_ERR_CORRUPT) or where the log begins (WAL_ERR_TRUNCATED); otherwise WAL_NO_LSN.
     */
    uint64_t lsn;
} wal_error_t;

/**
 * A record that is to be appended: `len` bytes at `data`, which may be NULL if there are none.
 */
typedef struct wal_slice_t {
    /**
     * The bytes; only read, and only during the call.
     */
    const void *data;
    /**
     * How many.
     */
    size_t len;
} wal_slice_t;

/**
 * What is called when something became durable, or never will: WAL_OK and the LSN, or an error code and WAL_NO_LSN, with
 * the message in wal_last_error(). Called once for each request that succeeded, on a thread of the log's own, one after
 * the other; it delays the others while it runs. It may use the log, also append to it and close it; a call in it that
 * waits for a sync keeps the others waiting. It must return: no exception and no longjmp may leave it.
 */
typedef void (*wal_done_fn)(void *context, int code, uint64_t lsn);

/**
 * A record. Who owns the bytes is said where it comes from.
 */
typedef struct wal_record_t {
    /**
     * Where the record begins.
     */
    uint64_t lsn;
    /**
     * Its payload; never NULL.
     */
    const void *data;
    /**
     * The length of the payload.
     */
    size_t len;
    /**
     * One of WAL_KIND_DATA, WAL_KIND_CHECKPOINT, WAL_KIND_BATCH and WAL_KIND_BATCH_END.
     */
    uint32_t kind;
    /**
     * Reserved; 0.
     */
    uint32_t reserved;
} wal_record_t;

/**
 * A snapshot of what a log has done since it was opened, and of where it stands. Each number is exact; they are not all
 * taken at the same instant. Later versions add fields at the end.
 */
typedef struct wal_stats_t {
    /**
     * Everything below is on stable storage.
     */
    uint64_t durable;
    /**
     * Everything below is with the operating system.
     */
    uint64_t flushed;
    /**
     * Everything below is complete in the buffer, as far as a flush has looked.
     */
    uint64_t published;
    /**
     * The end of all claimed positions.
     */
    uint64_t reserved;
    /**
     * The first position that can be read.
     */
    uint64_t head;
    /**
     * The last durable checkpoint, or WAL_NO_LSN.
     */
    uint64_t checkpoint;
    /**
     * 1 if the log had been closed cleanly when it was opened, otherwise 0.
     */
    uint64_t closed_cleanly;
    /**
     * How many segments the log has, those prepared ahead included.
     */
    uint64_t segments;
    /**
     * Bytes of the stream in each segment.
     */
    uint64_t segment_size;
    /**
     * Bytes of the buffer.
     */
    uint64_t buffer_size;
    /**
     * Records flushed since the log was opened, the log's own markers included.
     */
    uint64_t records;
    /**
     * Bytes of the stream flushed since the log was opened.
     */
    uint64_t bytes;
    /**
     * Writes of a part of the buffer.
     */
    uint64_t flushes;
    /**
     * Writes of records larger than the buffer.
     */
    uint64_t direct_writes;
    /**
     * Group commits: syncs that made something durable.
     */
    uint64_t syncs;
    /**
     * Records that these syncs made durable.
     */
    uint64_t records_synced;
    /**
     * Times an append had to wait because the buffer was full.
     */
    uint64_t waits;
    /**
     * How long the syncs took: bucket n counts those below 2^n nanoseconds and not below half of it.
     */
    uint64_t sync_latency[WAL_LATENCY_BUCKETS];
    /**
     * 1 if the buffer outlives the process, otherwise 0. Of a log that is open read-only: 1 if there is such a buffer, which
     * a process writes through or has left behind.
     */
    uint64_t shared_buffer;
} wal_stats_t;

/**
 * A file of a log that is not what it should be.
 */
typedef struct wal_file_damage_t {
    /**
     * The file.
     */
    const char *path;
    /**
     * What is wrong with it.
     */
    const char *reason;
} wal_file_damage_t;

/**
 * A range of the stream that was once acknowledged and cannot be read.
 */
typedef struct wal_damage_t {
    /**
     * Where it begins.
     */
    uint64_t from;
    /**
     * Where reading goes on.
     */
    uint64_t to;
    /**
     * The file in which it begins.
     */
    const char *path;
    /**
     * What does not fit there.
     */
    const char *reason;
} wal_damage_t;

/**
 * What wal_verify(), wal_repair() or wal_damage() found. It belongs to the caller, who frees it, with all that it points to, by
 * wal_report_free(). Later versions add fields at the end.
 */
typedef struct wal_report_t {
    /**
     * The first position of the log.
     */
    uint64_t head;
    /**
     * The end of the log.
     */
    uint64_t tail;
    /**
     * How many segments it has, those prepared ahead included.
     */
    uint64_t segments;
    /**
     * How many valid records it holds, the log's own not counted.
     */
    uint64_t records;
    /**
     * How many bytes their payloads have.
     */
    uint64_t payload_bytes;
    /**
     * 1 if it was closed cleanly, otherwise 0.
     */
    uint64_t closed_cleanly;
    /**
     * The last valid checkpoint record, or WAL_NO_LSN.
     */
    uint64_t checkpoint;
    /**
     * The end of the log if bytes follow it that are no record and were never acknowledged; otherwise WAL_NO_LSN.
     */
    uint64_t torn_tail;
    /**
     * Files that are missing, of another log, of a wrong length, or with a damaged header.
     */
    const struct wal_file_damage_t *files;
    /**
     * How many.
     */
    size_t file_count;
    /**
     * Ranges of acknowledged data that cannot be read. A log is sound if there are none, and no files above.
     */
    const struct wal_damage_t *damage;
    /**
     * How many.
     */
    size_t damage_count;
} wal_report_t;

/**
 * Called now and then with how many bytes of the stream were checked, of how many; from any thread of the check, and from
 * several at once. It must return.
 */
typedef void (*wal_progress_fn)(void *context, uint64_t done, uint64_t total);

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * The version of the library that is loaded, as "0.1.0". The text is constant. Any thread; never fails.
 */
const char *wal_version(void);

/**
 * The ABI of the library that is loaded. A program that finds another number than its WAL_ABI_VERSION must not go on to
 * use the library. Any thread; never fails.
 */
uint32_t wal_abi_version(void);

/**
 * The message of the calling thread's last failure, in UTF-8 and never NULL; "" if there was none. It names the file and
 * the LSN where there are any, and is cut at 1023 bytes; it is wal_strerror()'s text if there was no memory for it. A call
 * that succeeds leaves it alone. The text belongs to the library and holds until the next failure on this thread, or its
 * end. Any thread; never fails.
 */
const char *wal_last_error(void);

/**
 * The same failure in numbers. `size` is sizeof(wal_error_t) as the caller knows it; that many bytes are written.
 * Any thread. WAL_ERR_INVALID_ARGUMENT if `out` is NULL or `size` is 0.
 */
int wal_last_error_details(struct wal_error_t *out,
                           size_t size);

/**
 * What a code means, in a few words of English; "unknown code" for others. The text is constant. Any thread; never fails.
 */
const char *wal_strerror(int code);

/**
 * Options with the default values. Free them with wal_options_free(). Any thread. NULL only if there are a million open
 * ones.
 */
struct wal_options_t *wal_options_new(void);

/**
 * Frees options; NULL and options that were freed are left alone. Logs that were opened with them are not concerned.
 */
void wal_options_free(struct wal_options_t *options);

/**
 * Bytes of the stream in each segment file: a power of two from 4 KiB to 4 GiB. Default 64 MiB. It counts when a log is
 * created; a log that exists keeps the size it has. Here and below, a value outside its domain is refused by wal_open().
 */
int wal_options_set_segment_size(struct wal_options_t *options,
                                 uint64_t bytes);

/**
 * Bytes of memory between appends and the operating system: a power of two from 4 KiB to 1 GiB, lowered to the segment
 * size if above. Default 4 MiB.
 */
int wal_options_set_buffer_size(struct wal_options_t *options,
                                uint64_t bytes);

/**
 * Not 0: the buffer is memory that the death of the process leaves behind, where the system has such (Linux), so that what
 * was appended is found there by the next open; see wal_append(). It takes up its whole size from the beginning, on /dev/shm, in
 * a file of this user's alone, which goes when the log is closed. 0: memory of the process. Default 1. wal_stats() tells
 * which it is.
 */
int wal_options_set_shared_buffer(struct wal_options_t *options,
                                  int shared);

/**
 * The longest record that is accepted, in bytes, up to 256 MiB - 1. Default 64 MiB. It bounds what is appended, not what
 * is read.
 */
int wal_options_set_max_record_size(struct wal_options_t *options,
                                    uint64_t bytes);

/**
 * How many segments that truncation freed are kept for reuse. Default 2.
 */
int wal_options_set_recycle(struct wal_options_t *options, size_t segments);

/**
 * Nothing is dropped but by wal_truncate_before(). The default.
 */
int wal_options_set_retention_none(struct wal_options_t *options);

/**
 * Drops the oldest segments while the others hold at least this many bytes.
 */
int wal_options_set_retention_bytes(struct wal_options_t *options, uint64_t bytes);

/**
 * Keeps this many segments, at least one, and drops older ones.
 */
int wal_options_set_retention_segments(struct wal_options_t *options, uint64_t segments);

/**
 * Whether (not 0) retention keeps everything from the last checkpoint on, and everything if there is none. Default yes.
 */
int wal_options_set_retain_checkpoint(struct wal_options_t *options,
                                      int retain);

/**
 * Syncs in the background whenever this many milliseconds have passed and something is not durable; 0 never does, and is
 * the default. Needs the background thread.
 */
int wal_options_set_sync_interval(struct wal_options_t *options,
                                  uint64_t milliseconds);

/**
 * Whether (not 0) one background thread prepares segments, flushes, and serves the sync interval. Default yes.
 */
int wal_options_set_background(struct wal_options_t *options,
                               int background);

/**
 * Whether (not 0) the log is opened for reading only: no lock, no change, also while another process writes it. Default
 * no.
 */
int wal_options_set_read_only(struct wal_options_t *options,
                              int read_only);

/**
 * Whether (not 0) a log is created where there is none; otherwise that is WAL_ERR_IO with ENOENT. Default yes.
 */
int wal_options_set_create(struct wal_options_t *options,
                           int create);

/**
 * WAL_RECOVERY_STRICT or WAL_RECOVERY_SALVAGE; others are WAL_ERR_INVALID_ARGUMENT.
 */
int wal_options_set_recovery(struct wal_options_t *options, int recovery);

/**
 * The LSN at which a new log begins: a multiple of 8 below 2^57. Default 0.
 */
int wal_options_set_first_lsn(struct wal_options_t *options, uint64_t lsn);

/**
 * Opens the log in the directory `dir` (a path as the operating system takes it; UTF-8 on Windows), or creates it, with
 * `options`, or the defaults if NULL. Recovers it first: a torn tail is cut, and what is found is durable on return. The
 * handle belongs to the caller, who closes it with wal_close(). Any thread.
 * WAL_ERR_LOCKED: open for writing elsewhere. WAL_ERR_CORRUPT: acknowledged data is damaged or missing.
 * WAL_ERR_UNSUPPORTED_VERSION. WAL_ERR_INVALID_ARGUMENT: an option is outside its domain, or the directory holds something
 * else than a log. WAL_ERR_NO_SPACE: there is no space to create it. WAL_ERR_IO.
 */
int wal_open(const char *dir,
             const struct wal_options_t *options,
             struct wal_t **out);

/**
 * Closes a log: waits for appends that are under way, makes everything durable, records that it was closed cleanly, makes
 * the callbacks that are outstanding, and frees it. Other threads may be inside calls on it: theirs succeed or return
 * WAL_ERR_CLOSED, and so does every later call. Iterators stay usable. A process may also end without it: the next open
 * then recovers, as after a crash. Freed and unlocked whatever it returns, except in a forked child, where nothing happens.
 * Any thread, a callback's included; if a callback closes the log, the callbacks that are outstanding are made after that
 * callback returns.
 * The first failure of the log's life if it is poisoned (WAL_ERR_POISONED), or that of closing: WAL_ERR_IO.
 */
int wal_close(struct wal_t *log);

/**
 * Appends a record of `len` bytes, 0 to max_record_size, and stores its LSN unless `lsn` is NULL. Waits only if the buffer
 * is full. The bytes are not used after the call, and must not change during it: a record longer than the buffer is written
 * from where it lies, and would damage the log. Any thread; if the call returned in one thread before it was made in another, the first
 * one's LSN is lower. Ordered on return, and its disk space exists. Survives the process once the appends before it have
 * returned too, if the buffer does (see wal_options_set_shared_buffer()), and otherwise after wal_flush(); survives power
 * loss after wal_sync().
 * A writing call; WAL_ERR_TOO_LARGE, WAL_ERR_NO_SPACE, and WAL_ERR_IO (the next segment could not be made): nothing was
 * appended, and nothing else is affected.
 */
int wal_append(struct wal_t *log,
               const void *data,
               size_t len,
               uint64_t *lsn);

/**
 * Appends a record as wal_append() does, if that needs no waiting.
 * A writing call; WAL_ERR_FULL: it would have to wait, also on a full disk. WAL_ERR_TOO_LARGE: also if the record is longer
 * than the buffer.
 */
int wal_try_append(struct wal_t *log,
                   const void *data,
                   size_t len,
                   uint64_t *lsn);

/**
 * Appends a record and makes it durable, with everything appended before. Threads that call it at once share a sync.
 * A writing call; WAL_ERR_TOO_LARGE, WAL_ERR_NO_SPACE, WAL_ERR_IO: nothing was appended. WAL_ERR_POISONED: it may or may
 * not be in the log when that is opened again.
 */
int wal_append_and_sync(struct wal_t *log,
                        const void *data,
                        size_t len,
                        uint64_t *lsn);

/**
 * Appends `count` records, one directly after the other, and stores their LSNs in `lsns` (a place for `count` of them, or
 * NULL). Across a crash either all of them are in the log or none. A batch is less than 4 GiB long; one of none succeeds.
 * Any thread; as durable on return, and with the errors, as wal_append().
 */
int wal_append_batch(struct wal_t *log,
                     const struct wal_slice_t *records,
                     size_t count,
                     uint64_t *lsns);

/**
 * Hands every record that was appended before to the operating system: on return they survive this process, not power
 * loss. Any thread.
 * A writing call.
 */
int wal_flush(struct wal_t *log);

/**
 * Makes every record that was appended before durable: on return they survive power loss. One sync serves all threads
 * that wait for one. A failed sync is never tried again. Any thread.
 * A writing call.
 */
int wal_sync(struct wal_t *log);

/**
 * Makes every record up to and including the one that begins at `lsn` durable. Any thread.
 * A writing call; WAL_ERR_INVALID_ARGUMENT: no record begins there. WAL_ERR_TRUNCATED: it lies below the head.
 * WAL_ERR_CORRUPT, WAL_ERR_IO.
 */
int wal_sync_to(struct wal_t *log,
                uint64_t lsn);

/**
 * Waits until the record that begins at `lsn` is durable by the syncs of others (threads, callbacks, the sync interval),
 * up to `timeout_ms` milliseconds; negative: however long it takes. Does not sync by itself. WAL_OK: it is durable.
 * WAL_TIMEOUT: not yet. Any thread.
 * A writing call; WAL_ERR_INVALID_ARGUMENT beyond the end.
 */
int wal_wait_durable(struct wal_t *log,
                     uint64_t lsn,
                     int64_t timeout_ms);

/**
 * Appends a checkpoint record that holds `len` bytes of state, and makes it the record that wal_iter_from_checkpoint()
 * begins with. Everything that the state does not contain must be appended after this call. Stores its LSN (unless `lsn`
 * is NULL), up to which the log may be truncated. Durable on return, with everything appended before. Any thread.
 * As wal_append_and_sync().
 */
int wal_checkpoint(struct wal_t *log,
                   const void *state,
                   size_t len,
                   uint64_t *lsn);

/**
 * Stores the LSN of the last durable checkpoint. WAL_END: there is none, or it was truncated away (by truncating beyond
 * it). Any thread.
 */
int wal_last_checkpoint(struct wal_t *log,
                        uint64_t *lsn);

/**
 * Drops the records below `lsn`, where a record must begin or the log end, as far as they fill whole segments and are
 * durable; the segment with the last durable byte is kept. A position at or below the head changes nothing. wal_head() has the new head. Any thread.
 * A writing call; WAL_ERR_INVALID_ARGUMENT inside a record or beyond the end. WAL_ERR_CORRUPT, WAL_ERR_IO.
 */
int wal_truncate_before(struct wal_t *log,
                        uint64_t lsn);

/**
 * Stores the position below which everything is on stable storage; for a log that is open for reading only, is known to
 * be. Any thread.
 */
int wal_durable_lsn(struct wal_t *log,
                    uint64_t *lsn);

/**
 * Stores the position of the first record that can be read; the end, if there is none. Any thread. WAL_ERR_IO.
 */
int wal_head(struct wal_t *log,
             uint64_t *lsn);

/**
 * Stores the end of the log: the next record will begin there or later. Any thread. WAL_ERR_IO.
 */
int wal_tail(struct wal_t *log, uint64_t *lsn);

/**
 * Appends a record as wal_append() does, stores its LSN, and returns at once. Once the record is durable, or failed to
 * become so, `done` (which may be NULL) is called with `context`, and the descriptor of wal_event_fd() becomes readable.
 * If this returns an error, it is not called; otherwise exactly once, perhaps before this returns, and at the latest
 * before wal_close() does. But if a callback closes the log, the callbacks that are outstanding are made after that
 * callback returns. Any number of records may be outstanding; they share syncs. Any thread.
 * As wal_append(); WAL_ERR_IO if the log's commit thread cannot be started.
 */
int wal_append_async(struct wal_t *log,
                     const void *data,
                     size_t len,
                     wal_done_fn done_fn,
                     void *context,
                     uint64_t *lsn);

/**
 * Makes every record that was appended before durable, without waiting for it: `done` (which may be NULL) is called as by
 * wal_append_async(), with the position below which everything is durable then. Any thread.
 * A writing call, but that the log is poisoned is told to `done`. WAL_ERR_IO if the commit thread cannot be started.
 */
int wal_sync_async(struct wal_t *log,
                   wal_done_fn done_fn,
                   void *context);

/**
 * Makes the record that begins at `lsn` durable, without waiting for it: `done` (which may be NULL) is called as by
 * wal_append_async(). Whether a record begins there is not looked at. Any thread.
 * As wal_sync_async(); WAL_ERR_INVALID_ARGUMENT beyond the end.
 */
int wal_when_durable(struct wal_t *log,
                     uint64_t lsn,
                     wal_done_fn done_fn,
                     void *context);

/**
 * Stores a descriptor for poll(), epoll and their like. It becomes readable when a request of wal_append_async(),
 * wal_sync_async() or wal_when_durable() is done, with success or not, and stays so until wal_event_clear(). What was done
 * before the first call of this is not told. The same one at each call. It belongs to the log, which closes it in wal_close(): take it out of the loop before. Do not read it.
 * Any thread. WAL_ERR_IO if there is no descriptor left, and on systems other than Unix.
 *
 * In the loop: wal_event_clear() first, then wal_durable_lsn(), and answer all that lies below. If what was asked for is
 * not below, wal_wait_durable() with a timeout of 0 says whether the log is poisoned.
 */
int wal_event_fd(struct wal_t *log,
                 int *fd);

/**
 * Makes the descriptor of wal_event_fd() unreadable until the next request is done. Any thread; never waits.
 */
int wal_event_clear(struct wal_t *log);

/**
 * Reads the record that begins at `lsn`. It belongs to the caller, who frees it with wal_record_free(); it does not depend
 * on the log any more. Any thread. What was appended before is flushed first, and is seen.
 * WAL_ERR_INVALID_ARGUMENT: no record begins there. WAL_ERR_TRUNCATED: it lies below the head. WAL_ERR_CORRUPT, WAL_ERR_IO.
 * WAL_ERR_POISONED: a write failed, and it was not flushed before.
 */
int wal_read(struct wal_t *log,
             uint64_t lsn,
             struct wal_record_t **out);

/**
 * Frees a record of wal_read(), once. NULL is left alone. Not for the records of an iterator. Any thread.
 */
void wal_record_free(struct wal_record_t *record);

/**
 * Makes an iterator over the records from the one that begins at `from` on; `from` may also be the end of the log. It
 * belongs to the caller, who closes it with wal_iter_close(). What was appended before is flushed first, and is seen.
 * Any thread.
 * WAL_ERR_INVALID_ARGUMENT inside a record or beyond the end. WAL_ERR_TRUNCATED below the head. WAL_ERR_CORRUPT, WAL_ERR_IO.
 * WAL_ERR_POISONED: a write failed, now or before what begins there was flushed.
 */
int wal_iter(struct wal_t *log,
             uint64_t from,
             struct wal_iter_t **out);

/**
 * The same over all records, from the head on.
 */
int wal_iter_from_head(struct wal_t *log, struct wal_iter_t **out);

/**
 * The same over the records from the last durable checkpoint on, beginning with the checkpoint record itself; all records
 * if there is none. Another checkpoint record may follow, of a crash before it was known as the last: its state takes the
 * place of what was read before.
 */
int wal_iter_from_checkpoint(struct wal_t *log,
                             struct wal_iter_t **out);

/**
 * Stores the next record, whose checksum was checked. Its bytes belong to the iterator and hold until the next call on it.
 * WAL_END: there is none. After an error there is none either.
 * WAL_ERR_CORRUPT. WAL_ERR_TRUNCATED: the position was truncated away meanwhile. WAL_ERR_IO.
 */
int wal_iter_next(struct wal_iter_t *iter,
                  struct wal_record_t *out);

/**
 * As wal_iter_next(), beyond the end that the log had: waits up to `timeout_ms` milliseconds (0: not at all; negative:
 * for ever) for a record to be appended. WAL_TIMEOUT: none came. WAL_END, at once: none can come any more, since the log was
 * this process's to write and is closed, or the iterator met an error before. That another process has closed its log is not
 * seen. It sees records once they are flushed, perhaps before they are durable: compare with wal_durable_lsn() where that
 * matters.
 */
int wal_iter_follow(struct wal_iter_t *iter,
                    int64_t timeout_ms,
                    struct wal_record_t *out);

/**
 * Moves the iterator's end to where the log ends now. WAL_OK: there may be more to read. WAL_END: there is not.
 * WAL_ERR_IO, WAL_ERR_POISONED.
 */
int wal_iter_refresh(struct wal_iter_t *iter);

/**
 * Stores where the iterator stands: at the next record, or at one of the log's own in front of it. Behind a checkpoint
 * record, that is where the log begins to grow beyond it.
 */
int wal_iter_position(struct wal_iter_t *iter,
                      uint64_t *lsn);

/**
 * Closes an iterator and frees it. NULL and iterators that were closed are left alone, and so is one that another thread
 * is using.
 */
void wal_iter_close(struct wal_iter_t *iter);

/**
 * Stores a snapshot. `size` is sizeof(wal_stats_t) as the caller knows it: that many bytes are written, those that this
 * library does not know as zeros. Any thread. WAL_ERR_IO.
 */
int wal_stats(struct wal_t *log,
              struct wal_stats_t *out,
              size_t size);

/**
 * Stores what a log that was opened with WAL_RECOVERY_SALVAGE passes over: a report whose `damage` lists it, and which says
 * where the log begins and ends; `records`, `payload_bytes`, `torn_tail` and `files` are not filled in. Other logs pass over
 * nothing. The report belongs to the caller (wal_report_free()). Any thread. WAL_ERR_IO.
 */
int wal_damage(struct wal_t *log,
               struct wal_report_t **out);

/**
 * Checks every byte of the log in the directory `dir` with `threads` threads (0 counts as 1) and changes nothing. A log
 * that is being written can be checked as far as it reaches. `progress` may be NULL. Damage is no error: it is in the
 * report, which belongs to the caller (wal_report_free()). Any thread.
 * WAL_ERR_INVALID_ARGUMENT: the directory holds no log. WAL_ERR_IO: also (ENOENT) if there is no such directory.
 * WAL_ERR_UNSUPPORTED_VERSION.
 */
int wal_verify(const char *dir,
               size_t threads,
               wal_progress_fn progress,
               void *context,
               struct wal_report_t **out);

/**
 * Mends the log in the directory `dir`, so that it can be opened strictly again: damaged ranges become padding, damaged
 * files are rebuilt from what can be read of them. The damaged bytes are first copied, durably, to the directory `keep`,
 * which must be empty or not exist. The report (which may be NULL; otherwise the caller's, wal_report_free()) says what
 * was found. A log that is sound is left alone. Durable on return. If it is interrupted, or fails, the log can be opened for
 * salvage only, until it was called again (with another `keep`) and has come to its end. Any thread.
 * As wal_verify(); WAL_ERR_LOCKED: it is open for writing. WAL_ERR_NO_SPACE.
 */
int wal_repair(const char *dir,
               const char *keep,
               struct wal_report_t **out);

/**
 * Frees a report and all that it points to, once. NULL is left alone. Any thread.
 */
void wal_report_free(struct wal_report_t *report);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* WAL_H */
