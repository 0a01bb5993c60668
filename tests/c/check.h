/* What the C tests share: checks that name the line, and the last message of the library. */
#ifndef CHECK_H
#define CHECK_H

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wal.h>

#define CHECK(condition)                                                                                   \
    do {                                                                                                   \
        if (!(condition)) {                                                                                \
            fprintf(stderr, "%s:%d: not so: %s (last error: %s)\n", __FILE__, __LINE__, #condition,       \
                    wal_last_error());                                                                     \
            exit(1);                                                                                       \
        }                                                                                                  \
    } while (0)

/* The call returns this code. */
#define RETURNS(code, call)                                                                                \
    do {                                                                                                   \
        int found_ = (call);                                                                               \
        if (found_ != (code)) {                                                                            \
            fprintf(stderr, "%s:%d: %s returned %d (%s), not %s: %s\n", __FILE__, __LINE__, #call, found_, \
                    wal_strerror(found_), #code, wal_last_error());                                        \
            exit(1);                                                                                       \
        }                                                                                                  \
    } while (0)

#define OK(call) RETURNS(WAL_OK, call)

/* `scratch/name`, in memory that is never given back. */
static inline char *in(const char *scratch, const char *name)
{
    size_t len = strlen(scratch) + strlen(name) + 2;
    char *path = malloc(len);
    if (path == NULL)
        exit(2);
    snprintf(path, len, "%s/%s", scratch, name);
    return path;
}

#endif
