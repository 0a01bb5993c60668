/* A program that loads the library while it runs: the symbols are there, and unloading it does no harm, though it has
 * threads that run, callbacks that are outstanding, and threads of the program that used it and end later. */
#define _POSIX_C_SOURCE 200809L
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wal.h>

static int (*do_open)(const char *, const wal_options_t *, wal_t **);
static int (*do_append)(wal_t *, const void *, size_t, wal_done_fn, void *, uint64_t *);
static int (*do_close)(wal_t *);
static pthread_barrier_t barrier;

static void check(int so, const char *what)
{
    if (!so) {
        fprintf(stderr, "loaded: %s\n", what);
        exit(1);
    }
}

static void *find(void *library, const char *name)
{
    void *symbol = dlsym(library, name);
    check(symbol != NULL, name);
    return symbol;
}

static void *use_and_end_later(void *log)
{
    check(do_append(log, "x", 1, NULL, NULL, NULL) == WAL_OK, "append in a thread");
    pthread_barrier_wait(&barrier); /* The library is unloaded now. */
    pthread_barrier_wait(&barrier);
    return NULL; /* What the library left in this thread ends here. */
}

int main(int argc, char **argv)
{
    check(argc == 3, "usage: loaded LIBRARY DIRECTORY");
    for (int round = 0; round < 3; round++) {
        void *library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
        check(library != NULL, dlerror());
        /* ISO C has no cast from an object pointer to a function pointer; POSIX says that this works. */
        *(void **)&do_open = find(library, "wal_open");
        *(void **)&do_append = find(library, "wal_append_async");
        *(void **)&do_close = find(library, "wal_close");
        wal_t *left_open, *closed;
        char other[4096];
        snprintf(other, sizeof other, "%s-%d", argv[2], round);
        check(do_open(argv[2], NULL, &closed) == WAL_OK, "open");
        check(do_open(other, NULL, &left_open) == WAL_OK, "open another");
        check(do_append(left_open, "x", 1, NULL, NULL, NULL) == WAL_OK, "append");
        pthread_t thread;
        check(pthread_barrier_init(&barrier, NULL, 2) == 0, "a barrier");
        check(pthread_create(&thread, NULL, use_and_end_later, closed) == 0, "a thread");
        pthread_barrier_wait(&barrier);
        check(do_close(closed) == WAL_OK, "close");
        check(dlclose(library) == 0, "dlclose");
        pthread_barrier_wait(&barrier);
        check(pthread_join(thread, NULL) == 0, "join");
    }
    puts("loaded: ok");
    return 0;
}
