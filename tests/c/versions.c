/* A program that loads two versions of the library while it runs, as two plugins would, each with its own; they have logs,
 * threads and last messages of their own. And memory that runs out where a message is to be kept. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wal.h>

struct version {
    int (*open)(const char *, const wal_options_t *, wal_t **);
    int (*append)(wal_t *, const void *, size_t, uint64_t *);
    int (*sync)(wal_t *);
    int (*close)(wal_t *);
    const char *(*last_error)(void);
    int (*last_error_details)(wal_error_t *, size_t);
};

static struct version versions[2];
static const char *directory;

static void check(int so, const char *what)
{
    if (!so) {
        fprintf(stderr, "versions: %s\n", what);
        exit(1);
    }
}

static struct version load(const char *file)
{
    struct version version;
    void *library = dlopen(file, RTLD_NOW | RTLD_LOCAL);
    check(library != NULL, library == NULL ? dlerror() : file);
    /* ISO C has no cast from an object pointer to a function pointer; POSIX says that this works. */
    *(void **)&version.open = dlsym(library, "wal_open");
    *(void **)&version.append = dlsym(library, "wal_append");
    *(void **)&version.sync = dlsym(library, "wal_sync");
    *(void **)&version.close = dlsym(library, "wal_close");
    *(void **)&version.last_error = dlsym(library, "wal_last_error");
    *(void **)&version.last_error_details = dlsym(library, "wal_last_error_details");
    return version;
}

static void *use_both(void *context)
{
    (void)context;
    wal_t *logs[2];
    for (int n = 0; n < 2; n++) {
        char path[4096];
        snprintf(path, sizeof path, "%s-%d", directory, n);
        check(versions[n].open(path, NULL, &logs[n]) == WAL_OK, "open");
        check(versions[n].append(logs[n], "x", 1, NULL) == WAL_OK, "append");
        check(versions[n].sync(logs[n]) == WAL_OK, "sync");
    }
    check(versions[0].append(NULL, "x", 1, NULL) == WAL_ERR_INVALID_ARGUMENT, "no log");
    check(strcmp(versions[0].last_error(), "invalid argument: the log is NULL") == 0, "a message");
    check(strcmp(versions[1].last_error(), "") == 0, "another's failure");
    for (int n = 0; n < 2; n++)
        check(versions[n].close(logs[n]) == WAL_OK, "close");
    return NULL;
}

static void run(void *(*body)(void *))
{
    pthread_t thread;
    check(pthread_create(&thread, NULL, body, NULL) == 0, "a thread");
    check(pthread_join(thread, NULL) == 0, "join");
}

#ifdef __GLIBC__
/* What glibc's own are called, behind others in their place. */
extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
static __thread int out_of_memory;

void *malloc(size_t size)
{
    return out_of_memory && size >= 1024 ? NULL : __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
    return out_of_memory && (count >= 1024 || count * size >= 1024) ? NULL : __libc_calloc(count, size);
}

static void *fail_without_memory(void *context)
{
    (void)context;
    wal_error_t error;
    out_of_memory = 1;
    check(versions[0].append(NULL, "x", 1, NULL) == WAL_ERR_INVALID_ARGUMENT, "a failure without memory");
    check(strcmp(versions[0].last_error(), "invalid argument") == 0, "the text that is there without memory");
    check(versions[0].last_error_details(&error, sizeof error) == WAL_OK && error.code == WAL_ERR_INVALID_ARGUMENT, "details");
    out_of_memory = 0;
    check(versions[0].append(NULL, "x", 1, NULL) == WAL_ERR_INVALID_ARGUMENT, "a failure with memory");
    check(strcmp(versions[0].last_error(), "invalid argument: the log is NULL") == 0, "the message that memory allows");
    return NULL;
}
#endif

int main(int argc, char **argv)
{
    check(argc == 4, "usage: versions LIBRARY OTHER DIRECTORY");
    directory = argv[3];
    for (int n = 0; n < 2; n++)
        versions[n] = load(argv[n + 1]);
    check(versions[0].open != versions[1].open, "the same library twice");
    for (int n = 0; n < 3; n++)
        run(use_both);
#ifdef __GLIBC__
    run(fail_without_memory);
#endif
    puts("versions: ok");
    return 0;
}
